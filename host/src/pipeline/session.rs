//! What all stages of a process share: the store, the plugins, the cancel flag, threads and progress.

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::atomic::AtomicBool;

use finegrain_sdk::rng::Stream;

use crate::config::{Config, Task};
use crate::error::Result;
use crate::pipeline::context::StageContext;
use crate::pipeline::observer::{Show, StageObserver};
use crate::pipeline::store::{Artifact, Asker, StageKey, Store};
use crate::plugins::{Identity, Registry};
use crate::telemetry::Telemetry;

/// The surroundings of a run or a comparison.
pub struct Session<'a> {
    /// Where finished stages lie.
    pub store: Store,
    /// Built-in and loaded plugins.
    pub registry: Registry,
    /// Set on Ctrl-C and SIGTERM.
    pub cancel: &'a AtomicBool,
    /// Threads of operations and plugins.
    pub threads: usize,
    /// Whether progress is shown.
    pub show: Show,
    /// Where the run that is under way shows its figures, and what is watched in them.
    pub telemetry: Telemetry,
}

impl Session<'_> {
    /// Opens every plugin that a configuration names, so that a wrong name or option is found before anything runs.
    pub fn check_plugins(&self, config: &Config) -> Result<()> {
        self.identities(config).map(|_| ())
    }

    /// The plugins that a configuration uses.
    pub fn identities(&self, config: &Config) -> Result<Vec<Identity>> {
        let registry = &self.registry;
        let mut used = Vec::new();
        for choice in &config.reward {
            used.push(
                registry
                    .reward(&choice.plugin, &choice.options)?
                    .identity()
                    .clone(),
            );
        }
        let advantage = &config.advantage;
        used.push(
            registry
                .advantage(&advantage.plugin, &advantage.options)?
                .identity()
                .clone(),
        );
        if config.task == Task::Sandbox {
            let editor = &config.editor;
            used.push(
                registry
                    .editor(&editor.plugin, &editor.options)?
                    .identity()
                    .clone(),
            );
        }
        for judge in [&config.annotator, &config.judge] {
            let identity = if judge.is_reward_model() {
                registry
                    .reward(&judge.scheme.plugin, &judge.scheme.options)?
                    .identity()
                    .clone()
            } else {
                registry
                    .judge(&judge.plugin, &judge.options)?
                    .identity()
                    .clone()
            };
            used.push(identity);
        }
        used.sort_by_key(Identity::id);
        used.dedup_by_key(|identity| identity.id());
        Ok(used)
    }

    /// The artifact of a stage: found in the store, or made by `work` in a folder of its own, with metrics, progress and
    /// a random stream that follows from the seed and the stage's name. Where another process makes it, waits and says so.
    /// Fails where a gate of the run does; the artifact is kept.
    pub fn stage(
        &self,
        title: &str,
        seed: u64,
        key: StageKey,
        work: impl FnOnce(&StageContext<'_>) -> Result<()>,
    ) -> Result<Artifact> {
        let stream = Stream::new(seed).child(key.stage());
        // A wait may take hours and is no progress: it is said whether or not progress is shown.
        let asker = Asker {
            cancel: self.cancel,
            note: &|text| {
                let _ = writeln!(io::stderr(), "{title}: {text}");
            },
            warn: &|text| {
                let _ = writeln!(io::stderr(), "warning: {title}: {text}");
            },
        };
        let watch = self.telemetry.watch(&key);
        let artifact = self.store.obtain(key, &asker, |dir: &Path| {
            let observer = StageObserver::new(title, dir, self.show, &watch)?;
            let context = StageContext {
                stream,
                threads: self.threads,
                cancel: self.cancel,
                observer: &observer,
                dir,
            };
            context.check_cancelled()?;
            work(&context).map_err(|error| watch.failed(dir, error).context(title))?;
            observer.finish()
        })?;
        self.telemetry.check(title, &artifact)?;
        Ok(artifact)
    }
}
