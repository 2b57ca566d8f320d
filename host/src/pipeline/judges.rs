//! The judge that a configuration names: a plugin, or a reward model that was trained on a split of its own.

use std::path::Path;

use serde_json::{Value, json};

use crate::config::JudgeConfig;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::eval::Judge;
use crate::eval::reward_judge::RewardJudge;
use crate::pipeline::Session;
use crate::pipeline::origins::Recorded;
use crate::pipeline::stages::reward_model;
use crate::pipeline::store::Artifact;
use crate::plugins::{JudgeInstance, RewardInstance};

/// A judge that a configuration has chosen; known by its key before there is a model to open.
pub enum ChosenJudge<'a> {
    /// A plugin.
    Plugin(JudgeInstance),
    /// A reward model that scores both responses.
    RewardModel {
        /// The artifact that it lies in.
        artifact: &'a Artifact,
        /// The scheme that trained it.
        scheme: RewardInstance,
    },
}

/// What a configuration chooses. `model` is the artifact of the judge's reward model, where the configuration asks for one.
pub fn choose<'a>(
    session: &Session<'_>,
    config: &JudgeConfig,
    model: Option<&'a Artifact>,
) -> Result<ChosenJudge<'a>> {
    let registry = &session.registry;
    if config.is_reward_model() {
        return Ok(ChosenJudge::RewardModel {
            artifact: model
                .ok_or_else(|| Error::internal("the judge's reward model was not trained"))?,
            scheme: registry.reward(&config.scheme.plugin, &config.scheme.options)?,
        });
    }
    let judge = registry.judge(&config.plugin, &config.options)?;
    Ok(ChosenJudge::Plugin(judge))
}

impl ChosenJudge<'_> {
    /// What identifies it in the keys of stages: its instance's fingerprint or, for a reward model, the key of its training.
    pub fn fingerprint(&self) -> Value {
        match self {
            Self::Plugin(judge) => judge.fingerprint().clone(),
            Self::RewardModel { artifact, .. } => json!({ "reward-model": artifact.key }),
        }
    }

    /// The judge, ready to be asked; a reward model is loaded here, on the device. A plugin that says where its verdicts come from
    /// has that written down in `dir`.
    pub fn open(self, device: &Device, dir: &Path) -> Result<Box<dyn Judge>> {
        Ok(match self {
            Self::Plugin(judge) => Box::new(Recorded::new(judge.name(), judge, dir)),
            Self::RewardModel { artifact, scheme } => {
                let (model, tokenizer) = reward_model::load(artifact, device)?;
                let template = reward_model::template(artifact)?;
                Box::new(RewardJudge::new(model, tokenizer, template, scheme))
            }
        })
    }
}
