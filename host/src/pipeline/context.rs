//! What a stage gets from whoever runs it: its place in the tree of random streams, the cancel flag, progress, metrics.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use finegrain_sdk::CallContext;
use finegrain_sdk::rng::Stream;
use serde::Serialize;

use crate::data::jsonl;
use crate::data::records::SetAside;
use crate::device::Device;
use crate::error::{Error, ErrorKind, Result};
use crate::pipeline::checkpoints::{Checkpoints, Snapshot};
use crate::pipeline::stages::SET_ASIDE;

/// Takes what a stage reports while it runs.
pub trait Observer: Sync {
    /// One line of metrics: `step` counts the stage's own steps; names are `group/name`, as in docs/metrics.md.
    fn metrics(&self, step: u64, values: &[(&str, f64)]);

    /// The distribution of a figure over tokens or responses at a step; the name is `group/name`.
    fn histogram(&self, _step: u64, _name: &str, _values: &[f32]) {}

    /// A text of a step, as Markdown; the name is `group/name`.
    fn text(&self, _step: u64, _name: &str, _text: &str) {}

    /// An error once a gate of the run has failed.
    fn check_gates(&self) -> Result<()> {
        Ok(())
    }

    /// `done` of `total` units of work, and a few words that stand behind the bar.
    fn progress(&self, done: u64, total: u64, message: &str);

    /// A line for the user, on standard error.
    fn warn(&self, message: &str);

    /// Brings what was reported so far into the files of the stage's folder, for a checkpoint. An observer without files
    /// has nothing to do.
    ///
    /// # Errors
    /// A file that cannot be written.
    fn flush(&self) -> Result<()> {
        Ok(())
    }
}

/// An observer that keeps nothing, for tests.
pub struct Silent;

impl Observer for Silent {
    fn metrics(&self, _: u64, _: &[(&str, f64)]) {}
    fn progress(&self, _: u64, _: u64, _: &str) {}
    fn warn(&self, _: &str) {}
}

/// The surroundings of a running stage.
#[derive(Clone, Copy)]
pub struct StageContext<'a> {
    /// The stage's own root of random streams.
    pub stream: Stream,
    /// Threads that operations and plugins may use.
    pub threads: usize,
    /// Where models live.
    pub device: &'a Device,
    /// Set on Ctrl-C and SIGTERM.
    pub cancel: &'a AtomicBool,
    /// Where metrics and progress go.
    pub observer: &'a dyn Observer,
    /// The stage's folder, for what it writes.
    pub dir: &'a Path,
    /// What an interrupted attempt has left to go on from, and where this one saves.
    pub checkpoints: &'a Checkpoints,
    /// Where plugins keep answers that cost money or time; `None` where nothing is kept.
    pub answers: Option<&'a Path>,
}

impl StageContext<'_> {
    /// An error once the user has interrupted the run or a gate has failed; stages call it after every step.
    pub fn check_cancelled(&self) -> Result<()> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(Error::interrupted());
        }
        self.observer.check_gates()
    }

    /// Writes down the rows that the stage does not use; the session says how many there are and why.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn set_aside(&self, rows: &[SetAside]) -> Result<()> {
        jsonl::write(&self.dir.join(SET_ASIDE), rows)
    }

    /// To be called after `step` steps of a loop: saves a checkpoint where one is due, and on an interrupt, which is an
    /// error then.
    pub fn after_step<'s, S: Serialize>(
        &self,
        step: u64,
        snapshot: impl FnOnce() -> Result<Snapshot<'s, S>>,
    ) -> Result<()> {
        match self.check_cancelled() {
            Ok(()) if self.checkpoints.due(step) => self.save(step, snapshot()?).map(|_| ()),
            Ok(()) => Ok(()),
            Err(error) => Err(self.save_before(error, step, snapshot())),
        }
    }

    /// Saves a checkpoint of the loop after `step` steps because `error` ends it there; of an interrupt, says in the hint how to go on.
    /// An error of the saving itself comes first.
    pub fn save_before<S: Serialize>(
        &self,
        error: Error,
        step: u64,
        snapshot: Result<Snapshot<'_, S>>,
    ) -> Error {
        match snapshot.and_then(|snapshot| self.save(step, snapshot)) {
            // A gate's hint says what to do about the gate.
            Ok(true) if error.kind() == ErrorKind::Interrupted => {
                error.hint(format!("the same command goes on after step {step}"))
            }
            Ok(_) => error,
            Err(failed) => failed.context(error),
        }
    }

    fn save<S: Serialize>(&self, step: u64, snapshot: Snapshot<'_, S>) -> Result<bool> {
        self.observer.flush()?;
        self.checkpoints.save(step, self.dir, snapshot)
    }

    /// Where plugins log to: warnings go to the user.
    pub fn plugin_log(&self) -> impl Fn(finegrain_sdk::context::LogLevel, &str) + Sync + use<'_> {
        |level, message| {
            if level == finegrain_sdk::context::LogLevel::Warn {
                self.observer.warn(message);
            }
        }
    }

    /// The context of a plugin call at `step`; `instance` names the plugin's place, so that two instances draw apart.
    pub fn call<'c>(
        &'c self,
        instance: &str,
        step: u64,
        log: &'c (dyn Fn(finegrain_sdk::context::LogLevel, &str) + Sync),
    ) -> CallContext<'c> {
        CallContext {
            seed: self.stream.child("plugin").child(instance).seed(),
            step,
            threads: self.threads as u32,
            cancel: self.cancel,
            log,
            progress: &|_, _| {},
            answers: self.answers,
        }
    }
}
