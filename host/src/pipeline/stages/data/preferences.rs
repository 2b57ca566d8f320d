//! Demonstrations, pairs, prompts and references out of the user's files.

use super::Remarks;
use super::fit::Fit;
use crate::config::Config;
use crate::data::config::DataConfig;
use crate::data::jsonl;
use crate::data::overlap;
use crate::data::preferences::{self, Preferences};
use crate::data::splits::Split;
use crate::error::Result;
use crate::pipeline::context::StageContext;
use crate::pipeline::stages::{
    DEMONSTRATIONS, EVAL_PROMPTS, EVAL_REFERENCES, HELD_OUT_PAIRS, JUDGE_PAIRS, PAIRS, PPO_PROMPTS,
    REWARD_PROMPTS,
};

/// What ends prompts that are trained on and tested with.
const CURE: &str = "take them out of one of the files, or leave its path away and let a share of the preferences, which are \
                    split by prompt, take its place";

/// The rows of the files that the model can take.
///
/// # Errors
/// A file that is not read, and a use of which nothing is left.
pub(super) fn usable(config: &Config, data: &DataConfig) -> Result<Preferences> {
    let mut read = preferences::load(data, config.prompt_template.takes_turns())?;
    Fit::of(config)?.preferences(&mut read)?;
    read.check()?;
    Ok(read)
}

/// Writes what each stage takes.
pub(super) fn write(context: &StageContext<'_>, read: &Preferences) -> Result<()> {
    let place = |name: &str| context.dir.join(name);
    jsonl::write(&place(DEMONSTRATIONS), &read.demonstrations)?;
    jsonl::write(&place(PAIRS), read.pairs_of(Split::Reward))?;
    jsonl::write(&place(HELD_OUT_PAIRS), read.pairs_of(Split::HeldOut))?;
    jsonl::write(&place(JUDGE_PAIRS), read.pairs_of(Split::Judge))?;
    jsonl::write(&place(REWARD_PROMPTS), &read.reward_prompts())?;
    jsonl::write(&place(PPO_PROMPTS), &read.prompts)?;
    jsonl::write(&place(EVAL_PROMPTS), &read.evaluation)?;
    if !read.references.is_empty() {
        jsonl::write(&place(EVAL_REFERENCES), &read.references)?;
    }
    remarks(read).write(context)?;
    context.set_aside(&read.set_aside)
}

fn remarks(read: &Preferences) -> Remarks {
    let mut said = read.said.clone();
    said.push(format!(
        "preferences: {} demonstrations, {} pairs for the reward model, {} held out, {} for a judge, {} prompts for PPO, \
         {} for the evaluation, {}",
        read.demonstrations.len(),
        read.pairs_of(Split::Reward).len(),
        read.pairs_of(Split::HeldOut).len(),
        read.pairs_of(Split::Judge).len(),
        read.prompts.len(),
        read.evaluation.len(),
        if read.references.is_empty() { "which has no outputs" } else { "with outputs" }
    ));
    if read.left_over > 0 {
        said.push(format!(
            "preferences: {} pairs are in no split",
            read.left_over
        ));
    }
    Remarks {
        said,
        warnings: overlap::in_words(&read.shared_prompts(), CURE)
            .into_iter()
            .collect(),
    }
}
