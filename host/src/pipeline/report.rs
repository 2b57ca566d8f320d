//! `report.json` of a stage: what it measured about itself.

use std::fs;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::pipeline::atomic::write_atomic;

const REPORT: &str = "report.json";

/// Writes a stage's report into its folder.
pub fn write_report(dir: &Path, report: &impl Serialize) -> Result<()> {
    let text = serde_json::to_vec_pretty(report)
        .map_err(|error| Error::internal(format!("report does not serialise: {error}")))?;
    write_atomic(&dir.join(REPORT), &text)
}

/// Reads a stage's report.
pub fn read_report<T: DeserializeOwned>(dir: &Path) -> Result<T> {
    let path = dir.join(REPORT);
    let text = fs::read(&path).map_err(|error| Error::io("read", &path, &error))?;
    serde_json::from_slice(&text).map_err(|error| {
        Error::input(format!("{} is damaged: {error}", path.display()))
            .hint("delete the folder it lies in; its stage is computed again")
    })
}
