//! Checkpoints of a stage that trains: what its loop needs to go on, and to end with the bits of a run that was not stopped.
//!
//! A checkpoint is one file, so that it is there whole or not at all, and its name holds its hash, so that a damaged one is
//! never used. It holds parameters, optimizer moments, the loop's counters and what the stage has written so far (metrics).
//! Random streams are functions of the step (`finegrain_sdk::rng::Stream`), so there is no generator to save. docs/store.md
//! says where checkpoints lie and how long they live.

mod config;
mod file;

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use config::CheckpointConfig;
pub use file::{Part, Saved};

use crate::error::{Error, Result};
use crate::model::gradients::Trainable;

/// What a loop hands over: its own counters, and its arrays by name.
pub struct Snapshot<'a, S> {
    /// Counters, schedules, controllers.
    pub state: S,
    /// Parameters and moments.
    pub parts: Vec<Part<'a>>,
}

/// What lies beside the loop's state in a file.
#[derive(Serialize, Deserialize)]
struct Envelope<S> {
    /// Seconds that the stage has run, all attempts together.
    seconds: f64,
    /// The loop's own.
    state: S,
}

/// The checkpoints of one stage.
pub struct Checkpoints {
    place: Option<Place>,
}

struct Place {
    folder: PathBuf,
    config: CheckpointConfig,
    found: Option<Saved>,
    /// Seconds of earlier attempts up to the checkpoint that was found.
    earlier: f64,
    start: Instant,
    last: Mutex<Last>,
}

/// The last checkpoint.
#[derive(Clone, Copy)]
struct Last {
    at: Instant,
    /// How long it took to save.
    took: Duration,
}

/// Seconds of work for a second of saving, at least, where checkpoints go by time: 5% of a run at most.
const WORK_PER_SAVING: u32 = 20;

impl Checkpoints {
    /// For loops outside a store: nothing is found, nothing is saved.
    pub fn none() -> &'static Self {
        static NONE: Checkpoints = Checkpoints { place: None };
        &NONE
    }

    /// The checkpoints in `folder`, which need not exist. The newest sound one is what the stage goes on from; damaged ones
    /// are renamed, and `warn` is told.
    ///
    /// # Errors
    /// A folder or file that cannot be read or renamed.
    pub fn open(folder: &Path, config: &CheckpointConfig, warn: &dyn Fn(&str)) -> Result<Self> {
        let mut found = None;
        for path in file::list(folder)? {
            match Saved::open(&path)? {
                Ok(saved) => {
                    found = Some(saved);
                    break;
                }
                Err(damage) => {
                    let aside = file::set_aside(&path)?;
                    warn(&format!(
                        "checkpoint {} is damaged: {damage}; it is now {}, and an older one or none is used",
                        path.display(),
                        aside.display()
                    ));
                }
            }
        }
        let earlier = match &found {
            Some(saved) => saved.state::<Envelope<serde_json::Value>>()?.seconds,
            None => 0.0,
        };
        let now = Instant::now();
        Ok(Self {
            place: Some(Place {
                folder: folder.to_path_buf(),
                config: config.clone(),
                found,
                earlier,
                start: now,
                last: Mutex::new(Last {
                    at: now,
                    took: Duration::ZERO,
                }),
            }),
        })
    }

    /// The checkpoint that the stage goes on from.
    pub fn found(&self) -> Option<&Saved> {
        self.place.as_ref()?.found.as_ref()
    }

    /// The loop's state in the checkpoint that was found.
    pub fn resume<S: DeserializeOwned>(&self) -> Result<Option<(S, &Saved)>> {
        let Some(saved) = self.found() else {
            return Ok(None);
        };
        Ok(Some((saved.state::<Envelope<S>>()?.state, saved)))
    }

    /// Seconds of the stage's earlier attempts, as far as their work was saved.
    pub fn earlier_seconds(&self) -> f64 {
        self.place.as_ref().map_or(0.0, |place| place.earlier)
    }

    /// Whether one is to be saved after `step` steps.
    pub fn due(&self, step: u64) -> bool {
        let Some(place) = &self.place else {
            return false;
        };
        let config = &place.config;
        let last = *place.last.lock().unwrap_or_else(PoisonError::into_inner);
        (config.every > 0 && step.is_multiple_of(config.every))
            || (config.every_seconds > 0.0
                && last.at.elapsed()
                    >= Duration::from_secs_f64(config.every_seconds)
                        .max(last.took * WORK_PER_SAVING))
    }

    /// Saves a checkpoint after `step` steps with the JSONL files that the stage has written into `dir`, and removes all
    /// but the newest `keep`. Returns whether there is a place to save to.
    ///
    /// # Errors
    /// A file that cannot be written; older checkpoints are kept then.
    pub fn save<S: Serialize>(
        &self,
        step: u64,
        dir: &Path,
        snapshot: Snapshot<'_, S>,
    ) -> Result<bool> {
        let Some(place) = &self.place else {
            return Ok(false);
        };
        let began = Instant::now();
        let mut parts = snapshot.parts;
        parts.extend(file::written(dir)?);
        let envelope = Envelope {
            seconds: place.earlier + place.start.elapsed().as_secs_f64(),
            state: snapshot.state,
        };
        file::write(&place.folder, step, &envelope, &parts)?;
        for old in file::list(&place.folder)?.iter().skip(place.config.keep) {
            fs::remove_file(old).map_err(|error| Error::io("remove", old, &error))?;
        }
        *place.last.lock().unwrap_or_else(PoisonError::into_inner) = Last {
            at: Instant::now(),
            took: began.elapsed(),
        };
        Ok(true)
    }
}

/// The trained values of a model, set by set, as `PREFIX.0`, `PREFIX.1`, …
///
/// # Errors
/// Work on the device that failed.
pub fn parameters<'m>(prefix: &str, model: &'m impl Trainable) -> Result<Vec<Part<'m>>> {
    let sets = model.parameter_sets().into_iter().enumerate();
    sets.map(|(at, (set, count))| {
        let values = match set.values()? {
            Cow::Borrowed(values) => Cow::Borrowed(&values[..count]),
            Cow::Owned(mut values) => {
                values.truncate(count);
                Cow::Owned(values)
            }
        };
        Ok(Part::floats(format!("{prefix}.{at}"), values))
    })
    .collect()
}

/// Puts back what [`parameters`] gave.
///
/// # Errors
/// A checkpoint that does not hold them.
pub fn restore_parameters(prefix: &str, model: &mut impl Trainable, saved: &Saved) -> Result<()> {
    let sets = model.parameter_sets().into_iter();
    let counts: Vec<usize> = sets.map(|(_, count)| count).collect();
    let sets = model.parameter_sets_mut().into_iter();
    for (at, (set, count)) in sets.zip(counts).enumerate() {
        let name = format!("{prefix}.{at}");
        set.edit(|values| saved.read(&name, &mut values[..count]))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
