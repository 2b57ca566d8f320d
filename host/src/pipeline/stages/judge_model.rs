//! The judge's reward model, trained on edit pairs that no other stage sees.

use super::{HELD_OUT_EDITS, JUDGE_EDITS, reward_model};
use crate::config::Config;
use crate::data::jsonl;
use crate::data::records::Pair;
use crate::error::{Error, Result};
use crate::pipeline::Session;
use crate::pipeline::store::Artifact;

/// The judge's reward model; `None` where neither judge nor annotator asks for one.
pub fn obtain(
    session: &Session<'_>,
    config: &Config,
    data: &Artifact,
    sft: &Artifact,
) -> Result<Option<Artifact>> {
    let asking: Vec<_> = [&config.judge, &config.annotator]
        .into_iter()
        .filter(|judge| judge.is_reward_model())
        .collect();
    let Some(first) = asking.first() else {
        return Ok(None);
    };
    if asking.iter().any(|judge| judge.scheme != first.scheme) {
        return Err(Error::input(
            "judge.scheme and annotator.scheme differ; there is one reward model for both",
        ));
    }
    let scheme = session
        .registry
        .reward(&first.scheme.plugin, &first.scheme.options)?;
    let key = reward_model::key(config, "judge_model", &scheme, sft, data);
    session
        .stage(config, "the judge's reward model", key, |context| {
            let train: Vec<Pair> = jsonl::read(&data.file(JUDGE_EDITS))?;
            if train.is_empty() {
                return Err(Error::input("no edit pairs are left for the judge")
                    .hint("raise data.splits.judge"));
            }
            let held_out: Vec<Pair> = jsonl::read(&data.file(HELD_OUT_EDITS))?;
            reward_model::train_on(context, config, &scheme, sft, &train, &held_out)
        })
        .map(Some)
}
