//! The recursion, from the last token of a response to its first, in f64.
//!
//! T tokens of a response; `V_t` is the critic before token t. The value after the last token is 0 whether the policy ended
//! the response or the length limit did, as in `AlpacaFarm`, TRL, `OpenRLHF` and verl. Nothing is whitened here.

use finegrain_sdk::info::{Capabilities, PluginInfo, Reference};
use finegrain_sdk::kinds::{AdvantageEstimator, Advantages, Trajectories};
use finegrain_sdk::{CallContext, Error, Plugin, Result};

use crate::options::Options;

/// The advantage estimator `gae`.
#[derive(Clone, Debug)]
pub struct Gae {
    options: Options,
}

/// Calls `write(t, A_t)` for every token of a response, last token first.
fn backward(
    rewards: &[f32],
    values: &[f32],
    gamma: f64,
    lambda: f64,
    mut write: impl FnMut(usize, f64),
) {
    let mut next_value = 0.0;
    let mut advantage = 0.0;
    for t in (0..rewards.len()).rev() {
        let value = f64::from(values[t]);
        let delta = f64::from(rewards[t]) + gamma * next_value - value;
        advantage = delta + gamma * lambda * advantage;
        write(t, advantage);
        next_value = value;
    }
}

impl Plugin for Gae {
    const NAME: &'static str = "gae";
    type Options = Options;

    fn info() -> PluginInfo {
        PluginInfo {
            summary: "generalised advantage estimation".to_owned(),
            description: "δ_t = r_t + γ V_{t+1} − V_t with the value 0 after the last token; A_t = δ_t + γλ A_{t+1}; \
                return_t = A_t + V_t, taken before any whitening. With value_lambda the returns are those of a second \
                recursion with that λ (decoupled GAE)."
                .to_owned(),
            references: vec![
                Reference {
                    title: "High-Dimensional Continuous Control Using Generalized Advantage Estimation, eq. 11 to 16"
                        .to_owned(),
                    url: "https://arxiv.org/abs/1506.02438".to_owned(),
                },
                Reference {
                    title: "What's Behind PPO's Collapse in Long-CoT? Value Optimization Holds the Secret (value_lambda)"
                        .to_owned(),
                    url: "https://arxiv.org/abs/2503.01491".to_owned(),
                },
            ],
            capabilities: Capabilities::default(),
            examples: vec!["[advantage]\nuse = \"gae\"\noptions = { gamma = 1.0, lambda = 0.95 }".to_owned()],
        }
    }

    fn new(options: Options) -> Result<Self> {
        options.check()?;
        Ok(Self { options })
    }
}

impl AdvantageEstimator for Gae {
    fn estimate(
        &self,
        trajectories: &Trajectories<'_>,
        out: Advantages<'_>,
        context: &CallContext<'_>,
    ) -> Result<()> {
        let Some(values) = trajectories.values else {
            return Err(Error::input("gae needs the values of a critic"));
        };
        let Options { gamma, lambda, .. } = self.options;
        let value_lambda = self.options.value_lambda.unwrap_or(lambda);
        for row in 0..trajectories.rewards.rows() {
            context.check_cancelled()?;
            let rewards = trajectories.rewards.row(row);
            let range = trajectories.rewards.range(row);
            let values = values.row(row);
            let advantages = &mut out.advantages[range.clone()];
            let returns = &mut out.returns[range];
            backward(rewards, values, gamma, lambda, |t, advantage| {
                advantages[t] = advantage as f32;
            });
            backward(rewards, values, gamma, value_lambda, |t, advantage| {
                returns[t] = (advantage + f64::from(values[t])) as f32;
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
