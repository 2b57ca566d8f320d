//! Where a run's figures are shown, and what is watched in them.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::alarms::{Action, Alarms, AlarmsConfig, Finding};
use super::event_file::{EVENT_FILE, EventFile};
use super::line::{METRICS, read_all, read_metrics};
use crate::error::{Error, Result};
use crate::pipeline::atomic::write_atomic;
use crate::pipeline::run_dir::METRICS_DIR;
use crate::pipeline::store::{Artifact, StageKey};

/// The folder of event files in a run's folder.
const TENSORBOARD: &str = "tensorboard";
/// The folder of what was not finite in a run's folder.
const NOT_FINITE: &str = "not-finite";

/// What watches one stage of a run.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// Thresholds and actions.
    pub alarms: AlarmsConfig,
    /// The run's folder; without one nothing is shown but warnings.
    run: Option<PathBuf>,
    /// `STAGE-HASH`.
    stage: String,
}

impl Watch {
    /// The event file of the stage.
    pub fn event_file(&self) -> Option<PathBuf> {
        let run = self.run.as_ref()?;
        Some(run.join(TENSORBOARD).join(&self.stage).join(EVENT_FILE))
    }

    /// What a stage that failed in `dir` leaves in the run's folder: its metrics, and the rows at which a number was not
    /// finite. The error says where they are; a gate has its own exit code.
    pub fn failed(&self, dir: &Path, error: Error) -> Error {
        if let Some(run) = &self.run {
            // The stage's error is what the user must see, whether or not the copy succeeds.
            let _ = keep_metrics(run, &self.stage, dir);
        }
        if self.alarms.not_finite.action == Action::Off {
            return error;
        }
        let Some(found) = error.not_finite() else {
            return error;
        };
        let saved = self
            .run
            .as_ref()
            .map(|run| found.save(&run.join(NOT_FINITE), &self.stage, &error.to_string()));
        let error = match saved {
            Some(Ok(path)) => error.followed_by(format!("the rows are in {}", path.display())),
            Some(Err(why)) => error.followed_by(format!("and the rows could not be saved: {why}")),
            None => error,
        };
        if self.alarms.not_finite.action == Action::Gate {
            return error.context("alarm not_finite").into_gate();
        }
        error
    }
}

/// Copies the metrics of a stage into the run's folder.
fn keep_metrics(run: &Path, stage: &str, dir: &Path) -> Result<()> {
    let from = dir.join(METRICS);
    if !from.is_file() {
        return Ok(());
    }
    let lines = fs::read(&from).map_err(|error| Error::io("read", &from, &error))?;
    write_atomic(
        &run.join(METRICS_DIR).join(format!("{stage}.jsonl")),
        &lines,
    )
}

#[derive(Debug)]
struct Run {
    dir: PathBuf,
    alarms: AlarmsConfig,
}

/// What a process knows of the run that is under way; a comparison has several, one after the other.
#[derive(Debug, Default)]
pub struct Telemetry {
    run: Mutex<Option<Run>>,
    /// Warnings about stages that were found, which several runs may share.
    said: Mutex<BTreeSet<String>>,
}

impl Telemetry {
    /// From here on, stages are shown in this folder and watched by these alarms.
    pub fn enter(&self, dir: &Path, alarms: &AlarmsConfig) {
        *self.run.lock().unwrap_or_else(PoisonError::into_inner) = Some(Run {
            dir: dir.to_path_buf(),
            alarms: alarms.clone(),
        });
    }

    /// What watches a stage of the run that is under way.
    pub fn watch(&self, key: &StageKey) -> Watch {
        let run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        let run = run.as_ref();
        Watch {
            alarms: run.map(|run| run.alarms.clone()).unwrap_or_default(),
            run: run.map(|run| run.dir.clone()),
            stage: format!("{}-{}", key.stage(), key.hash()),
        }
    }

    /// Looks at a finished stage: one that was found is shown whole, and warned of as it was when it was made. Nothing is
    /// trained again where a gate is set.
    ///
    /// # Errors
    /// Exit code 1 where an alarm whose action is `gate` goes off; the stage stays in the store.
    pub fn check(&self, title: &str, artifact: &Artifact) -> Result<()> {
        let watch = self.watch(&artifact.key);
        if !artifact.fresh
            && let Some(path) = watch.event_file()
        {
            let lines = read_all(&artifact.dir)?;
            if !lines.is_empty() {
                EventFile::open(&path, &lines)?;
            }
        }
        let findings = findings(&watch.alarms, artifact)?;
        if let Some(gate) = findings
            .iter()
            .find(|finding| finding.action == Action::Gate)
        {
            if let Some(run) = &watch.run {
                keep_metrics(run, &watch.stage, &artifact.dir)?;
            }
            return Err(gate.gate().context(title));
        }
        if !artifact.fresh {
            for finding in &findings {
                let warning = format!("warning: {title}: {finding}; {}", finding.hint);
                let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
                if said.insert(format!("{}: {finding}", watch.stage)) {
                    let _ = writeln!(io::stderr(), "{warning}");
                }
            }
        }
        Ok(())
    }
}

/// The alarms that go off over a finished stage.
pub fn findings(config: &AlarmsConfig, artifact: &Artifact) -> Result<Vec<Finding>> {
    Ok(Alarms::over(config, &read_metrics(&artifact.dir)?))
}
