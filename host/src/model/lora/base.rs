//! The frozen weights under adapters: loaded once a process, however many models stand on them.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::files;
use crate::error::{Context, Error, Result};
use crate::model::Llama;
use crate::model::parameters::WeakSet;

/// Weights that some model of this process may still hold, by the path they came from.
static LOADED: Mutex<Vec<(PathBuf, WeakSet)>> = Mutex::new(Vec::new());

/// Whether a folder holds an adapter.
pub fn is_adapter(path: &Path) -> bool {
    path.join(files::CONFIG).is_file()
}

/// Where the frozen weights of the adapter in `dir` lie: what its configuration says, seen from `dir` where it is a
/// relative path that exists there.
pub fn base_of(dir: &Path) -> Result<PathBuf> {
    let named = files::read_base(dir)?;
    let beside = dir.join(&named);
    let path = if beside.exists() { beside } else { named };
    let found = std::fs::canonicalize(&path);
    found.map_err(|error| {
        Error::io("open", &path, &error).context(format!(
            "the base model of the adapter in {}",
            dir.display()
        ))
    })
}

/// The model under the adapter in `dir`, on the memory of an earlier one from the same path where there is one.
pub(in crate::model) fn open(dir: &Path) -> Result<Llama> {
    let path = base_of(dir)?;
    if is_adapter(&path) {
        return Err(Error::input(format!(
            "{}: the base model in {} is an adapter itself",
            dir.display(),
            path.display()
        ))
        .hint("merge it first"));
    }
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    loaded.retain(|(_, weights)| weights.is_held());
    let earlier = loaded.iter().find(|(other, _)| *other == path);
    let model = match earlier.and_then(|(_, weights)| weights.upgrade()) {
        Some(weights) => Llama::on(&path, weights)?,
        None => Llama::load(&path).context("the base model of an adapter")?,
    };
    if !loaded.iter().any(|(other, _)| *other == path) {
        loaded.extend(model.weights().downgrade().map(|weights| (path, weights)));
    }
    Ok(model)
}
