//! The judge's reward model, trained on pairs that no other stage sees: edits of a file of edits, preferences of a file of those.

use super::{HELD_OUT_EDITS, HELD_OUT_PAIRS, JUDGE_EDITS, JUDGE_PAIRS, reward_model};
use crate::config::{Config, Task};
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
    let asking: Vec<_> = config
        .judges()
        .map(|(_, judge)| judge)
        .filter(|judge| judge.asks_reward_model())
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
    let (trained, tested) = match config.task {
        Task::Preferences => (JUDGE_PAIRS, HELD_OUT_PAIRS),
        Task::Sandbox | Task::EditPairs => (JUDGE_EDITS, HELD_OUT_EDITS),
    };
    session
        .stage(config, "the judge's reward model", key, |context| {
            let train: Vec<Pair> = jsonl::read(&data.file(trained))?;
            if train.is_empty() {
                return Err(
                    Error::input("no pairs are left for the judge").hint("raise data.splits.judge")
                );
            }
            let held_out: Vec<Pair> = jsonl::read(&data.file(tested))?;
            reward_model::train_on(context, config, &scheme, sft, &train, &held_out)
        })
        .map(Some)
}
