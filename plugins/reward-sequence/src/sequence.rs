//! The score of the last token as the reward of the response.

use finegrain_sdk::info::{Capabilities, PluginInfo, Reference};
use finegrain_sdk::kinds::{PairGradients, RewardScheme, Rollouts, ScoredPairs};
use finegrain_sdk::preference::bradley_terry;
use finegrain_sdk::{CallContext, Error, Plugin, Ragged, Result};

use crate::options::Options;

/// The reward scheme `sequence`.
#[derive(Clone, Debug)]
pub struct Sequence;

/// R(τ) of a row: its last score.
fn last_score(scores: Ragged<'_, f32>, row: usize) -> Result<f32> {
    scores
        .row(row)
        .last()
        .copied()
        .ok_or_else(|| Error::input("the response has no token, so no last score").at_row(row))
}

/// Writes d loss / d score of one response: `slope` at the last token, 0 before it.
fn write_gradient(scores: Ragged<'_, f32>, row: usize, slope: f64, out: &mut [f32]) {
    if let [before @ .., last] = &mut out[scores.range(row)] {
        before.fill(0.0);
        *last = slope as f32;
    }
}

impl Plugin for Sequence {
    const NAME: &'static str = "sequence";
    type Options = Options;

    fn info() -> PluginInfo {
        PluginInfo {
            summary: "one reward a response, on its last token".to_owned(),
            description: "R(τ) is the score of the last response token. The loss of a pair is \
                −log σ(R(chosen) − R(rejected)). PPO gets R(τ) at the last token and 0 before it."
                .to_owned(),
            references: vec![Reference {
                title: "Training language models to follow instructions with human feedback, eq. 1"
                    .to_owned(),
                url: "https://arxiv.org/abs/2203.02155".to_owned(),
            }],
            capabilities: Capabilities::default(),
            examples: vec!["[[reward]]\nuse = \"sequence\"".to_owned()],
        }
    }

    fn new(_options: Options) -> Result<Self> {
        Ok(Self)
    }
}

impl RewardScheme for Sequence {
    fn preference_loss(
        &self,
        pairs: &ScoredPairs<'_>,
        gradients: PairGradients<'_>,
        context: &CallContext<'_>,
    ) -> Result<f64> {
        let (chosen, rejected) = (pairs.chosen.scores, pairs.rejected.scores);
        let rows = chosen.rows();
        let mut total = 0.0;
        for row in 0..rows {
            context.check_cancelled()?;
            let difference =
                f64::from(last_score(chosen, row)?) - f64::from(last_score(rejected, row)?);
            if !difference.is_finite() {
                return Err(Error::input("scores are not finite").at_row(row));
            }
            let (loss, slope) = bradley_terry(difference);
            total += loss;
            let slope = slope / rows as f64;
            write_gradient(chosen, row, slope, gradients.chosen);
            write_gradient(rejected, row, -slope, gradients.rejected);
        }
        // A batch of no pairs has nothing to learn from: its loss is 0, not 0/0.
        Ok(total / rows.max(1) as f64)
    }

    fn sequence_reward(
        &self,
        rollouts: &Rollouts<'_>,
        rewards: &mut [f32],
        _context: &CallContext<'_>,
    ) -> Result<()> {
        for (row, reward) in rewards.iter_mut().enumerate() {
            *reward = last_score(rollouts.scores, row)?;
        }
        Ok(())
    }

    fn token_rewards(
        &self,
        rollouts: &Rollouts<'_>,
        rewards: &mut [f32],
        _context: &CallContext<'_>,
    ) -> Result<()> {
        rewards.fill(0.0);
        for row in 0..rollouts.scores.rows() {
            if let Some(last) = rewards[rollouts.scores.range(row)].last_mut() {
                *last = last_score(rollouts.scores, row)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
