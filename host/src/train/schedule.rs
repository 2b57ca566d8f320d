//! Learning-rate schedules with the formulas of Hugging Face `transformers.optimization`.
//!
//! With s the step from 0, W the warm-up and S the steps in all, the factor is `s / W` for s < W, and then
//! 1 (constant), `(S − s) / (S − W)` (linear) or `½ (1 + cos(π (s − W) / (S − W)))` (cosine). A run with a warm-up
//! therefore takes its first step at a learning rate of 0, as there.

use std::f64::consts::PI;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What follows the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Decay {
    /// No decay.
    Constant,
    /// Down to 0 in a straight line (the Hugging Face default; AlpacaFarm's PPO).
    #[default]
    Linear,
    /// Down to 0 along half a cosine (AlpacaFarm's SFT and reward model).
    Cosine,
}

/// Warm-up and decay of a learning rate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduleConfig {
    /// What follows the warm-up: `constant`, `linear` or `cosine`.
    pub decay: Decay,
    /// Warm-up in steps; 0 leaves it to `warmup_ratio`. AlpacaFarm's PPO: 5.
    pub warmup_steps: u64,
    /// Warm-up as a share of all steps, rounded up; used where `warmup_steps` is 0. AlpacaFarm's SFT: 0.03.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub warmup_ratio: f64,
}

impl ScheduleConfig {
    /// Refuses a ratio outside [0, 1]; `section` is where the schedule stands in the configuration.
    pub fn validate(&self, section: &str) -> Result<()> {
        if !(0.0..=1.0).contains(&self.warmup_ratio) {
            return Err(Error::input(format!(
                "{section}.warmup_ratio: {} is outside 0 to 1",
                self.warmup_ratio
            )));
        }
        Ok(())
    }

    /// The factor of the learning rate at `step` (from 0) of `steps`.
    pub fn factor(&self, step: u64, steps: u64) -> f64 {
        let warmup = if self.warmup_steps > 0 {
            self.warmup_steps
        } else {
            (self.warmup_ratio * steps as f64).ceil() as u64
        };
        if step < warmup {
            return step as f64 / warmup as f64;
        }
        let decay_steps = steps.saturating_sub(warmup).max(1) as f64;
        let progress = (step - warmup) as f64 / decay_steps;
        match self.decay {
            Decay::Constant => 1.0,
            Decay::Linear => (1.0 - progress).max(0.0),
            Decay::Cosine => (0.5 * (1.0 + (PI * progress.min(1.0)).cos())).max(0.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // import torch; from transformers import get_scheduler
    // for kind, warm in [("constant_with_warmup", 3), ("linear", 3), ("cosine", 3), ("linear", 0)]:
    //     o = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    //     s = get_scheduler(kind, o, num_warmup_steps=warm, num_training_steps=10)
    //     for _ in range(11): print(round(s.get_last_lr()[0], 7)); o.step(); s.step()
    #[test]
    fn agrees_with_transformers() {
        let rise = [0.0, 0.333_333_3, 0.666_666_7, 1.0];
        let cases: [(Decay, u64, Vec<f64>); 4] = [
            (Decay::Constant, 3, [&rise[..], &[1.0; 7]].concat()),
            (
                Decay::Linear,
                3,
                [
                    &rise[..],
                    &[
                        0.857_142_9,
                        0.714_285_7,
                        0.571_428_6,
                        0.428_571_4,
                        0.285_714_3,
                        0.142_857_1,
                        0.0,
                    ],
                ]
                .concat(),
            ),
            (
                Decay::Cosine,
                3,
                [
                    &rise[..],
                    &[
                        0.950_484_4,
                        0.811_744_9,
                        0.611_260_5,
                        0.388_739_5,
                        0.188_255_1,
                        0.049_515_6,
                        0.0,
                    ],
                ]
                .concat(),
            ),
            (
                Decay::Linear,
                0,
                vec![1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0],
            ),
        ];
        for (decay, warmup_steps, expected) in cases {
            let schedule = ScheduleConfig {
                decay,
                warmup_steps,
                warmup_ratio: 0.0,
            };
            for (step, expected) in expected.iter().enumerate() {
                let factor = schedule.factor(step as u64, 10);
                assert!(
                    (factor - expected).abs() < 1e-7,
                    "{decay:?} at {step}: {factor} against {expected}"
                );
            }
        }
    }

    #[test]
    fn the_ratio_is_rounded_up_and_steps_come_first() {
        let ratio = ScheduleConfig {
            warmup_ratio: 0.03,
            ..ScheduleConfig::default()
        };
        // ceil(0.03 · 50) = 2.
        assert_eq!(ratio.factor(1, 50), 0.5);
        assert_eq!(ratio.factor(2, 50), 1.0);
        let steps = ScheduleConfig {
            warmup_steps: 4,
            ..ratio
        };
        assert_eq!(steps.factor(1, 50), 0.25);
    }

    #[test]
    fn a_warm_up_longer_than_the_run_stays_finite() {
        let schedule = ScheduleConfig {
            warmup_steps: 10,
            ..ScheduleConfig::default()
        };
        assert_eq!(schedule.factor(3, 4), 0.3);
        assert_eq!(schedule.factor(10, 4), 1.0);
    }
}
