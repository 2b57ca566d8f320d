//! Which run directories use which artifacts: `runs/HASH-OF-THE-PATH.json` in the store, one file a run directory.
//!
//! A use is written down before the stage is looked for or computed, so that what a run under way needs, or an interrupted
//! one has finished, is never taken for garbage.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::pipeline::atomic::write_atomic;
use crate::pipeline::store::key::sha256;

/// The folder of the store that holds these files.
pub(super) const RUNS: &str = "runs";

/// What a run directory uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunReferences {
    /// The run directory, absolute.
    pub dir: PathBuf,
    /// The artifacts, as `stage/hash`.
    pub stages: BTreeSet<String>,
}

impl RunReferences {
    /// What is known of an existing run directory; no stages where nothing is.
    pub(super) fn of(root: &Path, dir: &Path) -> Result<Self> {
        let dir = fs::canonicalize(dir).map_err(|error| Error::io("find", dir, &error))?;
        let known = read(&file_of(root, &dir))?;
        Ok(known.unwrap_or_else(|| Self {
            dir,
            stages: BTreeSet::new(),
        }))
    }

    /// Writes down that the run uses an artifact, on disk when this returns.
    pub(super) fn add(&mut self, root: &Path, stage: &str) -> Result<()> {
        if self.stages.insert(stage.to_owned()) {
            self.write(root)?;
        }
        Ok(())
    }

    /// Writes down that the run uses these artifacts and no others.
    pub(super) fn replace(&mut self, root: &Path, stages: BTreeSet<String>) -> Result<()> {
        if self.stages != stages {
            self.stages = stages;
            self.write(root)?;
        }
        Ok(())
    }

    fn write(&self, root: &Path) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(self).map_err(|error| {
            Error::input(format!(
                "the run directory {} cannot be written down: {error}",
                self.dir.display()
            ))
        })?;
        text.push(b'\n');
        write_atomic(&file_of(root, &self.dir), &text)
    }

    /// Whether the run directory is there; where that cannot be told, it is taken to be.
    pub fn exists(&self) -> bool {
        self.dir.try_exists().unwrap_or(true)
    }

    /// Forgets a run directory.
    pub(super) fn forget(&self, root: &Path) -> Result<()> {
        let path = file_of(root, &self.dir);
        fs::remove_file(&path).map_err(|error| Error::io("remove", &path, &error))
    }
}

fn file_of(root: &Path, dir: &Path) -> PathBuf {
    let mut name = sha256(dir.as_os_str().as_encoded_bytes());
    name.truncate(16);
    root.join(RUNS).join(format!("{name}.json"))
}

fn read(path: &Path) -> Result<Option<RunReferences>> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", path, &error)),
    };
    serde_json::from_slice(&text).map(Some).map_err(|error| {
        Error::input(format!("{} is damaged: {error}", path.display())).hint(
            "it says which artifacts a run uses; delete it and call the run again, which writes it anew from the store",
        )
    })
}

/// Every run directory that has used the store, sorted by path.
pub(super) fn all(root: &Path) -> Result<Vec<RunReferences>> {
    let folder = root.join(RUNS);
    let fail = |error: io::Error| Error::io("read", &folder, &error);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fail(error)),
    };
    let mut runs = Vec::new();
    for entry in entries {
        let path = entry.map_err(fail)?.path();
        if path.extension().is_some_and(|kind| kind == "json") {
            runs.extend(read(&path)?);
        }
    }
    runs.sort_by(|a, b| a.dir.cmp(&b.dir));
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_are_kept_over_runs_replaced_at_the_end_and_gone_with_the_directory() {
        let root = tempfile::tempdir().unwrap();
        let run = root.path().join("my run");
        fs::create_dir(&run).unwrap();
        let mut first = RunReferences::of(root.path(), &run).unwrap();
        first.add(root.path(), "sft/1").unwrap();
        first.add(root.path(), "ppo/1").unwrap();
        // Another path to the same directory is the same run.
        let mut again = RunReferences::of(root.path(), &run.join("../my run")).unwrap();
        assert_eq!(again, first);
        again.add(root.path(), "ppo/2").unwrap();
        assert_eq!(all(root.path()).unwrap(), [again.clone()]);
        let last = BTreeSet::from(["sft/1".to_owned(), "ppo/2".to_owned()]);
        again.replace(root.path(), last.clone()).unwrap();
        assert_eq!(all(root.path()).unwrap()[0].stages, last);
        assert!(again.exists());
        fs::remove_dir(&run).unwrap();
        assert!(!again.exists());
        again.forget(root.path()).unwrap();
        assert!(all(root.path()).unwrap().is_empty());
    }

    #[test]
    fn a_damaged_file_is_named_and_never_taken_for_a_run_that_uses_nothing() {
        let root = tempfile::tempdir().unwrap();
        RunReferences::of(root.path(), root.path())
            .unwrap()
            .add(root.path(), "sft/1")
            .unwrap();
        let path = file_of(root.path(), &fs::canonicalize(root.path()).unwrap());
        fs::write(&path, "{\"dir\"").unwrap();
        let error = all(root.path()).unwrap_err();
        assert!(error.to_string().contains(".json is damaged"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }
}
