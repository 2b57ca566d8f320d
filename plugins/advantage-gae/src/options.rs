//! Discount and decay.

use finegrain_sdk::schemars::JsonSchema;
use finegrain_sdk::serde::{Deserialize, Serialize};
use finegrain_sdk::{Error, Result};

/// Options of `gae`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(crate = "finegrain_sdk::serde", deny_unknown_fields, default)]
#[schemars(crate = "finegrain_sdk::schemars")]
pub struct Options {
    /// γ, the discount per token. Language tasks are episodic and short: 1 is usual.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub gamma: f64,
    /// λ, the decay of the estimator: 0 trusts the critic alone, 1 the sampled rewards alone.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub lambda: f64,
    /// λ of the critic's targets, where it should differ from `lambda` (decoupled GAE); `lambda` where absent.
    #[schemars(range(min = 0.0, max = 1.0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_lambda: Option<f64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            gamma: 1.0,
            lambda: 1.0,
            value_lambda: None,
        }
    }
}

impl Options {
    /// Refuses what is outside [0, 1].
    pub(crate) fn check(&self) -> Result<()> {
        let value_lambda = self.value_lambda.unwrap_or(self.lambda);
        for (name, value) in [
            ("gamma", self.gamma),
            ("lambda", self.lambda),
            ("value_lambda", value_lambda),
        ] {
            if !(0.0..=1.0).contains(&value) {
                return Err(Error::options(format!(
                    "{name} is {value}; it must lie between 0 and 1"
                )));
            }
        }
        Ok(())
    }
}
