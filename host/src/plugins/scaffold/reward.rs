//! A reward scheme: R(τ) = the mean of the token scores, trained on pairs by −log σ(R(chosen) − R(rejected)).

use finegrain_sdk::kinds::{PairGradients, RewardScheme, Rollouts, ScoredPairs};
use finegrain_sdk::preference::bradley_terry;
use finegrain_sdk::schemars::JsonSchema;
use finegrain_sdk::serde::{Deserialize, Serialize};
use finegrain_sdk::{CallContext, Plugin, PluginInfo, Result};

/// The reward scheme.
pub struct MyPlugin {
    options: Options,
}

/// Its options; the comments are what `finegrain plugin info` prints.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(crate = "finegrain_sdk::serde", deny_unknown_fields, default)]
#[schemars(crate = "finegrain_sdk::schemars")]
pub struct Options {
    /// Every reward is multiplied by this.
    #[schemars(range(min = 0.0))]
    scale: f32,
}

impl Default for Options {
    fn default() -> Self {
        Self { scale: 1.0 }
    }
}

impl Plugin for MyPlugin {
    const NAME: &'static str = "my-plugin";
    type Options = Options;

    fn info() -> PluginInfo {
        PluginInfo {
            summary: "the mean of the token scores".into(),
            ..PluginInfo::default()
        }
    }

    fn new(options: Options) -> Result<Self> {
        Ok(Self { options })
    }
}

/// The mean in f64: a long response has thousands of addends.
fn mean(scores: &[f32]) -> f64 {
    scores.iter().map(|&score| f64::from(score)).sum::<f64>() / scores.len().max(1) as f64
}

impl RewardScheme for MyPlugin {
    fn preference_loss(
        &self,
        pairs: &ScoredPairs<'_>,
        gradients: PairGradients<'_>,
        _: &CallContext<'_>,
    ) -> Result<f64> {
        let (chosen, rejected) = (pairs.chosen.scores, pairs.rejected.scores);
        let rows = chosen.rows();
        let mut total = 0.0;
        for row in 0..rows {
            let (loss, slope) = bradley_terry(mean(chosen.row(row)) - mean(rejected.row(row)));
            total += loss / rows as f64;
            // The loss is a mean over pairs, and R a mean over tokens.
            let share = |tokens: usize| (slope / (rows * tokens) as f64) as f32;
            gradients.chosen[chosen.range(row)].fill(share(chosen.row(row).len()));
            gradients.rejected[rejected.range(row)].fill(-share(rejected.row(row).len()));
        }
        Ok(total)
    }

    fn sequence_reward(
        &self,
        rollouts: &Rollouts<'_>,
        rewards: &mut [f32],
        _: &CallContext<'_>,
    ) -> Result<()> {
        for (reward, scores) in rewards.iter_mut().zip(rollouts.scores.iter()) {
            *reward = self.options.scale * mean(scores) as f32;
        }
        Ok(())
    }

    fn token_rewards(
        &self,
        rollouts: &Rollouts<'_>,
        rewards: &mut [f32],
        _: &CallContext<'_>,
    ) -> Result<()> {
        for (reward, score) in rewards.iter_mut().zip(rollouts.scores.values()) {
            *reward = self.options.scale * score;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::mean;

    #[test]
    fn the_mean_of_scores() {
        assert_eq!(mean(&[1.0, 2.0, 6.0]), 3.0);
    }
}
