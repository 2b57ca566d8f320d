//! Whitening over the response tokens of a rollout: there are no pads that could take part.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Added where a variance could be 0; the same in AlpacaFarm and TRL, in different places.
const EPSILON: f64 = 1e-8;

/// Which variance, and where its epsilon stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Whitening {
    /// No whitening.
    #[default]
    None,
    /// (x − μ) / (σ + 1e-8) with the variance over n (AlpacaFarm's `whiten`).
    Population,
    /// (x − μ) / √(σ² + 1e-8) with the variance over n − 1 (TRL's `masked_whiten`).
    Sample,
}

/// What happens to the mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mean {
    /// It becomes 0: advantages.
    Remove,
    /// It is added back after the scaling: rewards.
    Keep,
}

/// Whitens in place. Fewer than two values have no spread: their variance counts as 0 (TRL raises there).
pub fn whiten(values: &mut [f32], whitening: Whitening, mean: Mean) {
    let n = values.len() as f64;
    let average = values.iter().map(|&x| f64::from(x)).sum::<f64>() / n.max(1.0);
    let squares: f64 = values
        .iter()
        .map(|&x| (f64::from(x) - average).powi(2))
        .sum();
    let scale = match whitening {
        Whitening::None => return,
        Whitening::Population => 1.0 / ((squares / n.max(1.0)).sqrt() + EPSILON),
        Whitening::Sample => 1.0 / (squares / (n - 1.0).max(1.0) + EPSILON).sqrt(),
    };
    let shift = match mean {
        Mean::Remove => 0.0,
        Mean::Keep => average,
    };
    for x in values {
        *x = ((f64::from(*x) - average) * scale + shift) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUES: [f32; 8] = [0.5, -1.0, 2.0, 0.25, -0.75, 1.5, 0.0, 3.0];

    fn check(whitening: Whitening, mean: Mean, expected: [f32; 8]) {
        let mut values = VALUES;
        whiten(&mut values, whitening, mean);
        for (value, expected) in values.iter().zip(expected) {
            assert!((value - expected).abs() < 5e-7, "{values:?}");
        }
    }

    // Rows of 3, 1 and 4 response tokens; the 9s are pads.
    //
    // import torch
    // from trl.experimental.ppo.ppo_trainer import masked_whiten   # trl 1.10
    // x = torch.tensor([[0.5, -1.0, 2.0, 9.0], [0.25, 9.0, 9.0, 9.0], [-0.75, 1.5, 0.0, 3.0]])
    // mask = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]]).bool()
    // for shift in (True, False): print(masked_whiten(x, mask, shift_mean=shift)[mask].tolist())
    #[test]
    fn sample_agrees_with_trl_on_the_response_tokens() {
        check(
            Whitening::Sample,
            Mean::Remove,
            [
                -0.135_803_61,
                -1.222_232_6,
                0.950_625_3,
                -0.316_875_1,
                -1.041_161_1,
                0.588_482_3,
                -0.497_946_6,
                1.674_911_3,
            ],
        );
        check(
            Whitening::Sample,
            Mean::Keep,
            [
                0.551_696_4,
                -0.534_732_6,
                1.638_125_3,
                0.370_624_9,
                -0.353_661_06,
                1.275_982_4,
                0.189_553_4,
                2.362_411_3,
            ],
        );
    }

    // v = x[mask]; mean, std = v.mean(), v.std(unbiased=False)   # alpaca_farm.torch_ops.whiten
    // print((v - mean) / (std + 1e-8), (v - mean) / (std + 1e-8) + mean)
    #[test]
    fn population_agrees_with_alpacafarm_on_the_response_tokens() {
        check(
            Whitening::Population,
            Mean::Remove,
            [
                -0.145_180_18,
                -1.306_621_6,
                1.016_261_2,
                -0.338_753_73,
                -1.113_048,
                0.629_114_1,
                -0.532_327_3,
                1.790_555_5,
            ],
        );
        check(
            Whitening::Population,
            Mean::Keep,
            [
                0.542_319_83,
                -0.619_121_55,
                1.703_761_2,
                0.348_746_27,
                -0.425_547_96,
                1.316_614_2,
                0.155_172_7,
                2.478_055_5,
            ],
        );
    }

    #[test]
    fn no_spread_gives_finite_values() {
        for whitening in [Whitening::Population, Whitening::Sample] {
            for values in [&mut [3.0f32][..], &mut [2.0, 2.0], &mut []] {
                whiten(values, whitening, Mean::Remove);
                assert!(values.iter().all(|&x| x == 0.0), "{whitening:?} {values:?}");
            }
        }
    }
}
