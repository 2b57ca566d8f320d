//! Divergence of the policy from the reference, token by token, and its coefficient.
//!
//! With `lr = log π(a) − log π_ref(a)` for a token that π drew, the estimators of `KL(π ‖ π_ref)` are Schulman's
//! (joschu.net/blog/kl-approx.html) k1 = lr, k2 = lr²/2, k3 = e^(−lr) − 1 + lr; |lr| is NeMo-Aligner's; max(lr, 0) is what
//! AlpacaFarm computes (`_shape_reward`). k1 and k3 are unbiased as values, max(lr, 0) is never below the KL: its
//! coefficients do not compare with the others'.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An estimator of the KL divergence from one sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KlEstimator {
    /// lr. Unbiased, may be negative (TRL's default).
    #[default]
    K1,
    /// lr² / 2. Biased, small variance; as a loss it has the gradient of the divergence.
    K2,
    /// e^(−lr) − 1 + lr. Unbiased, never negative.
    K3,
    /// |lr| (NeMo-Aligner).
    Abs,
    /// max(lr, 0) (AlpacaFarm).
    K1Clamped,
}

impl KlEstimator {
    /// The estimate from one log-ratio, in nats.
    pub fn value(self, log_ratio: f32) -> f32 {
        match self {
            Self::K1 => log_ratio,
            Self::K2 => 0.5 * log_ratio * log_ratio,
            Self::K3 => (-log_ratio).exp_m1() + log_ratio,
            Self::Abs => log_ratio.abs(),
            Self::K1Clamped => log_ratio.max(0.0),
        }
    }

    /// Its derivative by the policy's log-probability, with the drawn token held fixed.
    pub fn gradient(self, log_ratio: f32) -> f32 {
        match self {
            Self::K1 => 1.0,
            Self::K2 => log_ratio,
            Self::K3 => -(-log_ratio).exp_m1(),
            Self::Abs if log_ratio == 0.0 => 0.0,
            Self::Abs => log_ratio.signum(),
            Self::K1Clamped => f32::from(log_ratio > 0.0),
        }
    }
}

/// Where the divergence is charged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KlPlacement {
    /// `−β·kl_t` is a channel of the token rewards (Ziegler et al. 2019; AlpacaFarm, TRL's PPO).
    #[default]
    Reward,
    /// `+β·kl_t` is added to the policy loss (GRPO).
    Loss,
    /// Not at all: the rewards as the paper prints them, [R₁ … Rₙ].
    None,
}

/// How the coefficient β follows the measured divergence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KlAdaptation {
    /// It does not (AlpacaFarm's and TRL's runs).
    #[default]
    Fixed,
    /// β ← β (1 + clip(KL / target − 1, ±0.2) · n / horizon) for n responses (Ziegler et al. 2019).
    Horizon,
    /// β ← β (1 + clip(KL / target − 1, ±0.2) · rate) (AlpacaFarm's `AdaptiveKLController`, off in its runs).
    Rate,
}

/// β and the rule by which it moves.
#[derive(Clone, Debug, PartialEq)]
pub struct KlController {
    coefficient: f64,
    adaptation: KlAdaptation,
    target: f64,
    horizon: f64,
    rate: f64,
}

impl KlController {
    /// A controller that starts at `coefficient`. `target` is in nats per response; `horizon` counts responses.
    pub fn new(
        coefficient: f64,
        adaptation: KlAdaptation,
        target: f64,
        horizon: f64,
        rate: f64,
    ) -> Self {
        Self {
            coefficient,
            adaptation,
            target,
            horizon,
            rate,
        }
    }

    /// β.
    pub fn coefficient(&self) -> f64 {
        self.coefficient
    }

    /// Goes on from the coefficient of a checkpoint.
    pub fn restore(&mut self, coefficient: f64) {
        self.coefficient = coefficient;
    }

    /// Takes the mean divergence per response (summed over its tokens) of a rollout of `responses`.
    pub fn observe(&mut self, kl: f64, responses: usize) {
        let gain = match self.adaptation {
            KlAdaptation::Fixed => return,
            KlAdaptation::Horizon => responses as f64 / self.horizon,
            KlAdaptation::Rate => self.rate,
        };
        let error = (kl / self.target - 1.0).clamp(-0.2, 0.2);
        self.coefficient *= 1.0 + error * gain;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [KlEstimator; 5] = [
        KlEstimator::K1,
        KlEstimator::K2,
        KlEstimator::K3,
        KlEstimator::Abs,
        KlEstimator::K1Clamped,
    ];

    // import torch  (the lines of trl 1.10 ppo_trainer.py:772-774 and alpaca_farm's _shape_reward)
    // lp = torch.tensor([-1.0, -0.2, -2.0, -0.5]); ref = torch.tensor([-1.3, -0.1, -0.5, -0.5])
    // logr = ref - lp; print(-logr, (logr.exp() - 1) - logr, (lp - ref)**2 / 2, (lp - ref).clamp(min=0))
    #[test]
    fn estimators_agree_with_their_sources() {
        let logprobs = [-1.0f32, -0.2, -2.0, -0.5];
        let reference = [-1.3f32, -0.1, -0.5, -0.5];
        let expected = [
            [0.3, -0.1, -1.5, 0.0],
            [0.045, 0.005, 1.125, 0.0],
            [0.040_818_214, 0.005_170_963_7, 1.981_689, 0.0],
            [0.3, 0.1, 1.5, 0.0],
            [0.3, 0.0, 0.0, 0.0],
        ];
        for (estimator, expected) in ALL.into_iter().zip(expected) {
            for t in 0..4 {
                let value = estimator.value(logprobs[t] - reference[t]);
                assert!(
                    (value - expected[t]).abs() < 2e-7,
                    "{estimator:?} {t}: {value}"
                );
            }
        }
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        for estimator in ALL {
            for log_ratio in [-1.2f32, -0.3, 0.4, 1.1] {
                let h = 1e-2;
                let slope =
                    (estimator.value(log_ratio + h) - estimator.value(log_ratio - h)) / (2.0 * h);
                let gradient = estimator.gradient(log_ratio);
                assert!(
                    (slope - gradient).abs() < 1e-3,
                    "{estimator:?} at {log_ratio}: {slope} against {gradient}"
                );
            }
        }
    }

    #[test]
    fn the_controllers_move_by_their_rules() {
        let controller = |adaptation| KlController::new(0.2, adaptation, 6.0, 10_000.0, 0.1);
        let mut fixed = controller(KlAdaptation::Fixed);
        fixed.observe(60.0, 512);
        assert_eq!(fixed.coefficient(), 0.2);
        // Far above the target the error is clipped to 0.2: 0.2 · (1 + 0.2 · 512 / 10000).
        let mut horizon = controller(KlAdaptation::Horizon);
        horizon.observe(60.0, 512);
        assert!((horizon.coefficient() - 0.202_048).abs() < 1e-12);
        // Inside the clip: 5.4 / 6 − 1 = −0.1, so 0.2 · (1 − 0.1 · 0.1).
        let mut rate = controller(KlAdaptation::Rate);
        rate.observe(5.4, 512);
        assert!((rate.coefficient() - 0.198).abs() < 1e-12);
        rate.observe(6.0, 512);
        assert!((rate.coefficient() - 0.198).abs() < 1e-12);
    }
}
