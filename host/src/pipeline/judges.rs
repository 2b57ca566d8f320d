//! The judge that a configuration names: a plugin, or a reward model that was trained on a split of its own.

use serde_json::{Value, json};

use crate::config::JudgeConfig;
use crate::error::{Error, Result};
use crate::eval::Judge;
use crate::eval::reward_judge::RewardJudge;
use crate::pipeline::Session;
use crate::pipeline::stages::reward_model;
use crate::pipeline::store::Artifact;

/// A judge, and what identifies it in the keys of stages.
pub struct ChosenJudge {
    /// The judge.
    pub judge: Box<dyn Judge>,
    /// Its instance's fingerprint or, for a reward model, the key of its training.
    pub fingerprint: Value,
}

/// Opens a judge. `model` is the artifact of the judge's reward model, where the configuration asks for one.
pub fn open(
    session: &Session<'_>,
    config: &JudgeConfig,
    model: Option<&Artifact>,
) -> Result<ChosenJudge> {
    if config.is_reward_model() {
        let artifact =
            model.ok_or_else(|| Error::internal("the judge's reward model was not trained"))?;
        let scheme = session
            .registry
            .reward(&config.scheme.plugin, &config.scheme.options)?;
        let (model, tokenizer) = reward_model::load(artifact)?;
        let template = reward_model::template(artifact)?;
        return Ok(ChosenJudge {
            fingerprint: json!({ "reward-model": artifact.key }),
            judge: Box::new(RewardJudge::new(model, tokenizer, template, scheme)),
        });
    }
    let judge = session.registry.judge(&config.plugin, &config.options)?;
    Ok(ChosenJudge {
        fingerprint: judge.fingerprint().clone(),
        judge: Box::new(judge),
    })
}
