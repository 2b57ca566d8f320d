//! R(τ) of whole responses: the reward model's scores, turned into one number per response by the reward scheme.

use finegrain_sdk::CallContext;
use finegrain_sdk::kinds::Rollouts;

use crate::data::ragged::{RaggedVec, TextVec, TokenBatch};
use crate::error::{Error, Result};
use crate::model::ScoredModel;
use crate::plugins::RewardInstance;

/// The part of a reward scheme that turns token scores into a reward per response.
pub trait SequenceReward {
    /// Name for reports.
    fn name(&self) -> String;

    /// R(τ), finite, one per row.
    fn sequence_reward(
        &self,
        rollouts: &Rollouts<'_>,
        context: &CallContext<'_>,
    ) -> Result<Vec<f32>>;
}

impl SequenceReward for RewardInstance {
    fn name(&self) -> String {
        self.identity().name.clone()
    }

    fn sequence_reward(
        &self,
        rollouts: &Rollouts<'_>,
        context: &CallContext<'_>,
    ) -> Result<Vec<f32>> {
        RewardInstance::sequence_reward(self, rollouts, context)
    }
}

/// A response to be scored, as text and as the tokens that the model sees.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoredText<'a> {
    /// The prompt.
    pub prompt: &'a str,
    /// The response.
    pub response: &'a str,
    /// Ids of the prompt, at least one.
    pub prompt_ids: Vec<u32>,
    /// Ids of the response, at least one; EOS included where it `ended`.
    pub response_ids: Vec<u32>,
    /// Whether the response ends with EOS.
    pub ended: bool,
}

impl ScoredText<'_> {
    fn tokens(&self) -> usize {
        self.prompt_ids.len() + self.response_ids.len()
    }
}

/// Tokens that go through the model at once: enough to keep all threads busy, and a few megabytes of activations per layer
/// of a small model.
pub const BATCH_TOKENS: usize = 4096;

/// R(τ) of every text, in order.
///
/// # Errors
/// Failures of the model or the scheme, an interrupt, or a number of rewards that is not the number of rows.
pub fn sequence_rewards(
    model: &ScoredModel,
    scheme: &dyn SequenceReward,
    texts: &[ScoredText<'_>],
    context: &CallContext<'_>,
) -> Result<Vec<f32>> {
    let mut rewards = Vec::with_capacity(texts.len());
    while rewards.len() < texts.len() {
        if context.cancelled() {
            return Err(Error::interrupted());
        }
        let batch = next_batch(&texts[rewards.len()..]);
        let found = batch_rewards(model, scheme, batch, context)?;
        if found.len() != batch.len() {
            return Err(Error::plugin(format!(
                "reward scheme `{}` gave {} rewards for {} responses",
                scheme.name(),
                found.len(),
                batch.len()
            )));
        }
        rewards.extend(found);
        context.progress(rewards.len() as u64, texts.len() as u64);
    }
    Ok(rewards)
}

/// The texts from the first on that fit into a batch, at least one.
fn next_batch<'s, 'a>(texts: &'s [ScoredText<'a>]) -> &'s [ScoredText<'a>] {
    let mut tokens = 0;
    let fits = texts.iter().take_while(|text| {
        tokens += text.tokens();
        tokens <= BATCH_TOKENS
    });
    &texts[..fits.count().max(1)]
}

fn batch_rewards(
    model: &ScoredModel,
    scheme: &dyn SequenceReward,
    texts: &[ScoredText<'_>],
    context: &CallContext<'_>,
) -> Result<Vec<f32>> {
    let mut batch = TokenBatch::new();
    for text in texts {
        batch.push(&text.prompt_ids, &text.response_ids);
    }
    let (ids, prompt_ids) = (batch.responses(), batch.prompts());
    let scores = RaggedVec::from_parts(model.scores(&batch)?, ids.offsets().to_vec())?;
    let prompts: TextVec = texts.iter().map(|t| t.prompt).collect();
    let responses: TextVec = texts.iter().map(|t| t.response).collect();
    let ended: Vec<u8> = texts.iter().map(|t| u8::from(t.ended)).collect();
    scheme.sequence_reward(
        &Rollouts {
            scores: scores.view(),
            ids: ids.view(),
            prompt_ids: prompt_ids.view(),
            prompts: prompts.view(),
            responses: responses.view(),
            ended: &ended,
        },
        context,
    )
}
