//! A reward scheme as the host calls it.

use finegrain_sdk::CallContext;
use finegrain_sdk::abi::reward::RewardObject;
use finegrain_sdk::kinds::{PairGradients, Rollouts, ScoredPairs};

use super::{Handle, instance_accessors, output};
use crate::error::Result;

/// An instance of a reward scheme.
pub struct RewardInstance {
    pub(super) handle: Handle,
    object: RewardObject,
}

instance_accessors!(RewardInstance);

/// A preference loss and its gradient by every score, all finite.
#[derive(Clone, Debug, PartialEq)]
pub struct PairLoss {
    /// The mean loss over the pairs (natural log).
    pub loss: f64,
    /// d loss / d score of the chosen responses, in the layout of their scores.
    pub chosen: Vec<f32>,
    /// d loss / d score of the rejected responses, in the layout of their scores.
    pub rejected: Vec<f32>,
}

impl RewardInstance {
    pub(crate) fn new(handle: Handle, object: RewardObject) -> Self {
        Self { handle, object }
    }

    /// The loss over a batch of scored pairs, and its gradient.
    ///
    /// # Errors
    /// A failure of the plugin; a loss or a gradient that is unwritten or not finite.
    pub fn preference_loss(
        &self,
        pairs: &ScoredPairs<'_>,
        context: &CallContext<'_>,
    ) -> Result<PairLoss> {
        let (chosen_scores, rejected_scores) = (pairs.chosen.scores, pairs.rejected.scores);
        let mut chosen = output::unwritten(chosen_scores.values().len());
        let mut rejected = output::unwritten(rejected_scores.values().len());
        let loss = self.handle.call(context, |context| {
            let gradients = PairGradients {
                chosen: &mut chosen,
                rejected: &mut rejected,
            };
            self.object.preference_loss(pairs, gradients, context)
        })?;
        if !loss.is_finite() {
            let fault = format!("the loss is {loss}, and only finite numbers are accepted");
            return Err(self.handle.broken(context, None, &fault));
        }
        for (what, gradient, scores) in [
            ("the gradient by the chosen score", &chosen, chosen_scores),
            (
                "the gradient by the rejected score",
                &rejected,
                rejected_scores,
            ),
        ] {
            output::check(
                &self.handle,
                context,
                what,
                gradient,
                Some(scores.offsets()),
            )?;
        }
        Ok(PairLoss {
            loss,
            chosen,
            rejected,
        })
    }

    /// R(τ): one number per row.
    ///
    /// # Errors
    /// A failure of the plugin; a reward that is unwritten or not finite.
    pub fn sequence_reward(
        &self,
        rollouts: &Rollouts<'_>,
        context: &CallContext<'_>,
    ) -> Result<Vec<f32>> {
        let mut rewards = output::unwritten(rollouts.ids.rows());
        self.handle.call(context, |context| {
            self.object.sequence_reward(rollouts, &mut rewards, context)
        })?;
        output::check(&self.handle, context, "the reward", &rewards, None)?;
        Ok(rewards)
    }

    /// A reward for every response token, in the layout of `rollouts.ids`.
    ///
    /// # Errors
    /// A failure of the plugin; a reward that is unwritten or not finite.
    pub fn token_rewards(
        &self,
        rollouts: &Rollouts<'_>,
        context: &CallContext<'_>,
    ) -> Result<Vec<f32>> {
        let mut rewards = output::unwritten(rollouts.ids.values().len());
        self.handle.call(context, |context| {
            self.object.token_rewards(rollouts, &mut rewards, context)
        })?;
        let offsets = Some(rollouts.ids.offsets());
        output::check(&self.handle, context, "the reward", &rewards, offsets)?;
        Ok(rewards)
    }
}
