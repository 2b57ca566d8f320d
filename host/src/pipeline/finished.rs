//! A finished run, read back out of its folder and the store: by what was run then, whatever plugins and files are here now.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::pipeline::run_dir::{ABOUT, CONFIG};
use crate::pipeline::store::verify::{State, inspect};
use crate::pipeline::store::{Artifact, StageKey, in_words, named};
use crate::pipeline::variant::VariantRun;
use crate::plugins::Identity;

/// What `run.json` says that is needed here.
#[derive(Deserialize)]
struct About {
    stages: Vec<Stage>,
    plugins: Vec<Plugin>,
}

/// A plugin in `run.json`.
#[derive(Deserialize)]
struct Plugin {
    kind: String,
    name: String,
    sha256: Option<String>,
    sources: Option<String>,
}

/// A stage in `run.json`.
#[derive(Deserialize)]
struct Stage {
    #[serde(rename = "stage")]
    name: String,
    hash: String,
    dir: PathBuf,
}

impl Stage {
    fn id(&self) -> String {
        format!("{}/{}", self.name, self.hash)
    }
}

/// Which builds of plugins the runs of a comparison had.
#[derive(Default)]
pub struct PluginBuilds {
    /// By `kind/name`: the hash, and the first run that had it.
    seen: BTreeMap<String, (String, String)>,
    /// What a reader should know.
    pub warnings: Vec<String>,
}

impl PluginBuilds {
    /// Takes the plugins of a run; another build than an earlier run's is worth a warning, once for each plugin and run.
    pub fn add<'i>(&mut self, run: &str, identities: impl IntoIterator<Item = &'i Identity>) {
        for identity in identities {
            let hash = identity.sha256.as_ref().or(identity.sources.as_ref());
            self.add_one(run, identity.id(), hash.cloned());
        }
    }

    fn add_one(&mut self, run: &str, id: String, hash: Option<String>) {
        let hash = hash.unwrap_or_default();
        match self.seen.get(&id) {
            Some((known, first)) if *known != hash => self.warnings.push(format!(
                "{run} has another build of {id} than {first}: what they differ in may come from there"
            )),
            Some(_) => {}
            None => {
                self.seen.insert(id, (hash, run.to_owned()));
            }
        }
    }
}

/// Reads finished runs. An artifact that several of them share is looked through once.
pub struct FinishedRuns<'a> {
    store: &'a Path,
    known: HashMap<String, Artifact>,
    /// The plugins of the runs that were read.
    pub plugins: PluginBuilds,
}

impl<'a> FinishedRuns<'a> {
    /// A reader that looks for artifacts where a run has found them, and then in `store`.
    pub fn new(store: &'a Path) -> Self {
        Self {
            store,
            known: HashMap::new(),
            plugins: PluginBuilds::default(),
        }
    }

    /// The run in the folder `dir`.
    ///
    /// # Errors
    /// The folder holds no finished run, or the store no longer has all of its stages: the message names those.
    pub fn read(&mut self, dir: &Path) -> Result<VariantRun> {
        let (config, about) = files_of(dir)?;
        let (mut artifacts, mut lost) = (Vec::new(), Vec::new());
        for stage in &about.stages {
            match self.find(stage)? {
                Ok(artifact) => artifacts.push(artifact),
                Err(why) => lost.push(why),
            }
        }
        if lost.is_empty() {
            for plugin in about.plugins {
                let id = format!("{}/{}", plugin.kind, plugin.name);
                let run = dir.display().to_string();
                self.plugins
                    .add_one(&run, id, plugin.sha256.or(plugin.sources));
            }
            return assemble(config, &artifacts).map_err(|error| error.context(dir.display()));
        }
        let error = Error::input(format!(
            "the run {}: {} of its {} stages cannot be had: {}",
            dir.display(),
            lost.len(),
            about.stages.len(),
            lost.join("; ")
        ));
        Err(error.hint(format!(
            "--store says where the store is now; `finegrain run {} --out {} --store {}` computes again what is gone",
            dir.join(CONFIG).display(),
            dir.display(),
            self.store.display()
        )))
    }

    /// The artifact of a stage, or why there is none.
    fn find(&mut self, stage: &Stage) -> Result<Result<Artifact, String>> {
        let id = stage.id();
        if named(&id).is_none() {
            return Ok(Err(format!("{id:?} is no stage")));
        }
        if let Some(artifact) = self.known.get(&id) {
            return Ok(Ok(artifact.clone()));
        }
        let places = [
            stage.dir.clone(),
            self.store.join(&stage.name).join(&stage.hash),
        ];
        let mut why = format!(
            "{id} is neither at {} nor in {}",
            places[0].display(),
            self.store.display()
        );
        for dir in places {
            match inspect(&dir, &stage.name, &stage.hash)? {
                State::Sound(record) => {
                    let artifact = Artifact {
                        key: StageKey::of_record(&record),
                        dir,
                        record,
                        fresh: false,
                    };
                    self.known.insert(id, artifact.clone());
                    return Ok(Ok(artifact));
                }
                State::Damaged(damages) => {
                    why = format!("{} is damaged: {}", dir.display(), in_words(&damages));
                }
                State::Absent => {}
            }
        }
        Ok(Err(why))
    }
}

fn files_of(dir: &Path) -> Result<(Config, About)> {
    let read = |name: &str| {
        let path = dir.join(name);
        fs::read_to_string(&path).map_err(|error| {
            let error = Error::io("read", &path, &error);
            error.context(format!("{} is no finished run", dir.display())).hint(
                "a run's folder is what `finegrain run` wrote, or one of those in the folder that `finegrain compare` wrote",
            )
        })
    };
    let (about, config) = (read(ABOUT)?, read(CONFIG)?);
    let damaged = |name: &str, error: &dyn std::fmt::Display| {
        Error::input(format!("{} is damaged: {error}", dir.join(name).display()))
    };
    let config = Config::from_toml(&config).map_err(|error| damaged(CONFIG, &error))?;
    let about = serde_json::from_str(&about).map_err(|error| damaged(ABOUT, &error))?;
    Ok((config, about))
}

/// The run that consists of these artifacts.
fn assemble(config: Config, artifacts: &[Artifact]) -> Result<VariantRun> {
    let any = |stage: &str| {
        let mut of_stage = artifacts
            .iter()
            .filter(|artifact| artifact.key.stage() == stage);
        of_stage.next().cloned()
    };
    let one = |stage: &str| {
        any(stage).ok_or_else(|| Error::input(format!("{ABOUT} names no stage {stage}")))
    };
    let ppo = one("ppo")?;
    // What PPO was made from says which scheme had which reward model, and which had none.
    let rewards = ppo.record.key["rewards"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let model_ids: Vec<Option<&str>> = rewards
        .iter()
        .map(|reward| reward["model"].as_str())
        .collect();
    if model_ids.len() != config.reward.len() {
        return Err(Error::input(format!(
            "{CONFIG} has {} reward schemes and PPO was run with {}",
            config.reward.len(),
            model_ids.len()
        )));
    }
    let of_models = |of: &dyn Fn(&Artifact, &str) -> bool| -> Result<Vec<Option<Artifact>>> {
        let find = |id: &str| {
            let found = artifacts.iter().find(|artifact| of(artifact, id));
            found
                .cloned()
                .ok_or_else(|| Error::input(format!("{ABOUT} lacks a stage of {id}")))
        };
        model_ids
            .iter()
            .map(|id| id.map(find).transpose())
            .collect()
    };
    let data = one("data")?;
    Ok(VariantRun {
        sft: one("sft")?,
        judge_model: any("judge_model"),
        pairs: if config.task.ranks_samples() {
            one("pairs")?
        } else {
            data.clone()
        },
        data,
        edits: one("edits")?,
        reward_models: of_models(&|artifact, id| artifact.key.to_string() == id)?,
        reward_tests: of_models(&|artifact, id| {
            artifact.key.stage() == "reward_tests" && artifact.record.key["model"] == id
        })?,
        evaluation: one("evaluate")?,
        token_views: any("token_views"),
        ppo,
        config,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_build_of_a_plugin_is_worth_a_warning() {
        let mut builds = PluginBuilds::default();
        for (run, id, hash) in [
            ("a", "reward/x", "1"),
            ("a", "judge/x", "2"),
            ("b", "reward/x", "1"),
            ("c", "reward/x", "3"),
        ] {
            builds.add_one(run, id.to_owned(), Some(hash.to_owned()));
        }
        let [warning] = &builds.warnings[..] else {
            panic!("one warning")
        };
        assert!(
            warning.starts_with("c has another build of reward/x than a"),
            "{warning}"
        );
    }
}
