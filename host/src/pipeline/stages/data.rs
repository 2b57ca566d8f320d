//! The data stage: prompts, demonstrations and, out of a file, edit pairs; in splits that do not overlap.

mod fit;

use std::path::PathBuf;

use serde_json::json;

use super::{
    DEMONSTRATIONS, EDITS, EVAL_PROMPTS, HELD_OUT_EDITS, JUDGE_EDITS, PPO_PROMPTS, REWARD_PROMPTS,
};
use crate::builtins;
use crate::config::{Config, Task};
use crate::data::edit_pairs::{self, EditPair, EditPairs, EditPairsConfig, Split};
use crate::data::jsonl;
use crate::data::records::{Demonstration, Pair, PromptRecord, SetAside};
use crate::error::{Error, Result};
use crate::pipeline::Session;
use crate::pipeline::context::StageContext;
use crate::pipeline::store::{Artifact, StageKey, sha256_of_file};
use crate::sandbox::{self, ModelShape, SandboxConfig};
use fit::Fit;

/// The data of a configuration.
pub fn obtain(session: &Session<'_>, config: &Config) -> Result<Artifact> {
    match config.task {
        Task::Sandbox => from_sandbox(session, config),
        Task::EditPairs => from_file(session, config, config.edit_pairs()?),
    }
}

fn from_sandbox(session: &Session<'_>, config: &Config) -> Result<Artifact> {
    // The model's shape is the SFT stage's business.
    let corpus = SandboxConfig {
        model: ModelShape::default(),
        ..config.sandbox.clone()
    };
    // The language and its defects are code, which decides the data as much as the numbers do.
    let rubric = builtins::sources("finegrain-rubric");
    let key = StageKey::new(
        "data",
        json!({ "sandbox": corpus, "rubric": rubric, "seed": config.seed }),
    );
    session.stage(config, "sandbox data", key, |context| {
        let corpus = sandbox::generate(&config.sandbox, &context.stream)?;
        jsonl::write(&context.dir.join(DEMONSTRATIONS), &corpus.demonstrations)?;
        jsonl::write(&context.dir.join(REWARD_PROMPTS), &corpus.reward_prompts)?;
        jsonl::write(&context.dir.join(PPO_PROMPTS), &corpus.ppo_prompts)?;
        jsonl::write(&context.dir.join(EVAL_PROMPTS), &corpus.eval_prompts)
    })
}

/// The splits of a file follow from its ids, so that they are the same for every seed.
fn from_file(session: &Session<'_>, config: &Config, data: &EditPairsConfig) -> Result<Artifact> {
    let key = key(config, data)?;
    session.stage(config, "edit pairs", key, |context| {
        write_splits(context, &usable(config, data)?)
    })
}

fn key(config: &Config, data: &EditPairsConfig) -> Result<StageKey> {
    // The path says nothing about the content; the hash does.
    let mapping = EditPairsConfig {
        path: PathBuf::new(),
        ..data.clone()
    };
    Ok(StageKey::new(
        "data",
        json!({
            "file": sha256_of_file(&data.path)?,
            "mapping": mapping,
            "fit": Fit::key(config)?,
        }),
    ))
}

/// The key of a data stage that reads a file; `None` for data that are made.
pub fn key_of_file(config: &Config) -> Result<Option<StageKey>> {
    match config.task {
        Task::Sandbox => Ok(None),
        Task::EditPairs => key(config, config.edit_pairs()?).map(Some),
    }
}

/// The rows that the data stage would set aside of a file; nothing is written, and no weights are read.
///
/// # Errors
/// Those of the stage.
pub fn foresee(config: &Config) -> Result<Vec<SetAside>> {
    match config.task {
        Task::Sandbox => Ok(Vec::new()),
        Task::EditPairs => Ok(usable(config, config.edit_pairs()?)?.set_aside),
    }
}

/// The pairs of a file that the model can take, in splits of which none is empty that has to have some.
fn usable(config: &Config, data: &EditPairsConfig) -> Result<EditPairs> {
    let mut pairs = edit_pairs::load(data, "".as_ref())?;
    let fit = Fit::of(config)?;
    fit.apply(&mut pairs)
        .map_err(|error| error.context(data.path.display()))?;
    for split in [Split::Reward, Split::Ppo, Split::Eval, Split::HeldOut] {
        if pairs.of(split).is_empty() {
            return Err(Error::input(format!(
                "{}: no edit pairs are left for the split {split}; {} rows were set aside ({})",
                data.path.display(),
                pairs.set_aside.len(),
                SetAside::counts(&pairs.set_aside)
            ))
            .hint("check data.original_field, data.edited_field and the prompt's keys, and data.splits"));
        }
    }
    Ok(pairs)
}

fn write_splits(context: &StageContext<'_>, pairs: &EditPairs) -> Result<()> {
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
    context.set_aside(&pairs.set_aside)
}

fn prompts(pairs: &EditPairs, split: Split) -> Vec<PromptRecord> {
    let record = |pair: &EditPair| PromptRecord {
        id: pair.id.clone(),
        prompt: pair.prompt.clone(),
    };
    pairs.of(split).iter().map(record).collect()
}
