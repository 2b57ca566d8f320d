//! Edit pairs out of one file: SFT learns the originals, everything else the edits.

use super::Remarks;
use super::fit::Fit;
use crate::config::Config;
use crate::data::config::DataConfig;
use crate::data::edit_pairs::{self, EditPair, EditPairs};
use crate::data::jsonl;
use crate::data::overlap;
use crate::data::records::{Demonstration, Pair, PromptRecord, counted};
use crate::data::splits::Split;
use crate::error::{Error, Result};
use crate::pipeline::context::StageContext;
use crate::pipeline::stages::{
    DEMONSTRATIONS, EDITS, EVAL_PROMPTS, HELD_OUT_EDITS, JUDGE_EDITS, PPO_PROMPTS, REWARD_PROMPTS,
};

/// The pairs of a file that the model can take, in splits of which none is empty that has to have some.
///
/// # Errors
/// A file that is not read, and a split of which nothing is left.
pub(super) fn usable(config: &Config, data: &DataConfig) -> Result<EditPairs> {
    let mut pairs = edit_pairs::load(data, "".as_ref(), config.prompt_template.takes_turns())?;
    Fit::of(config)?
        .edit_pairs(&mut pairs)
        .map_err(|error| error.context(data.path.display()))?;
    for split in [Split::Reward, Split::Ppo, Split::Eval, Split::HeldOut] {
        if pairs.of(split).is_empty() {
            return Err(Error::input(format!(
                "{}: no edit pairs are left for the split {split}; {} rows were set aside ({})",
                data.path.display(),
                pairs.set_aside.len(),
                counted(&pairs.set_aside)
            ))
            .hint("check data.original_field, data.edited_field and the prompt's keys, and data.splits"));
        }
    }
    Ok(pairs)
}

/// Writes the splits.
pub(super) fn write(
    context: &StageContext<'_>,
    data: &DataConfig,
    pairs: &EditPairs,
) -> Result<()> {
    let demonstrations: Vec<Demonstration> = pairs
        .of(Split::Sft)
        .iter()
        .map(
            |EditPair {
                 id,
                 prompt,
                 original,
                 ..
             }| Demonstration {
                id: id.clone(),
                prompt: prompt.clone(),
                // The policy learns to answer as the unedited responses do: what edits would improve is there to be improved.
                response: original.clone(),
            },
        )
        .collect();
    let write_prompts =
        |name: &str, split: Split| jsonl::write(&context.dir.join(name), &prompts(pairs, split));
    let write_pairs = |name: &str, split: Split| {
        let pairs: Vec<Pair> = pairs.of(split).iter().map(EditPair::pair).collect();
        jsonl::write(&context.dir.join(name), &pairs)
    };
    jsonl::write(&context.dir.join(DEMONSTRATIONS), &demonstrations)?;
    write_prompts(REWARD_PROMPTS, Split::Reward)?;
    write_prompts(PPO_PROMPTS, Split::Ppo)?;
    write_prompts(EVAL_PROMPTS, Split::Eval)?;
    write_pairs(EDITS, Split::Reward)?;
    write_pairs(HELD_OUT_EDITS, Split::HeldOut)?;
    write_pairs(JUDGE_EDITS, Split::Judge)?;
    remarks(data, pairs).write(context)?;
    context.set_aside(&pairs.set_aside)
}

fn prompts(pairs: &EditPairs, split: Split) -> Vec<PromptRecord> {
    let record = |pair: &EditPair| PromptRecord {
        id: pair.id.clone(),
        prompt: pair.prompt.clone(),
    };
    pairs.of(split).iter().map(record).collect()
}

fn remarks(data: &DataConfig, pairs: &EditPairs) -> Remarks {
    let counts: Vec<String> = Split::ALL
        .into_iter()
        .map(|split| (split, pairs.of(split).len()))
        .filter(|(_, rows)| *rows > 0)
        .map(|(split, rows)| format!("{split} {rows}"))
        .collect();
    let layout = pairs
        .layout
        .map_or_else(String::new, |layout| format!(", layout {layout}"));
    let cure = match (&data.group_field, &data.prompt_field) {
        (Some(field), _) => format!("rows with one prompt have several values of data.group_field, `{field}`"),
        (None, Some(field)) => {
            format!("data.group_field = \"{field}\" keeps the rows of a prompt in one split")
        }
        (None, None) => {
            "prompts that are the first words of a text repeat: a prompt field, or a larger data.prompt_words, tells them apart"
                .to_owned()
        }
    };
    Remarks {
        said: vec![format!("edit pairs: {}{layout}", counts.join(", "))],
        warnings: overlap::in_words(&pairs.shared_prompts(), &cure)
            .into_iter()
            .collect(),
    }
}
