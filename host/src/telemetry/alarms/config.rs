//! What each alarm looks for, and what it does.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What happens when an alarm goes off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Nothing; it is not looked for.
    Off,
    /// One warning, which the report repeats; the stage goes on.
    #[default]
    Warn,
    /// The stage stops after the step, and the run ends with exit code 1.
    Gate,
}

/// What is watched while a stage trains, and again where it is found in the store. Alarms change no result: they are no part of
/// what a stage is named by. Figures are those of docs/metrics.md, which says how each alarm reads them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AlarmsConfig {
    /// The policy runs away from the reference.
    pub kl_runaway: KlRunaway,
    /// The policy says the same whatever the seed.
    pub entropy_collapse: EntropyCollapse,
    /// Responses grow, or no longer end.
    pub length_blow_up: LengthBlowUp,
    /// The reward rises while the judge's score falls: the reward is gamed.
    pub over_optimisation: OverOptimisation,
    /// A figure is NaN or infinite.
    pub not_finite: NotFiniteAlarm,
}

/// The policy runs away from the reference: `kl/response_k1`, mean of three steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KlRunaway {
    /// What happens: `off`, `warn` or `gate`.
    pub action: Action,
    /// Nats per response above which it goes off. The sandbox's own runs of 40 steps stay below 4 nats on 20 tokens; 50 is far
    /// outside whatever the length.
    #[schemars(range(min = 0.0))]
    pub above: f64,
}

impl Default for KlRunaway {
    fn default() -> Self {
        Self {
            action: Action::Warn,
            above: 50.0,
        }
    }
}

/// The policy says the same whatever the seed: `policy/entropy`, mean of three steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EntropyCollapse {
    /// What happens: `off`, `warn` or `gate`.
    pub action: Action,
    /// The part of the first step's entropy below which it goes off. The sandbox's own runs keep more than 0.8 of it.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub below: f64,
}

impl Default for EntropyCollapse {
    fn default() -> Self {
        Self {
            action: Action::Warn,
            below: 0.2,
        }
    }
}

/// Responses grow, or no longer end: `response/mean_length` and `response/eos_rate`, means of three steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LengthBlowUp {
    /// What happens: `off`, `warn` or `gate`.
    pub action: Action,
    /// How many times the first step's length is too long. The sandbox's own runs stay within 1.2.
    #[schemars(range(min = 1.0))]
    pub factor: f64,
    /// The part of the first step's `response/eos_rate` below which it goes off too: where responses are cut off, their length
    /// cannot grow. The sandbox's own runs keep more than 0.9 of it.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub eos_below: f64,
}

impl Default for LengthBlowUp {
    fn default() -> Self {
        Self {
            action: Action::Warn,
            factor: 2.0,
            eos_below: 0.5,
        }
    }
}

/// The reward rises while the judge's score falls: the reward (`reward/total` without KL and the penalty for a missing EOS,
/// mean of up to three steps) is above what it was at the best evaluation, and `evaluation/score` is below that one's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OverOptimisation {
    /// What happens: `off`, `warn` or `gate`.
    pub action: Action,
    /// How many standard errors of the difference of two evaluations the score must have fallen. The standard errors are
    /// added as if the evaluations were independent; they share their prompts, so that 2 is a careful bound.
    #[schemars(range(min = 0.0))]
    pub standard_errors: f64,
}

impl Default for OverOptimisation {
    fn default() -> Self {
        Self {
            action: Action::Warn,
            standard_errors: 2.0,
        }
    }
}

/// A figure is NaN or infinite. Training cannot go on where a log-probability, a value, a loss or a gradient is: whatever the
/// action, the stage fails then.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NotFiniteAlarm {
    /// `off`: a failure saves nothing. `warn`: the rows at fault are saved, and the exit code is 3, internal error. `gate`: the
    /// same with exit code 1.
    pub action: Action,
}

impl AlarmsConfig {
    /// Refuses thresholds outside their ranges.
    pub fn validate(&self) -> Result<()> {
        let many = f64::MAX;
        for (key, value, min, max) in [
            ("kl_runaway.above", self.kl_runaway.above, 0.0, many),
            (
                "entropy_collapse.below",
                self.entropy_collapse.below,
                0.0,
                1.0,
            ),
            (
                "length_blow_up.factor",
                self.length_blow_up.factor,
                1.0,
                many,
            ),
            (
                "length_blow_up.eos_below",
                self.length_blow_up.eos_below,
                0.0,
                1.0,
            ),
            (
                "over_optimisation.standard_errors",
                self.over_optimisation.standard_errors,
                0.0,
                many,
            ),
        ] {
            if !(min..=max).contains(&value) {
                let accepted = if max == many {
                    format!("a number of at least {min}")
                } else {
                    format!("{min} to {max}")
                };
                return Err(Error::input(format!(
                    "alarms.{key}: {value} is not accepted; {accepted} is"
                )));
            }
        }
        Ok(())
    }
}
