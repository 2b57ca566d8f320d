//! A run's folder: the resolved configuration, the plugins used, metrics, samples, the policy, and the result.

use std::cell::Cell;
use std::fs;
use std::path::{self, Path, PathBuf};

use serde_json::json;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::pipeline::Session;
use crate::pipeline::atomic::write_atomic;
use crate::pipeline::origins;
use crate::pipeline::stages::HELD_OUT_EDITS;
use crate::pipeline::stages::ppo::channel_names;
use crate::pipeline::stages::reward_tests::{RANKED_EDITS, RANKED_PAIRS};
use crate::pipeline::stages::token_views::TOKENS;
use crate::pipeline::store::Artifact;
use crate::pipeline::store::lock::Lock;
use crate::pipeline::variant::{self, VariantRun};
use crate::report::{ComparisonResult, html, markdown};
use crate::telemetry::line::METRICS;

/// The figures of a run or a comparison.
pub const RESULT: &str = "result.json";
/// The folder of every stage's metrics.
pub const METRICS_DIR: &str = "metrics";
/// What was judged.
pub const SAMPLES: &str = "samples.jsonl";
/// Held-out edits.
pub const EDITS: &str = "edits.jsonl";
/// A folder with a folder for every reward scheme: held-out pairs and edits with the rewards of both sides.
pub const REWARD_TESTS: &str = "reward_tests";

/// Who writes into the folder, while it is written into.
const LOCK: &str = ".lock";

/// The resolved configuration.
pub const CONFIG: &str = "config.toml";

/// The plugins and stages of the run.
pub const ABOUT: &str = "run.json";

/// Where a run's folder has the metrics of a stage.
pub fn metrics_file(run: &Path, stage: &str, hash: &str) -> PathBuf {
    run.join(METRICS_DIR).join(format!("{stage}-{hash}.jsonl"))
}

/// The folder of a run or a comparison; no other process writes into it as long as this lives.
#[derive(Debug)]
pub struct RunDir {
    dir: PathBuf,
    lock: Option<Lock>,
    /// Whether the store knows of it: then even an empty one keeps an interrupted run's stages from `gc`.
    known: Cell<bool>,
}

impl RunDir {
    /// The folder `dir`, which is made where it is missing.
    ///
    /// # Errors
    /// Another process writes into it: the message says which.
    pub fn open(dir: &Path) -> Result<Self> {
        make(dir)?;
        let path = dir.join(LOCK);
        let Some(lock) = Lock::try_exclusive(&path)? else {
            let whom = Lock::holder(&path)
                .map_or_else(|| "another process".to_owned(), |holder| holder.to_string());
            return Err(Error::input(format!(
                "the run directory {} is in use by {whom}",
                dir.display()
            ))
            .hint("wait until that is done, or choose another directory with --out; both can share a store"));
        };
        Ok(Self {
            dir: dir.to_path_buf(),
            lock: Some(lock),
            known: Cell::new(false),
        })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Runs a variant, and writes what it consists of. Small files are copied out of the store, so that a run's folder can
    /// be moved elsewhere; `run.json` says where each stage lies. The store knows from the first stage on what is used here.
    pub fn run(&self, session: &Session<'_>, config: &Config) -> Result<VariantRun> {
        let session = &session.for_another_run();
        session.store.enter(&self.dir)?;
        session.telemetry.enter(&self.dir, &config.alarms);
        let run = variant::run(session, config);
        self.known
            .set(self.known.get() || session.store.is_in_use());
        let run = run?;
        self.write(session, &run)?;
        session
            .store
            .leave(run.stages().iter().map(|artifact| &artifact.key))?;
        Ok(run)
    }

    fn write(&self, session: &Session<'_>, run: &VariantRun) -> Result<()> {
        let out = &self.dir;
        write_atomic(&out.join(CONFIG), run.config.to_toml()?.as_bytes())?;
        let stage = |artifact: &&Artifact| {
            // Whole, so that the run can be compared from elsewhere.
            let dir = path::absolute(&artifact.dir)
                .map_err(|error| Error::io("find", &artifact.dir, &error))?;
            let mut stage = json!({
                "stage": artifact.record.stage,
                "hash": artifact.record.hash,
                "dir": dir.display().to_string(),
                "wall_seconds": artifact.record.wall_seconds,
                "computed_in_this_run": artifact.fresh,
            });
            let asked = origins::of_stage(&run.config, artifact)?;
            if !asked.is_empty() {
                stage["asked"] = json!(asked);
            }
            Ok(stage)
        };
        let stages = run.stages().iter().map(stage).collect::<Result<Vec<_>>>()?;
        let about = json!({
            "finegrain": env!("CARGO_PKG_VERSION"),
            "name": run.config.name,
            "seed": run.config.seed,
            "plugins": session.identities(&run.config)?,
            "stages": stages,
        });
        write_json(&out.join(ABOUT), &about)?;
        for artifact in run.stages() {
            let from = artifact.file(METRICS);
            if from.is_file() {
                let record = &artifact.record;
                copy(&from, &metrics_file(out, &record.stage, &record.hash))?;
            }
        }
        copy(&run.evaluation.file("outcomes.jsonl"), &out.join(SAMPLES))?;
        copy(&run.edits.file(HELD_OUT_EDITS), &out.join(EDITS))?;
        for (tests, channel) in run.reward_tests.iter().zip(channel_names(&run.config)) {
            let Some(tests) = tests else { continue };
            let to = out.join(REWARD_TESTS).join(channel);
            make(&to)?;
            for file in [RANKED_PAIRS, RANKED_EDITS] {
                copy(&tests.file(file), &to.join(file))?;
            }
        }
        if let Some(views) = &run.token_views {
            copy(&views.file(TOKENS), &out.join(TOKENS))?;
        }
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

    /// Writes the result of a run or a comparison: `result.json`, `report.md`, `report.html` and the files in `report/`.
    pub fn write_result(&self, result: &ComparisonResult) -> Result<()> {
        write_json(&self.dir.join(RESULT), result)?;
        write_atomic(
            &self.dir.join("report.md"),
            markdown::render(result).as_bytes(),
        )?;
        html::write(&self.dir, None).map(|_| ())
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        drop(self.lock.take());
        if !self.known.get() {
            // Wrong input leaves no folder behind; one with anything in it is not removed.
            let _ = fs::remove_dir(&self.dir);
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_that_wants_a_directory_is_refused_and_told_who_is_there() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("run");
        let first = RunDir::open(&dir).unwrap();
        let error = RunDir::open(&dir).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let whom = format!("in use by process {} on ", std::process::id());
        assert!(error.to_string().contains(&whom), "{error}");
        drop(first);
        assert!(!dir.exists(), "nothing was written, and nothing is left");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("notes"), "").unwrap();
        drop(RunDir::open(&dir).unwrap());
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
    }
}
