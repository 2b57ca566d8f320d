//! A run's folder: the resolved configuration, the plugins used, metrics, samples, the policy, and the result.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::error::{Error, Result};
use crate::pipeline::Session;
use crate::pipeline::atomic::write_atomic;
use crate::pipeline::variant::VariantRun;
use crate::report::{ComparisonResult, markdown};

/// Writes what a finished variant consists of. Small files are copied out of the store, so that a run's folder can be
/// moved elsewhere; `run.json` says where each stage lies.
pub fn write(out: &Path, session: &Session<'_>, run: &VariantRun) -> Result<()> {
    make(out)?;
    write_atomic(&out.join("config.toml"), run.config.to_toml()?.as_bytes())?;
    let stages: Vec<_> = run
        .stages()
        .iter()
        .map(|artifact| {
            json!({
                "stage": artifact.record.stage,
                "hash": artifact.record.hash,
                "dir": artifact.dir,
                "wall_seconds": artifact.record.wall_seconds,
                "computed_in_this_run": artifact.fresh,
            })
        })
        .collect();
    let about = json!({
        "finegrain": env!("CARGO_PKG_VERSION"),
        "name": run.config.name,
        "seed": run.config.seed,
        "plugins": session.identities(&run.config)?,
        "stages": stages,
    });
    write_json(&out.join("run.json"), &about)?;
    let metrics = out.join("metrics");
    make(&metrics)?;
    for artifact in run.stages() {
        let from = artifact.file("metrics.jsonl");
        if from.is_file() {
            copy(
                &from,
                &metrics.join(format!(
                    "{}-{}.jsonl",
                    artifact.record.stage, artifact.record.hash
                )),
            )?;
        }
    }
    copy(
        &run.evaluation.file("outcomes.jsonl"),
        &out.join("samples.jsonl"),
    )?;
    let policy = out.join("policy");
    make(&policy)?;
    let from = run.ppo.file("policy");
    let entries = fs::read_dir(&from).map_err(|error| Error::io("read", &from, &error))?;
    for entry in entries {
        let entry = entry.map_err(|error| Error::io("read", &from, &error))?;
        copy(&entry.path(), &policy.join(entry.file_name()))?;
    }
    Ok(())
}

/// Writes the result of a run or a comparison: `result.json` and `report.md`.
pub fn write_result(out: &Path, result: &ComparisonResult) -> Result<()> {
    make(out)?;
    write_json(&out.join("result.json"), result)?;
    write_atomic(&out.join("report.md"), markdown::render(result).as_bytes())
}

fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_vec_pretty(value).map_err(|error| {
        Error::internal(format!("{} does not serialise: {error}", path.display()))
    })?;
    write_atomic(path, &text)
}

fn make(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).map_err(|error| Error::io("make", dir, &error))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let bytes = fs::read(from).map_err(|error| Error::io("read", from, &error))?;
    write_atomic(to, &bytes)
}
