//! The losses of PPO (Schulman et al. 2017, arXiv:1707.06347) on slices, with their analytic gradients.
//!
//! ```text
//! policy   Σ w_t · max(−A_t ρ_t, −A_t clip(ρ_t, 1 − ε_low, 1 + ε_high)),   ρ_t = exp(log π(a_t) − log π_old(a_t))
//! value    Σ w_t · ½ max((V_t − R_t)², (clip(V_t, V_old ± ε_v) − R_t)²)
//! kl       β · Σ w_t · kl(log π(a_t) − log π_ref(a_t))
//! ```
//! The weights w carry the mean (see [`LossAverage`]), so the losses of micro-batches add up to the minibatch's. All
//! slices are flat over response tokens.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::kl::KlEstimator;

/// Over what the losses of the tokens are averaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LossAverage {
    /// Over the response tokens of the minibatch (TRL, `OpenRLHF`, verl).
    #[default]
    Tokens,
    /// Over the tokens of a response first, then over responses: every response weighs the same.
    Rows,
    /// Over responses × `max_new_tokens`, so that the gradient grows with the length: what AlpacaFarm's mean over padded
    /// batches does to the policy.
    Capacity,
}

impl LossAverage {
    /// The weights of the tokens of responses of these lengths, for a minibatch of `rows` responses and `tokens` tokens.
    pub fn weights(
        self,
        lengths: &[usize],
        rows: usize,
        tokens: usize,
        max_new_tokens: usize,
    ) -> Vec<f32> {
        let mut weights = Vec::with_capacity(lengths.iter().sum());
        for &length in lengths {
            let weight = match self {
                Self::Tokens => 1.0 / tokens as f64,
                Self::Rows => 1.0 / (rows as f64 * length as f64),
                Self::Capacity => 1.0 / (rows as f64 * max_new_tokens as f64),
            };
            weights.extend(std::iter::repeat_n(weight as f32, length));
        }
        weights
    }
}

/// The clipped policy loss, its gradient and what a run watches.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyLoss {
    /// The weighted sum.
    pub loss: f64,
    /// By the new log-probabilities.
    pub gradient: Vec<f32>,
    /// Tokens at which the clipped term decides.
    pub clipped: usize,
    /// Σ ρ.
    pub ratio_sum: f64,
    /// max |ρ − 1|.
    pub ratio_deviation: f64,
    /// Σ k3 of `KL(π_old ‖ π)` = Σ (ρ − 1 − log ρ).
    pub kl_sum: f64,
}

/// The clipped policy loss of these tokens.
pub fn policy_loss(
    new: &[f32],
    old: &[f32],
    advantages: &[f32],
    weights: &[f32],
    clip_low: f64,
    clip_high: f64,
) -> PolicyLoss {
    let mut out = PolicyLoss {
        loss: 0.0,
        gradient: Vec::with_capacity(new.len()),
        clipped: 0,
        ratio_sum: 0.0,
        ratio_deviation: 0.0,
        kl_sum: 0.0,
    };
    for t in 0..new.len() {
        let log_ratio = f64::from(new[t]) - f64::from(old[t]);
        let (ratio, advantage, weight) = (
            log_ratio.exp(),
            f64::from(advantages[t]),
            f64::from(weights[t]),
        );
        let plain = -advantage * ratio;
        let clipped = -advantage * ratio.clamp(1.0 - clip_low, 1.0 + clip_high);
        if clipped > plain {
            out.clipped += 1;
            out.loss += weight * clipped;
            out.gradient.push(0.0);
        } else {
            out.loss += weight * plain;
            out.gradient.push((weight * plain) as f32);
        }
        out.ratio_sum += ratio;
        out.ratio_deviation = out.ratio_deviation.max((ratio - 1.0).abs());
        out.kl_sum += ratio - 1.0 - log_ratio;
    }
    out
}

/// The clipped value loss and its gradient.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueLoss {
    /// The weighted sum.
    pub loss: f64,
    /// By the new values.
    pub gradient: Vec<f32>,
    /// Tokens at which the clipped term decides.
    pub clipped: usize,
}

/// The clipped value loss of these tokens; a `clip` of 0 leaves the plain squared error.
pub fn value_loss(
    new: &[f32],
    old: &[f32],
    returns: &[f32],
    weights: &[f32],
    clip: f64,
) -> ValueLoss {
    let mut out = ValueLoss {
        loss: 0.0,
        gradient: Vec::with_capacity(new.len()),
        clipped: 0,
    };
    let clip = if clip == 0.0 { f64::INFINITY } else { clip };
    for t in 0..new.len() {
        let (value, before, target, weight) = (
            f64::from(new[t]),
            f64::from(old[t]),
            f64::from(returns[t]),
            f64::from(weights[t]),
        );
        let plain = value - target;
        let clipped = value.clamp(before - clip, before + clip) - target;
        if clipped * clipped > plain * plain {
            // The clipped value is a constant here.
            out.clipped += 1;
            out.loss += 0.5 * weight * clipped * clipped;
            out.gradient.push(0.0);
        } else {
            out.loss += 0.5 * weight * plain * plain;
            out.gradient.push((weight * plain) as f32);
        }
    }
    out
}

/// Adds the gradient of `coefficient · Σ w · kl` by the new log-probabilities to `gradient`; returns that loss.
pub fn add_kl_loss(
    gradient: &mut [f32],
    new: &[f32],
    reference: &[f32],
    weights: &[f32],
    estimator: KlEstimator,
    coefficient: f64,
) -> f64 {
    let mut loss = 0.0;
    for t in 0..new.len() {
        let log_ratio = new[t] - reference[t];
        let weight = coefficient * f64::from(weights[t]);
        loss += weight * f64::from(estimator.value(log_ratio));
        gradient[t] += (weight * f64::from(estimator.gradient(log_ratio))) as f32;
    }
    loss
}

/// 1 − Var(R − V) / Var(R): how much of the returns' variance the critic explains. 1 is perfect, 0 no better than a
/// constant, negative worse; `None` where the returns do not vary.
pub fn explained_variance(values: &[f32], returns: &[f32]) -> Option<f64> {
    let variance = |xs: &mut dyn Iterator<Item = f64>| {
        let xs: Vec<f64> = xs.collect();
        let mean = xs.iter().sum::<f64>() / xs.len() as f64;
        xs.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / xs.len() as f64
    };
    let of_returns = variance(&mut returns.iter().map(|&r| f64::from(r)));
    let of_errors = variance(
        &mut returns
            .iter()
            .zip(values)
            .map(|(&r, &v)| f64::from(r) - f64::from(v)),
    );
    (of_returns > 0.0).then(|| 1.0 - of_errors / of_returns)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: [f32; 8] = [-1.0, -0.5, -2.0, -0.1, -1.5, -0.7, -0.3, -2.2];
    const NEW: [f32; 8] = [-0.7, -0.5, -2.5, -0.4, -1.45, -0.1, -0.3, -2.0];
    const ADVANTAGES: [f32; 8] = [1.0, -0.5, 0.8, -1.2, 0.3, -2.0, 0.0, 0.6];
    const OLD_VALUES: [f32; 8] = [0.1, 0.5, -0.4, 1.0, 0.0, 0.3, -1.0, 0.7];
    const NEW_VALUES: [f32; 8] = [0.2, 0.9, -0.1, 0.7, 0.15, 0.3, -1.6, 0.75];
    const RETURNS: [f32; 8] = [0.5, 0.4, 0.6, 0.9, 1.0, -0.2, 0.0, 0.74];

    fn close(left: &[f32], right: &[f32], tolerance: f32) {
        assert_eq!(left.len(), right.len());
        for (l, r) in left.iter().zip(right) {
            assert!((l - r).abs() <= tolerance, "{left:?} against {right:?}");
        }
    }

    // import torch  (the loss lines of trl 1.10 ppo_trainer.py:824-855, which are AlpacaFarm's compute_loss too)
    // ratio = torch.exp(new - old)
    // pg = torch.max(-adv * ratio, -adv * torch.clamp(ratio, 0.8, 1.2)); pg.mean().backward()
    // vc = torch.clamp(vp, val - 0.2, val + 0.2)
    // vl = 0.5 * torch.max((vp - ret)**2, (vc - ret)**2).mean(); vl.backward()
    #[test]
    fn the_policy_loss_agrees_with_torch() {
        let out = policy_loss(&NEW, &OLD, &ADVANTAGES, &[0.125; 8], 0.2, 0.2);
        assert!((out.loss - 0.297_953_96).abs() < 1e-7, "{}", out.loss);
        let expected = [
            0.0,
            0.0625,
            -0.060_653_068,
            0.0,
            -0.039_422_67,
            0.455_529_7,
            0.0,
            0.0,
        ];
        close(&out.gradient, &expected, 1e-7);
        assert_eq!(out.clipped, 3);
    }

    #[test]
    fn the_value_loss_agrees_with_torch() {
        let out = value_loss(&NEW_VALUES, &OLD_VALUES, &RETURNS, &[0.125; 8], 0.2);
        assert!((out.loss - 0.284_537_52).abs() < 1e-7, "{}", out.loss);
        let expected = [
            -0.0375, 0.0625, 0.0, -0.025, -0.106_25, 0.0625, -0.2, 0.001_25,
        ];
        close(&out.gradient, &expected, 1e-7);
        assert_eq!(out.clipped, 1);
        let plain = value_loss(&NEW_VALUES, &OLD_VALUES, &RETURNS, &[0.125; 8], 0.0);
        assert_eq!(plain.clipped, 0);
        assert!(plain.gradient[2] < 0.0);
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        let weights = [0.05f32, 0.1, 0.2, 0.1, 0.3, 0.05, 0.1, 0.1];
        let (h, asymmetric) = (2e-3, (0.2, 0.28));
        let policy =
            |new: &[f32]| policy_loss(new, &OLD, &ADVANTAGES, &weights, asymmetric.0, asymmetric.1);
        let value = |new: &[f32]| value_loss(new, &OLD_VALUES, &RETURNS, &weights, 0.2);
        let kl = |new: &[f32], gradient: &mut [f32]| {
            add_kl_loss(gradient, new, &OLD, &weights, KlEstimator::K3, 0.4)
        };
        let mut kl_gradient = vec![0.0; 8];
        kl(&NEW, &mut kl_gradient);
        for t in 0..8 {
            let moved = |from: &[f32], by: f32| {
                let mut moved = from.to_vec();
                moved[t] += by;
                moved
            };
            let slope = |loss: &dyn Fn(&[f32]) -> f64, at: &[f32]| {
                let (up, down) = (moved(at, h), moved(at, -h));
                (loss(&up) - loss(&down)) / f64::from(up[t] - down[t])
            };
            let cases = [
                (slope(&|x| policy(x).loss, &NEW), policy(&NEW).gradient[t]),
                (
                    slope(&|x| value(x).loss, &NEW_VALUES),
                    value(&NEW_VALUES).gradient[t],
                ),
                (slope(&|x| kl(x, &mut [0.0; 8]), &NEW), kl_gradient[t]),
            ];
            for (slope, gradient) in cases {
                assert!(
                    (slope - f64::from(gradient)).abs() < 2e-5,
                    "token {t}: {slope} against {gradient}"
                );
            }
        }
    }

    #[test]
    fn the_same_policy_has_ratio_one_and_no_divergence() {
        let out = policy_loss(&OLD, &OLD, &ADVANTAGES, &[0.125; 8], 0.2, 0.2);
        assert_eq!(
            (out.ratio_sum, out.ratio_deviation, out.kl_sum, out.clipped),
            (8.0, 0.0, 0.0, 0)
        );
        let mean = ADVANTAGES.iter().map(|&a| f64::from(a)).sum::<f64>() / 8.0;
        assert!((out.loss + mean).abs() < 1e-9);
    }

    #[test]
    fn weights_of_micro_batches_make_one_mean() {
        // Responses of 1 and 3 tokens in a minibatch of 2; capacity 4.
        let weights = |average: LossAverage| average.weights(&[1, 3], 2, 4, 4);
        assert_eq!(weights(LossAverage::Tokens), [0.25; 4]);
        close(
            &weights(LossAverage::Rows),
            &[0.5, 1.0 / 6.0, 1.0 / 6.0, 1.0 / 6.0],
            1e-8,
        );
        assert_eq!(weights(LossAverage::Capacity), [0.125; 4]);
    }

    #[test]
    fn explained_variance_knows_perfect_constant_and_worse() {
        let returns = [1.0, 2.0, 3.0];
        assert_eq!(explained_variance(&returns, &returns), Some(1.0));
        assert_eq!(explained_variance(&[7.0; 3], &returns), Some(0.0));
        assert_eq!(explained_variance(&[3.0, 2.0, 1.0], &returns), Some(-3.0));
        assert_eq!(explained_variance(&returns, &[1.0; 3]), None);
    }
}
