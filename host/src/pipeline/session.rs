//! What all stages of a process share: the store, the plugins, the cancel flag, threads and progress.

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use finegrain_sdk::rng::Stream;

use crate::config::Config;
use crate::device::Device;
use crate::error::Result;
use crate::pipeline::checkpoints::Checkpoints;
use crate::pipeline::context::StageContext;
use crate::pipeline::observer::{Show, StageObserver};
use crate::pipeline::origins;
use crate::pipeline::plan::Planner;
use crate::pipeline::set_aside;
use crate::pipeline::store::{Artifact, Asker, StageKey, Store};
use crate::plugins::{Identity, Registry};
use crate::telemetry::Telemetry;

/// The surroundings of a run or a comparison.
pub struct Session<'a> {
    /// Where finished stages lie.
    pub store: Store,
    /// Built-in and loaded plugins.
    pub registry: Arc<Registry>,
    /// Set on Ctrl-C and SIGTERM.
    pub cancel: &'a AtomicBool,
    /// Threads of operations and plugins.
    pub threads: usize,
    /// Whether progress is shown.
    pub show: Show,
    /// Which run this is, for messages; where several go on at once.
    pub label: Option<String>,
    /// Where stages are written down instead of computed.
    pub planner: Option<&'a Planner>,
    /// Where the run that is under way shows its figures, and what is watched in them.
    pub telemetry: Telemetry,
}

impl<'a> Session<'a> {
    /// The surroundings of a single run.
    pub fn new(
        store: Store,
        registry: Registry,
        cancel: &'a AtomicBool,
        threads: usize,
        show: Show,
    ) -> Self {
        Self {
            store,
            registry: Arc::new(registry),
            cancel,
            threads,
            show,
            label: None,
            planner: None,
            telemetry: Telemetry::default(),
        }
    }

    /// The same surroundings for another run, which goes on beside this one.
    #[must_use]
    pub fn for_another_run(&self) -> Self {
        Self {
            store: self.store.for_another_run(),
            registry: Arc::clone(&self.registry),
            cancel: self.cancel,
            threads: self.threads,
            show: self.show,
            label: self.label.clone(),
            planner: self.planner,
            telemetry: Telemetry::default(),
        }
    }

    /// A stage's title with the run in front, where several go on at once; the variant's name stands once.
    fn titled(&self, title: &str) -> String {
        match (&self.label, title.split_once(": ")) {
            (None, _) => title.to_owned(),
            (Some(label), Some((name, rest))) if label.starts_with(name) => {
                format!("{label}: {rest}")
            }
            (Some(label), _) => format!("{label}: {title}"),
        }
    }

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
        if config.task.has_editor() {
            let editor = &config.editor;
            used.push(
                registry
                    .editor(&editor.plugin, &editor.options)?
                    .identity()
                    .clone(),
            );
        }
        for (_, judge) in config.judges() {
            for member in judge.members() {
                let identity = if member.is_reward_model() {
                    registry
                        .reward(&judge.scheme.plugin, &judge.scheme.options)?
                        .identity()
                        .clone()
                } else {
                    registry
                        .judge(member.plugin, member.options)?
                        .identity()
                        .clone()
                };
                used.push(identity);
            }
        }
        used.sort_by_key(Identity::id);
        used.dedup_by_key(|identity| identity.id());
        Ok(used)
    }

    /// The artifact of a stage: found in the store, or made by `work` in a folder of its own, with metrics, progress and
    /// a random stream that follows from the seed and the stage's name. Where another process makes it, waits and says so;
    /// where an interrupted attempt has left a checkpoint, `work` finds it in its context.
    /// Fails where a gate of the run does; the artifact is kept.
    pub fn stage(
        &self,
        config: &Config,
        title: &str,
        key: StageKey,
        work: impl FnOnce(&StageContext<'_>) -> Result<()>,
    ) -> Result<Artifact> {
        if let Some(planner) = self.planner {
            return planner.write_down(&self.store, title, key);
        }
        let title = &*self.titled(title);
        let stream = Stream::new(config.seed).child(key.stage());
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
        let saved = self.store.checkpoints(&key);
        let watch = self.telemetry.watch(&key);
        let artifact = self.store.obtain(key, &asker, |dir: &Path| {
            let checkpoints = Checkpoints::open(&saved, &config.checkpoints, asker.warn)?;
            if let Some(found) = checkpoints.found() {
                found.restore_files(dir)?;
                if self.show == Show::Progress {
                    (asker.note)(&format!("goes on after step {}", found.step()));
                }
            }
            let observer = StageObserver::new(title, dir, self.show, &watch)?;
            let device = &Device::open(&config.device)?;
            let answers = self.store.paid_answers();
            let context = StageContext {
                stream,
                threads: self.threads,
                device,
                cancel: self.cancel,
                observer: &observer,
                dir,
                checkpoints: &checkpoints,
                answers: Some(&answers),
            };
            context.check_cancelled()?;
            work(&context).map_err(|error| watch.failed(dir, error).context(title))?;
            observer.finish()?;
            Ok(checkpoints.earlier_seconds())
        })?;
        if artifact.fresh
            && let Some(text) = set_aside::in_words(&artifact)?
        {
            self.say(&format!("{title}: {text}"));
        }
        if artifact.fresh {
            for asked in origins::of_stage(config, &artifact)? {
                self.say(&format!("{title}: {asked}"));
                if let Some(warning) = asked.warning() {
                    (asker.warn)(&warning);
                }
            }
        }
        self.telemetry.check(title, &artifact)?;
        Ok(artifact)
    }

    /// A line on standard error, where progress is shown.
    pub fn say(&self, text: &str) {
        if self.show == Show::Progress {
            let _ = writeln!(io::stderr(), "{text}");
        }
    }
}
