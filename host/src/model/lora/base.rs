//! The frozen weights under adapters: where they lie, and loaded once a process, however many models stand on them.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::peft;
use crate::data::tokenizer::{self, Tokenizer};
use crate::error::{Context, Error, Result};
use crate::model::parameters::WeakSet;
use crate::model::{CausalLm, locate};

/// Weights that some model of this process may still hold, by the path they came from.
static LOADED: Mutex<Vec<(PathBuf, WeakSet)>> = Mutex::new(Vec::new());

/// Whether a folder holds an adapter.
pub fn is_adapter(path: &Path) -> bool {
    path.join(peft::CONFIG).is_file()
}

/// What the configuration of the adapter in `dir` names as its base: a path, seen from `dir` where there is such a one, or a hub id.
///
/// # Errors
/// A configuration that cannot be read or names nothing.
pub(in crate::model) fn named_base(dir: &Path) -> Result<PathBuf> {
    let named = peft::base(dir)?;
    let beside = dir.join(&named);
    Ok(if beside.exists() { beside } else { named })
}

/// Where the frozen weights of the adapter in `dir` lie, found as every model is: by a path, or by its hub id in the cache or on
/// the hub.
///
/// # Errors
/// An adapter without a base that is named, and those of [`locate`].
pub fn base_of(dir: &Path) -> Result<PathBuf> {
    let found = locate(&named_base(dir)?).map_err(|error| {
        error
            .context(format!(
                "the base model of the adapter in {}",
                dir.display()
            ))
            .hint(format!(
                "say where it is: `finegrain generate --base MODEL`, or base_model_name_or_path in {}",
                dir.join(peft::CONFIG).display()
            ))
    })?;
    absolute(&found)
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::fs::canonicalize(path).map_err(|error| Error::io("open", path, &error))
}

/// The tokenizer of a model; an adapter without one has its base's, which is `base` or what its configuration names.
///
/// # Errors
/// A base that is not found, a tokenizer that cannot be read.
pub fn tokenizer_of(path: &Path, base: Option<&Path>) -> Result<Tokenizer> {
    if is_adapter(path) && !path.join(tokenizer::FILE).is_file() {
        return match base {
            Some(base) => Tokenizer::load(base),
            None => Tokenizer::load(&base_of(path)?),
        };
    }
    Tokenizer::load(path)
}

/// The model under the adapter in `dir`, on the memory of an earlier one from the same path where there is one; `base` stands for
/// what the configuration names.
pub(in crate::model) fn open(dir: &Path, base: Option<&Path>) -> Result<CausalLm> {
    let path = match base {
        Some(base) => absolute(base)?,
        None => base_of(dir)?,
    };
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
        Some(weights) => CausalLm::on(&path, weights)?,
        None => CausalLm::load(&path).context("the base model of an adapter")?,
    };
    if !loaded.iter().any(|(other, _)| *other == path) {
        loaded.extend(model.weights().downgrade().map(|weights| (path, weights)));
    }
    Ok(model)
}
