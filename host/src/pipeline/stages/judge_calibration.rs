//! A judge asked about pairs of which it is known which response is preferred, in both orders.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{data, evaluate, judge_model, sft};
use crate::config::Config;
use crate::data::jsonl;
use crate::data::records::{Pair, Record};
use crate::error::{Error, Result};
use crate::eval::statistics::Bootstrap;
use crate::eval::{Calibration, Contest, Outcome, by_prompt};
use crate::pipeline::plan::Planner;
use crate::pipeline::store::{Artifact, StageKey, sha256};
use crate::pipeline::{Session, judges};

/// A pair and what the judge said of it, as it lies in [`JUDGED_PAIRS`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JudgedPair {
    /// The prompt.
    pub prompt: String,
    /// The response that is known to be preferred: the model's, in the outcome.
    pub chosen: String,
    /// The other response: the reference's, in the outcome.
    pub rejected: String,
    /// What the judge said.
    pub outcome: Outcome,
}

impl Record for JudgedPair {
    const KIND: &'static str = "a judged pair";
    const REQUIRED: &'static [&'static str] = &["prompt", "chosen", "rejected", "outcome"];

    fn id(&self) -> &str {
        &self.outcome.id
    }

    fn texts(&self) -> Vec<(&'static str, &str)> {
        Vec::new()
    }
}

/// The file of [`JudgedPair`]s.
pub const JUDGED_PAIRS: &str = "judged_pairs.jsonl";

/// What a configuration's judge says of these pairs.
///
/// # Errors
/// The judge fails, on more pairs than `judge.max_failed` allows or altogether; it is a reward model, and the store has none.
pub fn obtain(session: &Session<'_>, config: &Config, pairs: &[Pair]) -> Result<Artifact> {
    let model = trained_model(session, config)?;
    let judge = judges::choose(session, &config.judge, model.as_ref())?;
    let asked: Vec<_> = pairs
        .iter()
        .map(|pair| json!([pair.id, pair.prompt, pair.chosen, pair.rejected]))
        .collect();
    let asked = serde_json::to_vec(&asked)
        .map_err(|error| Error::internal(format!("pairs do not serialise: {error}")))?;
    let key = StageKey::new(
        "judge_calibration",
        json!({ "pairs": sha256(&asked), "judge": judge.fingerprint(), "seed": config.seed }),
    );
    session.stage(config, "judge calibration", key, |context| {
        let judge = judge.open(context.device, context.dir)?;
        let log = context.plugin_log();
        let progress = |done: u64, total: u64| context.observer.progress(done, total, "judged");
        let call = finegrain_sdk::CallContext {
            progress: &progress,
            ..context.call("judge", 0, &log)
        };
        let contests: Vec<Contest<'_>> = pairs
            .iter()
            .map(|pair| Contest {
                id: &pair.id,
                prompt: &pair.prompt,
                model: &pair.chosen,
                reference: &pair.rejected,
            })
            .collect();
        let outcomes = judge.judge(&contests, &call)?;
        evaluate::check_failures("judge", &config.judge, &outcomes)?;
        let rows: Vec<JudgedPair> = pairs
            .iter()
            .zip(outcomes)
            .map(|(pair, outcome)| JudgedPair {
                prompt: pair.prompt.clone(),
                chosen: pair.chosen.clone(),
                rejected: pair.rejected.clone(),
                outcome,
            })
            .collect();
        jsonl::write(&context.dir.join(JUDGED_PAIRS), &rows)
    })
}

/// What follows from the judged pairs; pairs of equal prompts are drawn together.
pub fn calibration(config: &Config, rows: &[JudgedPair]) -> Calibration {
    let prompts = by_prompt(rows.iter().map(|row| (row.prompt.as_str(), &row.outcome)));
    let stream = finegrain_sdk::rng::Stream::new(config.seed).child("judge-calibration");
    let bootstrap = Bootstrap::new(stream).with_resamples(config.evaluation.bootstrap_samples);
    let members = config.judge.members();
    if config.judge.is_panel() {
        let names: Vec<&str> = members.iter().map(|member| member.name).collect();
        return Calibration::of("panel", &names, &prompts, &bootstrap);
    }
    Calibration::of(&config.judge.plugin, &[], &prompts, &bootstrap)
}

/// The judge's reward model as a run with this configuration has trained it; nothing is trained here. `None` where the judge is
/// none.
fn trained_model(session: &Session<'_>, config: &Config) -> Result<Option<Artifact>> {
    if !config.judge.asks_reward_model() {
        return Ok(None);
    }
    let planner = Planner::default();
    let planning = Session {
        planner: Some(&planner),
        ..session.for_another_run()
    };
    let data = data::obtain(&planning, config)?;
    let sft = sft::obtain(&planning, config, &data)?;
    let Some(model) = judge_model::obtain(&planning, config, &data, &sft)? else {
        return Ok(None);
    };
    let (stage, hash) = (model.key.stage(), model.key.hash());
    match session.store.peek(stage, hash)? {
        Some(record) => Ok(Some(Artifact { record, ..model })),
        None => Err(Error::input(format!(
            "judge.use: the reward model of this configuration and seed ({stage}/{hash}) is not in the store {}, and a \
             calibration trains none",
            session.store.root().display()
        ))
        .hint(
            "accepted: a judge plugin, or `reward-model` once `finegrain run` has trained it with this configuration, seed and \
             store",
        )),
    }
}
