//! How far each pair of channels turns from one position to the next, and the ways in which families stretch that for longer
//! rows. The formulas are those of transformers' `modeling_rope_utils.py`, in f64 where it computes in f32.

use std::f64::consts::TAU;
use std::sync::Arc;

/// The frequencies of a rotary embedding.
#[derive(Clone, Debug, PartialEq)]
pub struct Frequencies {
    /// Radians per position of each pair, (D/2,).
    pub of: Arc<[f64]>,
    /// Cosines and sines are multiplied by it (longrope's attention factor), else 1.
    pub factor: f64,
}

impl Frequencies {
    /// theta^(−2i/D) for the pairs i < `half` = D/2 (Su et al. 2021, section 3.2.2).
    pub fn new(theta: f64, half: usize) -> Self {
        Self {
            of: (0..half)
                .map(|i| theta.powf(-(i as f64) / half as f64))
                .collect(),
            factor: 1.0,
        }
    }

    /// No rotation: a turn by 0, which leaves every bit as it is.
    pub fn none(half: usize) -> Self {
        Self {
            of: vec![0.0; half].into(),
            factor: 1.0,
        }
    }

    /// Positions closer by `factor` (Chen et al. 2023, position interpolation; `linear`).
    #[must_use]
    pub fn linear(self, factor: f64) -> Self {
        self.map(|_, frequency| frequency / factor)
    }

    /// Of wavelengths in tokens: those above `original` / `low` are stretched by `factor`, those below `original` / `high` stay, and
    /// between them frequencies go over from one to the other (LLaMA 3.1; `llama3`). `original` is the length of rows that the
    /// model was pretrained on.
    #[must_use]
    pub fn llama3(self, factor: f64, low: f64, high: f64, original: usize) -> Self {
        let original = original as f64;
        self.map(|_, frequency| {
            let wavelength = TAU / frequency;
            if wavelength > original / low {
                frequency / factor
            } else if wavelength < original / high {
                frequency
            } else {
                let smooth = (original / wavelength - low) / (high - low);
                (1.0 - smooth) * frequency / factor + smooth * frequency
            }
        })
    }

    /// Each pair's frequency divided by its own of `factors` (D/2,), and cosines and sines times `attention_factor` (Ding et al.
    /// 2024; `longrope`).
    ///
    /// # Panics
    /// Factors that are not one for each pair.
    #[must_use]
    pub fn longrope(self, factors: &[f64], attention_factor: f64) -> Self {
        assert_eq!(factors.len(), self.of.len(), "a factor for each pair");
        Self {
            factor: attention_factor,
            ..self.map(|pair, frequency| frequency / factors[pair])
        }
    }

    fn map(self, by: impl Fn(usize, f64) -> f64) -> Self {
        let all = self.of.iter().enumerate();
        Self {
            of: all.map(|(pair, &frequency)| by(pair, frequency)).collect(),
            ..self
        }
    }

    /// The same to the bit, which is what tables are found by.
    pub(super) fn is(&self, other: &Self) -> bool {
        let bits = |of: &Self| -> Vec<u64> {
            let all = of.of.iter().chain([&of.factor]);
            all.map(|x| x.to_bits()).collect()
        };
        Arc::ptr_eq(&self.of, &other.of) && self.factor.to_bits() == other.factor.to_bits()
            || bits(self) == bits(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// To the f32 that transformers computes in.
    fn assert_frequencies(found: &Frequencies, factor: f64, expected: &[f64]) {
        assert_eq!(found.of.len(), expected.len());
        for (found, expected) in found.of.iter().zip(expected) {
            assert!((found / expected - 1.0).abs() < 1e-6, "{found} {expected}");
        }
        assert!((found.factor - factor).abs() < 1e-12, "{}", found.factor);
    }

    /// transformers 5.17, with `half` = 4 pairs of theta = 10000:
    ///
    /// ```python
    /// from transformers import LlamaConfig
    /// from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
    /// common = dict(hidden_size=32, num_attention_heads=4, head_dim=8, max_position_embeddings=4096)
    /// for rope in [
    ///     dict(rope_type="linear", factor=8.0),
    ///     dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
    ///          original_max_position_embeddings=1024),
    ///     dict(rope_type="longrope", short_factor=[1.0, 1.25, 2.0, 4.5], long_factor=[1.0] * 4, factor=16.0,
    ///          original_max_position_embeddings=256),
    /// ]:
    ///     config = LlamaConfig(**common, rope_parameters=dict(rope_theta=10000.0, **rope))
    ///     frequencies, factor = ROPE_INIT_FUNCTIONS[rope["rope_type"]](config, "cpu")
    ///     print([f.item() for f in frequencies.double()], factor)
    /// ```
    #[test]
    fn scaled_frequencies_are_those_of_transformers() {
        let plain = || Frequencies::new(1e4, 4);
        assert_frequencies(&plain(), 1.0, &[1.0, 0.1, 0.01, 0.001]);
        let linear = plain().linear(8.0);
        assert_frequencies(
            &linear,
            1.0,
            &[
                0.125_000_000_000,
                0.012_500_000_186,
                0.001_249_999_972,
                0.000_125_000_006,
            ],
        );
        let llama3 = plain().llama3(8.0, 1.0, 4.0, 1024);
        assert_frequencies(
            &llama3,
            1.0,
            &[
                1.000_000_000_000,
                0.100_000_001_490,
                0.003_086_760_640,
                0.000_125_000_006,
            ],
        );
        let factor = 1.224_744_871_391_589;
        let longrope = plain().longrope(&[1.0, 1.25, 2.0, 4.5], factor);
        assert_frequencies(
            &longrope,
            factor,
            &[
                1.000_000_000_000,
                0.079_999_998_212,
                0.004_999_999_888,
                0.000_222_222_225,
            ],
        );
    }
}
