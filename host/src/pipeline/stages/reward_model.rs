//! The reward-model stage: a score for every token, trained on pairs or edits by a reward scheme.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{EDITS, HELD_OUT_EDITS, HELD_OUT_PAIRS, MODEL, PAIRS, sft};
use crate::config::{Config, PluginChoice, RewardChoice};
use crate::data::alignment::align;
use crate::data::jsonl;
use crate::data::records::{Pair, PairSource};
use crate::data::template::PromptTemplate;
use crate::data::tokenizer::Tokenizer;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::model::{CausalLmConfig, ScoredModel, ends};
use crate::pipeline::Session;
use crate::pipeline::adapters;
use crate::pipeline::context::StageContext;
use crate::pipeline::encoding::{Encoder, PairIds};
use crate::pipeline::report::write_report;
use crate::pipeline::store::{Artifact, StageKey};
use crate::plugins::RewardInstance;
use crate::train::reward_model::{self, HeldOut, RewardModelInputs, TokenPair};

/// What the training of a reward model says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RewardModelSummary {
    /// Loss and accuracy on the held-out pairs of the kind that it was trained on, after every epoch.
    pub held_out: Vec<HeldOut>,
    /// Optimizer steps.
    pub optimizer_steps: u64,
}

/// The reward model of one of a configuration's schemes; `None` where the scheme needs none.
pub fn obtain(
    session: &Session<'_>,
    config: &Config,
    choice: &RewardChoice,
    sft: &Artifact,
    pairs: &Artifact,
    edits: &Artifact,
) -> Result<Option<Artifact>> {
    let scheme = session.registry.reward(&choice.plugin, &choice.options)?;
    if !scheme.capabilities().needs_reward_model {
        return Ok(None);
    }
    let (from, train, held_out) = match config.preferences {
        PairSource::Pairs => (pairs, PAIRS, HELD_OUT_PAIRS),
        PairSource::Edits => (edits, EDITS, HELD_OUT_EDITS),
    };
    let key = key(config, "reward_model", &scheme, sft, from);
    let title = format!("reward model ({}, {})", config.preferences, choice.plugin);
    session
        .stage(config, &title, key, |context| {
            let train: Vec<Pair> = jsonl::read(&from.file(train))?;
            let held_out: Vec<Pair> = jsonl::read(&from.file(held_out))?;
            train_on(context, config, &scheme, sft, &train, &held_out)
        })
        .map(Some)
}

/// What determines a reward model.
pub(super) fn key(
    config: &Config,
    stage: &'static str,
    scheme: &RewardInstance,
    sft: &Artifact,
    data: &Artifact,
) -> StageKey {
    StageKey::new(
        stage,
        json!({
            "sft": sft.key,
            "data": data.key,
            "scheme": scheme.fingerprint(),
            "alignment": config.alignment,
            "template": config.prompt_template,
            "reward_model": config.reward_model,
            "seed": config.seed,
        }),
    )
}

/// Trains a reward model and saves it with its tokenizer.
pub(super) fn train_on(
    context: &StageContext<'_>,
    config: &Config,
    scheme: &RewardInstance,
    sft: &Artifact,
    train: &[Pair],
    held_out: &[Pair],
) -> Result<()> {
    let (backbone, tokenizer) = sft::load(sft, context.device)?;
    let backbone = adapters::ready(backbone, &config.model, &context.stream)?;
    let train = token_pairs(config, &tokenizer, backbone.config(), train)?;
    let held_out = token_pairs(config, &tokenizer, backbone.config(), held_out)?;
    let decode = |before: &[u32], ids: &[u32]| tokenizer.decode_behind(before, ids);
    let eos = ends(backbone.config(), &tokenizer);
    let inputs = RewardModelInputs {
        backbone: &backbone,
        scheme,
        train: &train,
        held_out: &held_out,
        decode: &decode,
        eos: &eos,
        config: &config.reward_model,
    };
    let report = reward_model::run(&inputs, context)?;
    let summary = RewardModelSummary {
        held_out: report.held_out,
        optimizer_steps: report.optimizer_steps,
    };
    write_report(context.dir, &summary)?;
    let dir = context.dir.join(MODEL);
    adapters::save(&report.model, &tokenizer, &config.model, &dir)
}

/// Pairs as ids, with what the diff of both sides says has changed.
pub(super) fn token_pairs(
    config: &Config,
    tokenizer: &Tokenizer,
    model: &CausalLmConfig,
    pairs: &[Pair],
) -> Result<Vec<TokenPair>> {
    let encoder = Encoder::new(tokenizer, &config.prompt_template, model);
    let ends = ends(model, tokenizer);
    pairs
        .iter()
        .map(|pair| {
            let PairIds {
                prompt,
                chosen,
                rejected,
            } = encoder.pair(pair)?;
            let aligned = align(&rejected, &chosen, &ends, &config.alignment);
            Ok(TokenPair {
                prompt,
                chosen,
                rejected,
                chosen_changed: aligned.edited,
                rejected_changed: aligned.original,
            })
        })
        .collect()
}

/// A trained reward model on a device, and its tokenizer.
pub fn load(artifact: &Artifact, device: &Device) -> Result<(ScoredModel, Tokenizer)> {
    let dir = artifact.file(MODEL);
    Ok((ScoredModel::load(&dir)?.to(device)?, Tokenizer::load(&dir)?))
}

/// The prompt template that a reward model was trained with, as its key has it.
pub fn template(artifact: &Artifact) -> Result<PromptTemplate> {
    PromptTemplate::deserialize(&artifact.record.key["template"]).map_err(|error| {
        Error::internal(format!(
            "{} does not say its prompt template: {error}",
            artifact.dir.display()
        ))
    })
}

/// The choice of a scheme without its weight.
pub fn choice_of(reward: &RewardChoice) -> PluginChoice {
    PluginChoice {
        plugin: reward.plugin.clone(),
        options: reward.options.clone(),
    }
}
