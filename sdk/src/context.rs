//! What the host tells a plugin with every call.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, ErrorCode, Result};
use crate::rng::Stream;

/// Severity of a line that a plugin logs through [`CallContext::log`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// For the author of the plugin.
    Debug,
    /// For the run's log.
    Info,
    /// For the user, now.
    Warn,
}

/// The host's side of a call: seed, step, threads, cancel flag, log and progress.
#[derive(Clone, Copy)]
pub struct CallContext<'a> {
    /// Seed of this plugin instance in this run; the same for every step.
    pub seed: u64,
    /// The step of the stage that calls, from 0.
    pub step: u64,
    /// How many threads the plugin may compute with. Requests to a server that are under way at once are another number,
    /// and an option of the plugin that makes them.
    pub threads: u32,
    /// Set when the user has interrupted the run.
    pub cancel: &'a AtomicBool,
    /// Takes a line for the log.
    pub log: &'a (dyn Fn(LogLevel, &str) + Sync),
    /// Takes (done, total) of the rows of this call.
    pub progress: &'a (dyn Fn(u64, u64) + Sync),
    /// A folder for answers that cost money or time, shared by all stages, seeds and runs of a store and never cleared: what
    /// a plugin that asks a server keeps here under a key of what it sent, it need not ask for again. It may not exist yet.
    /// `None` where the host keeps nothing.
    pub answers: Option<&'a Path>,
}

impl CallContext<'_> {
    /// Whether the user has interrupted the run.
    pub fn cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }

    /// An error with [`ErrorCode::CANCELLED`] once the user has interrupted the run; poll it per row.
    pub fn check_cancelled(&self) -> Result<()> {
        if self.cancelled() {
            return Err(Error::new(ErrorCode::CANCELLED, "interrupted"));
        }
        Ok(())
    }

    /// Sends a line to the run's log. Plugins never print.
    pub fn log(&self, level: LogLevel, message: &str) {
        (self.log)(level, message);
    }

    /// Reports that `done` of `total` rows of this call are finished.
    pub fn progress(&self, done: u64, total: u64) {
        (self.progress)(done, total);
    }

    /// The random stream of this call: a function of the seed and the step alone. Take [`Stream::child`] per row id, so
    /// that results do not depend on the order or the grouping of rows.
    pub fn stream(&self) -> Stream {
        Stream::new(self.seed).index(self.step)
    }
}
