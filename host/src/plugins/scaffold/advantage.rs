//! An advantage estimator: the discounted return of every token, less the mean return of the batch.

use finegrain_sdk::kinds::{AdvantageEstimator, Advantages, Trajectories};
use finegrain_sdk::schemars::JsonSchema;
use finegrain_sdk::serde::{Deserialize, Serialize};
use finegrain_sdk::{CallContext, Plugin, PluginInfo, Result};

/// The advantage estimator.
pub struct MyPlugin {
    options: Options,
}

/// Its options; the comments are what `finegrain plugin info` prints.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(crate = "finegrain_sdk::serde", deny_unknown_fields, default)]
#[schemars(crate = "finegrain_sdk::schemars")]
pub struct Options {
    /// Discount per token.
    #[schemars(range(min = 0.0, max = 1.0))]
    gamma: f32,
}

impl Default for Options {
    fn default() -> Self {
        Self { gamma: 1.0 }
    }
}

impl Plugin for MyPlugin {
    const NAME: &'static str = "my-plugin";
    type Options = Options;

    fn info() -> PluginInfo {
        let mut info = PluginInfo {
            summary: "the discounted return less its mean over the batch".into(),
            ..PluginInfo::default()
        };
        info.capabilities.needs_critic = false;
        info
    }

    fn new(options: Options) -> Result<Self> {
        Ok(Self { options })
    }
}

impl AdvantageEstimator for MyPlugin {
    fn estimate(
        &self,
        trajectories: &Trajectories<'_>,
        out: Advantages<'_>,
        _: &CallContext<'_>,
    ) -> Result<()> {
        let rewards = trajectories.rewards;
        for row in 0..rewards.rows() {
            discount(
                rewards.row(row),
                self.options.gamma,
                &mut out.returns[rewards.range(row)],
            );
        }
        let sum: f64 = out.returns.iter().map(|&value| f64::from(value)).sum();
        let mean = (sum / out.returns.len().max(1) as f64) as f32;
        for (advantage, value) in out.advantages.iter_mut().zip(&*out.returns) {
            *advantage = value - mean;
        }
        Ok(())
    }
}

/// `G_t = r_t + γ·G_{t+1}`, from the last token to the first.
fn discount(rewards: &[f32], gamma: f32, returns: &mut [f32]) {
    let mut future = 0.0;
    for (reward, value) in rewards.iter().zip(returns).rev() {
        future = reward + gamma * future;
        *value = future;
    }
}

#[cfg(test)]
mod tests {
    use super::discount;

    #[test]
    fn later_rewards_are_discounted() {
        let mut returns = [0.0; 3];
        discount(&[1.0, 0.0, 4.0], 0.5, &mut returns);
        assert_eq!(returns, [2.0, 2.0, 4.0]);
    }
}
