//! What a comparison would do: every stage of its runs, which of them the store has, and how long the others may take.
//!
//! The key of a stage follows from the keys of its inputs, so all of them are known before anything is computed. A plan
//! is made by the stages themselves: their session writes each key down and answers with where its artifact will lie.

mod describe;
mod estimate;
pub mod servers;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::config::Config;
use crate::error::Result;
use crate::pipeline::store::{Artifact, StageKey, Store, record};
use crate::pipeline::{Session, variant};
pub use describe::{in_one_line, table};
pub use estimate::Estimate;
use estimate::Past;

/// A stage that was asked for.
struct Asked {
    title: String,
    key: StageKey,
    cached: bool,
}

/// Takes the stages that a session is asked for while it plans.
#[derive(Default)]
pub struct Planner {
    asked: Mutex<Vec<Asked>>,
}

impl Planner {
    /// Writes a stage down. The answer says where the artifact lies or will lie; what was not made has no files.
    pub(super) fn write_down(&self, store: &Store, title: &str, key: StageKey) -> Result<Artifact> {
        let found = store.peek(key.stage(), key.hash())?;
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.push(Asked {
            title: title.to_owned(),
            key: key.clone(),
            cached: found.is_some(),
        });
        Ok(Artifact {
            dir: store.place(&key),
            record: found.unwrap_or_else(|| record::expected(&key)),
            key,
            fresh: false,
        })
    }

    fn into_asked(self) -> Vec<Asked> {
        self.asked
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A run and its stages.
#[derive(Clone, Debug, Serialize)]
pub struct PlannedRun {
    /// The variant's name.
    pub name: String,
    /// The seed.
    pub seed: u64,
    /// Its stages in order, as `stage/hash`.
    pub stages: Vec<String>,
}

/// A stage, however many runs share it.
#[derive(Clone, Debug, Serialize)]
pub struct PlannedStage {
    /// The stage's name.
    pub stage: String,
    /// The hash of its key.
    pub hash: String,
    /// What it is called while it is computed.
    pub title: String,
    /// The runs that use it.
    pub runs: usize,
    /// The seeds of these runs.
    pub seeds: BTreeSet<u64>,
    /// Whether the store has it. Its files are looked through when it is used; a damaged one is computed again.
    pub cached: bool,
    /// How long it may take, where it has to be computed and the store has a stage of its kind to go by.
    pub estimate: Option<Estimate>,
}

/// What a comparison would do.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// The runs, in the order in which they begin.
    pub runs: Vec<PlannedRun>,
    /// Their stages, each once, in the order in which they are first needed.
    pub stages: Vec<PlannedStage>,
    /// How many of the stages the store has.
    pub cached: usize,
    /// How many have to be computed.
    pub to_compute: usize,
    /// The sum of the estimates in seconds, for one stage after another.
    pub estimated_seconds: f64,
    /// How many stages have to be computed of which nothing tells how long they take.
    pub without_estimate: usize,
    /// What they would ask of servers, where that was foreseen: [`servers::forecast`].
    pub servers: Option<servers::Servers>,
}

/// Plans runs, one for each configuration (with its seed). Nothing is computed and nothing in the store is changed; files that
/// keys depend on (a file of edits, a model to start from) are read, and a model of the hub is downloaded where it is not
/// cached.
///
/// # Errors
/// A file that a key depends on is missing, a plugin or an option is unknown.
pub fn plan(session: &Session<'_>, runs: &[Config]) -> Result<Plan> {
    let mut stages: Vec<PlannedStage> = Vec::new();
    let mut keys: Vec<StageKey> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut planned = Vec::with_capacity(runs.len());
    for config in runs {
        let planner = Planner::default();
        let planning = Session {
            planner: Some(&planner),
            ..session.for_another_run()
        };
        variant::run(&planning, config)?;
        drop(planning);
        let mut run = PlannedRun {
            name: config.name.clone(),
            seed: config.seed,
            stages: Vec::new(),
        };
        for Asked { title, key, cached } in planner.into_asked() {
            let id = key.to_string();
            if run.stages.contains(&id) {
                continue;
            }
            run.stages.push(id.clone());
            let at = *places.entry(id).or_insert(stages.len());
            if at == stages.len() {
                stages.push(PlannedStage {
                    stage: key.stage().to_owned(),
                    hash: key.hash().to_owned(),
                    title,
                    runs: 0,
                    seeds: BTreeSet::new(),
                    cached,
                    estimate: None,
                });
                keys.push(key);
            }
            stages[at].runs += 1;
            stages[at].seeds.insert(config.seed);
        }
        planned.push(run);
    }
    let mut past = Past::new(&session.store, &keys);
    for (stage, key) in stages.iter_mut().zip(&keys) {
        if !stage.cached {
            stage.estimate = past.estimate(key)?;
        }
    }
    let cached = stages.iter().filter(|stage| stage.cached).count();
    let estimates = || stages.iter().filter_map(|stage| stage.estimate.as_ref());
    Ok(Plan {
        cached,
        to_compute: stages.len() - cached,
        estimated_seconds: estimates().map(|estimate| estimate.seconds).sum(),
        without_estimate: stages.len() - cached - estimates().count(),
        runs: planned,
        stages,
        servers: None,
    })
}
