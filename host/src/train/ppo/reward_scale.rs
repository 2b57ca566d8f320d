//! Brings reward schemes to one scale, so that one β means the same for all of them.
//!
//! A reward model's unit is arbitrary: clean pairs leave a wider spread of rewards than noisy ones, and then the same β is a
//! weaker pull towards the reference. Ziegler et al. (2019, section 2) therefore normalise the reward model on samples of the
//! reference policy. Here only the spread is normalised: the mean is the critic's business,
//! and taking it from every token would pay for length.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rewards::row_sums;
use crate::error::{Error, Result};

/// The unit of a scheme's rewards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RewardScale {
    /// As the scheme gives them (AlpacaFarm, TRL).
    #[default]
    None,
    /// Divided by the standard deviation of their sums over the responses of the first rollout, which the reference
    /// policy sampled (Ziegler et al., but for the mean).
    Reference,
}

/// What the rewards of each scheme are multiplied by, from the first rollout on.
#[derive(Clone, Debug)]
pub struct Gains {
    rule: RewardScale,
    gains: Vec<f64>,
}

impl Gains {
    /// Gains that the first rollout will decide.
    pub fn new(rule: RewardScale) -> Self {
        let gains = Vec::new();
        Self { rule, gains }
    }

    /// Gains that an earlier run has decided, as [`values`](Self::values) gave them.
    pub fn decided(rule: RewardScale, gains: Vec<f64>) -> Self {
        Self { rule, gains }
    }

    /// What the first rollout has decided, one gain a scheme; empty before it, and where rewards are taken as they are.
    pub fn values(&self) -> &[f64] {
        &self.gains
    }

    /// Goes on with the gains of a checkpoint.
    pub fn restore(&mut self, gains: Vec<f64>) {
        self.gains = gains;
    }

    /// Scales the rewards of scheme number `scheme`, called `name`, and returns the gain. Schemes come in the same order at
    /// every step.
    ///
    /// # Errors
    /// Rewards of the first rollout that are all alike: they have no scale.
    pub fn apply(
        &mut self,
        scheme: usize,
        name: &str,
        rewards: &mut [f32],
        offsets: &[u64],
    ) -> Result<f64> {
        let gain = match (self.rule, self.gains.get(scheme)) {
            (RewardScale::None, _) => return Ok(1.0),
            (RewardScale::Reference, Some(gain)) => *gain,
            (RewardScale::Reference, None) => {
                let sums = row_sums(rewards, offsets);
                let mean = sums.iter().sum::<f64>() / sums.len() as f64;
                let largest = sums.iter().fold(0.0, |most: f64, sum| most.max(sum.abs()));
                let squares: f64 = sums.iter().map(|sum| (sum - mean).powi(2)).sum();
                let std = (squares / sums.len() as f64).sqrt();
                // Rewards are f32: less spread than this is rounding.
                if std <= 1e-5 * largest {
                    return Err(Error::input(format!(
                        "ppo.reward_scale: reward {name} gives every response of the first rollout {mean}, so it has no spread to scale by"
                    ))
                    .hint("ppo.reward_scale = \"none\" takes rewards as they are"));
                }
                self.gains.push(1.0 / std);
                1.0 / std
            }
        };
        for reward in rewards {
            *reward = (f64::from(*reward) * gain) as f32;
        }
        Ok(gain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rollout_decides_and_every_scheme_has_its_own() {
        let mut gains = Gains::new(RewardScale::Reference);
        // Sums 1 and 5: mean 3, population standard deviation 2.
        let mut rewards = [1.0, 2.0, 3.0];
        assert_eq!(gains.apply(0, "a", &mut rewards, &[0, 1, 3]).unwrap(), 0.5);
        assert_eq!(rewards, [0.5, 1.0, 1.5]);
        let mut other = [0.0, 8.0];
        assert_eq!(gains.apply(1, "b", &mut other, &[0, 1, 2]).unwrap(), 0.25);
        let mut later = [100.0, 2.0];
        assert_eq!(gains.apply(0, "a", &mut later, &[0, 1, 2]).unwrap(), 0.5);
        assert_eq!(later, [50.0, 1.0]);
    }

    #[test]
    fn rewards_without_spread_are_refused_and_none_leaves_them() {
        let mut rewards = [2.0, 2.0];
        let mut gains = Gains::new(RewardScale::None);
        assert_eq!(gains.apply(0, "a", &mut rewards, &[0, 1, 2]).unwrap(), 1.0);
        assert_eq!(rewards, [2.0, 2.0]);
        let mut gains = Gains::new(RewardScale::Reference);
        let error = gains.apply(0, "a", &mut rewards, &[0, 1, 2]).unwrap_err();
        assert!(error.to_string().contains("reward a gives every response"));
        // A third in three parts is one only up to rounding.
        let mut thirds = [0.1, 0.1 + 1e-8, 0.1, 0.3];
        let error = gains.apply(0, "a", &mut thirds, &[0, 3, 4]).unwrap_err();
        assert!(error.to_string().contains("no spread"));
        assert_eq!(error.exit_code(), 2);
    }
}
