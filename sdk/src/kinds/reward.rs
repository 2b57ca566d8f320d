//! Reward schemes: how preferences train a score per token, and which reward each token of a rollout gets.
//!
//! The loss depends on the model only through the scores, so a scheme returns the loss and its gradient by the scores;
//! the host's way back through the model begins with that gradient.

use crate::batch::{Ragged, TextBatch};
use crate::context::CallContext;
use crate::error::{Error, Result};
use crate::kinds::Plugin;

/// One side of a batch of pairs. The three batches have the same offsets: one entry per response token, EOS included
/// where the response has one.
#[derive(Clone, Copy, Debug)]
pub struct ScoredSide<'a> {
    /// `r_t`: the reward head at the hidden state of response token t (f32, any real number).
    pub scores: Ragged<'a, f32>,
    /// The response's token ids.
    pub ids: Ragged<'a, u32>,
    /// 1 where the edit touched the token (U₁ of the paper), else 0; from a token diff of both sides.
    pub changed: Ragged<'a, u8>,
}

/// A batch of scored pairs; row i of both sides answers the same prompt.
#[derive(Clone, Copy, Debug)]
pub struct ScoredPairs<'a> {
    /// The preferred responses (τⁱ; for edit pairs the edited ones). No row is empty.
    pub chosen: ScoredSide<'a>,
    /// The others (τʲ; for edit pairs the originals). No row is empty.
    pub rejected: ScoredSide<'a>,
}

/// Where a scheme writes d loss / d score: flat, in the layout of the scores. The host fills both with NaN first and
/// refuses what is not finite afterwards.
#[derive(Debug)]
pub struct PairGradients<'a> {
    /// By the scores of the chosen responses.
    pub chosen: &'a mut [f32],
    /// By the scores of the rejected responses.
    pub rejected: &'a mut [f32],
}

/// A batch of responses to be rewarded. For a scheme without a reward model `scores` is all zeros.
#[derive(Clone, Copy, Debug)]
pub struct Rollouts<'a> {
    /// `r_t` per response token.
    pub scores: Ragged<'a, f32>,
    /// The response's token ids, with the same offsets as `scores`.
    pub ids: Ragged<'a, u32>,
    /// The prompts' token ids.
    pub prompt_ids: Ragged<'a, u32>,
    /// The prompts as text.
    pub prompts: TextBatch<'a>,
    /// The responses as text, without special tokens.
    pub responses: TextBatch<'a>,
    /// 1 per row where the response ends with EOS, 0 where it ran into the length limit.
    pub ended: &'a [u8],
}

/// A reward scheme.
pub trait RewardScheme: Plugin {
    /// The mean loss over the pairs of this call (natural log), and its gradient by every score.
    ///
    /// # Errors
    /// [`Error::unsupported`] by default, for schemes without a reward model.
    fn preference_loss(
        &self,
        pairs: &ScoredPairs<'_>,
        gradients: PairGradients<'_>,
        context: &CallContext<'_>,
    ) -> Result<f64> {
        let _ = (pairs, gradients, context);
        Err(Error::unsupported(
            "this reward scheme trains no reward model",
        ))
    }

    /// R(τ), one number per row, by which responses are compared (reward-model accuracy, best-of-n).
    /// `rewards` has one element per row, filled with NaN by the host.
    fn sequence_reward(
        &self,
        rollouts: &Rollouts<'_>,
        rewards: &mut [f32],
        context: &CallContext<'_>,
    ) -> Result<()>;

    /// A reward for every response token: PPO sums them along the response. `rewards` is flat in the layout of
    /// `rollouts.ids`, filled with NaN by the host. The KL channel is the host's and not part of it.
    fn token_rewards(
        &self,
        rollouts: &Rollouts<'_>,
        rewards: &mut [f32],
        context: &CallContext<'_>,
    ) -> Result<()>;
}
