//! One variant under one seed: all stages in order, each found in the store or computed.

use crate::config::{Config, Task};
use crate::error::Result;
use crate::pipeline::Session;
use crate::pipeline::stages::{
    data, edits, evaluate, judge_model, pairs, ppo, reward_model, reward_tests, sft,
};
use crate::pipeline::store::Artifact;

/// A finished variant: its configuration and the artifact of every stage.
#[derive(Clone, Debug)]
pub struct VariantRun {
    /// The resolved configuration, seed included.
    pub config: Config,
    /// Prompts, demonstrations, edits of a file.
    pub data: Artifact,
    /// The SFT model.
    pub sft: Artifact,
    /// The judge's reward model, where the configuration asks for one.
    pub judge_model: Option<Artifact>,
    /// Preference pairs.
    pub pairs: Artifact,
    /// Edits of the less preferred responses.
    pub edits: Artifact,
    /// The reward models, one for each scheme that needs one, in the order of `config.reward`.
    pub reward_models: Vec<Option<Artifact>>,
    /// What the reward models can do: accuracy on pairs and edits, localisation.
    pub reward_tests: Vec<Option<Artifact>>,
    /// PPO.
    pub ppo: Artifact,
    /// The policy against the SFT model.
    pub evaluation: Artifact,
}

impl VariantRun {
    /// Every artifact, in the order of the stages.
    pub fn stages(&self) -> Vec<&Artifact> {
        let mut all = vec![&self.data, &self.sft];
        all.extend(&self.judge_model);
        all.extend([&self.pairs, &self.edits]);
        all.extend(self.reward_models.iter().flatten());
        all.extend(self.reward_tests.iter().flatten());
        all.extend([&self.ppo, &self.evaluation]);
        all
    }
}

/// Runs a variant from its data to its evaluation.
pub fn run(session: &Session<'_>, config: &Config) -> Result<VariantRun> {
    let data = data::obtain(session, config)?;
    let sft = sft::obtain(session, config, &data)?;
    let judge_model = judge_model::obtain(session, config, &data, &sft)?;
    let pairs = pairs::obtain(session, config, &data, &sft, judge_model.as_ref())?;
    let edits_of = match config.task {
        Task::Sandbox => &pairs,
        Task::EditPairs => &data,
    };
    let edits = edits::obtain(session, config, edits_of, &sft)?;
    let mut reward_models = Vec::with_capacity(config.reward.len());
    let mut reward_tests = Vec::with_capacity(config.reward.len());
    for choice in &config.reward {
        let model = reward_model::obtain(session, config, choice, &sft, &pairs, &edits)?;
        let tests = match &model {
            Some(model) => Some(reward_tests::obtain(
                session, config, choice, model, &pairs, &edits,
            )?),
            None => None,
        };
        reward_models.push(model);
        reward_tests.push(tests);
    }
    let ppo = ppo::obtain(
        session,
        config,
        &data,
        &sft,
        &reward_models,
        judge_model.as_ref(),
    )?;
    let evaluation = evaluate::obtain(session, config, &data, &sft, &ppo, judge_model.as_ref())?;
    Ok(VariantRun {
        config: config.clone(),
        data,
        sft,
        judge_model,
        pairs,
        edits,
        reward_models,
        reward_tests,
        ppo,
        evaluation,
    })
}
