//! Prompts and responses in the form that reward schemes take: ids, texts, scores, and whether the response ended.

use finegrain_sdk::context::LogLevel;
use finegrain_sdk::kinds::Rollouts;

use super::forward;
use crate::data::ragged::{RaggedVec, TextVec, TokenBatch};
use crate::error::{Error, Result};
use crate::model::ScoredModel;
use crate::pipeline::context::StageContext;
use crate::plugins::instance::RewardInstance;

/// From token ids to text, without special tokens: first what stands before them in their row (a response's prompt, nothing
/// before a prompt), then the ids.
pub type Decode<'a> = dyn Fn(&[u32], &[u32]) -> Result<String> + 'a;

/// Everything of a batch that a reward scheme may look at, but for the scores.
pub struct RolloutBatch {
    ids: RaggedVec<u32>,
    prompt_ids: RaggedVec<u32>,
    prompts: TextVec,
    responses: TextVec,
    ended: Vec<u8>,
}

impl RolloutBatch {
    /// Decodes the texts of a batch; `ended` is 1 per row whose response ended with EOS.
    pub fn new(batch: &TokenBatch, ended: Vec<u8>, decode: &Decode<'_>) -> Result<Self> {
        let rows = 0..batch.rows();
        let prompts = rows.clone().map(|row| decode(&[], batch.prompt(row)));
        let responses = rows.map(|row| decode(batch.prompt(row), batch.response(row)));
        Ok(Self {
            ids: batch.responses(),
            prompt_ids: batch.prompts(),
            prompts: prompts.collect::<Result<Vec<_>>>()?.into_iter().collect(),
            responses: responses.collect::<Result<Vec<_>>>()?.into_iter().collect(),
            ended,
        })
    }

    /// Response offsets, rows + 1.
    pub fn offsets(&self) -> &[u64] {
        self.ids.offsets()
    }

    /// The view that plugins take, with a reward model's scores; without a model they are zeros.
    fn with_scores<T>(
        &self,
        scores: Option<Vec<f32>>,
        call: impl FnOnce(&Rollouts<'_>) -> Result<T>,
    ) -> Result<T> {
        let scores = scores.unwrap_or_else(|| vec![0.0; self.ids.values().len()]);
        let scores = RaggedVec::from_parts(scores, self.offsets().to_vec())?;
        call(&Rollouts {
            scores: scores.view(),
            ids: self.ids.view(),
            prompt_ids: self.prompt_ids.view(),
            prompts: self.prompts.view(),
            responses: self.responses.view(),
            ended: &self.ended,
        })
    }
}

/// 1 per row whose response ends with one of `eos`.
pub fn ended(batch: &TokenBatch, eos: &[u32]) -> Vec<u8> {
    (0..batch.rows())
        .map(|row| {
            let last = batch.response(row).last();
            u8::from(last.is_some_and(|id| eos.contains(id)))
        })
        .collect()
}

/// A reward scheme and the reward model that it reads, under the name of its reward channel.
pub struct RewardSource<'a> {
    /// The name in metrics and in plugin contexts.
    pub name: &'a str,
    /// The scheme.
    pub scheme: &'a RewardInstance,
    /// Its reward model; a scheme that needs none has none.
    pub model: Option<&'a ScoredModel>,
}

impl RewardSource<'_> {
    fn scores(&self, batch: &TokenBatch, micro_batch_tokens: usize) -> Result<Option<Vec<f32>>> {
        if self.model.is_none() && self.scheme.capabilities().needs_reward_model {
            return Err(Error::internal(format!(
                "reward {} needs a reward model and was given none",
                self.name
            )));
        }
        self.model
            .map(|model| forward::scores(model, batch, micro_batch_tokens))
            .transpose()
    }

    /// R(τ), one number per row.
    pub fn sequence_rewards(
        &self,
        batch: &TokenBatch,
        rollouts: &RolloutBatch,
        micro_batch_tokens: usize,
        step: u64,
        context: &StageContext<'_>,
    ) -> Result<Vec<f32>> {
        let scores = self.scores(batch, micro_batch_tokens)?;
        rollouts.with_scores(scores, |view| {
            self.scheme
                .sequence_reward(view, &context.call(self.name, step, &log(context)))
        })
    }

    /// A reward for every response token, flat.
    pub fn token_rewards(
        &self,
        batch: &TokenBatch,
        rollouts: &RolloutBatch,
        micro_batch_tokens: usize,
        step: u64,
        context: &StageContext<'_>,
    ) -> Result<Vec<f32>> {
        let scores = self.scores(batch, micro_batch_tokens)?;
        rollouts.with_scores(scores, |view| {
            self.scheme
                .token_rewards(view, &context.call(self.name, step, &log(context)))
        })
    }
}

/// Where a plugin's lines go: warnings to the user; the observer has no place for the rest.
pub(super) fn log<'a>(context: &'a StageContext<'_>) -> impl Fn(LogLevel, &str) + Sync + 'a {
    |level, message| {
        if level == LogLevel::Warn {
            context.observer.warn(message);
        }
    }
}
