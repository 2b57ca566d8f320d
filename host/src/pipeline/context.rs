//! What a stage gets from whoever runs it: its place in the tree of random streams, the cancel flag, progress, metrics.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use finegrain_sdk::CallContext;
use finegrain_sdk::rng::Stream;

use crate::error::{Error, Result};

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
    /// Set on Ctrl-C and SIGTERM.
    pub cancel: &'a AtomicBool,
    /// Where metrics and progress go.
    pub observer: &'a dyn Observer,
    /// The stage's folder, for what it writes.
    pub dir: &'a Path,
}

impl StageContext<'_> {
    /// An error once the user has interrupted the run or a gate has failed; stages call it after every step.
    pub fn check_cancelled(&self) -> Result<()> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(Error::interrupted());
        }
        self.observer.check_gates()
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
        }
    }
}
