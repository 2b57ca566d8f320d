//! Weights rounded to bfloat16, the upper half of an f32: sign, 8 bits of exponent, 7 of fraction.
//!
//! Rounding is to the nearest, ties to even: a normal weight w moves by at most 2⁻⁸·|w|. Widening is exact, and what is
//! multiplied and added is f32.

use half::bf16;

use super::{Layout, PANEL, products};

/// (⌈O / PANEL⌉, I, PANEL), zeros behind the last output.
pub(super) struct Bf16Panels {
    inputs: usize,
    weights: Vec<bf16>,
}

/// Without the branch of [`bf16::to_f32`] that quietens signalling NaN, which would stand in the way of vectorisation.
#[inline]
fn widen(weight: bf16) -> f32 {
    f32::from_bits(u32::from(weight.to_bits()) << 16)
}

impl Layout for Bf16Panels {
    fn zeros(inputs: usize, panels: usize) -> Self {
        Self {
            inputs,
            weights: vec![bf16::ZERO; panels * inputs * PANEL],
        }
    }

    fn put(&mut self, panel: usize, lane: usize, row: &[f32]) {
        let weights = self.weights.as_chunks_mut::<PANEL>().0;
        for (weights, weight) in weights[panel * self.inputs..].iter_mut().zip(row) {
            weights[lane] = bf16::from_f32(*weight);
        }
    }

    fn row(&self, panel: usize, lane: usize) -> impl Iterator<Item = f32> {
        let weights = &self.weights.as_chunks::<PANEL>().0[panel * self.inputs..];
        weights[..self.inputs]
            .iter()
            .map(move |weights| widen(weights[lane]))
    }

    fn bytes(&self) -> usize {
        size_of_val(&*self.weights)
    }

    #[inline]
    fn product<const R: usize>(&self, panel: usize, rows: [&[f32]; R]) -> [[f32; PANEL]; R] {
        let weights = &self.weights.as_chunks::<PANEL>().0[panel * self.inputs..];
        products(&weights[..self.inputs], rows, widen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounded(row: &[f32]) -> Vec<f32> {
        let mut panels = Bf16Panels::zeros(row.len(), 1);
        panels.put(0, PANEL - 1, row);
        panels.row(0, PANEL - 1).collect()
    }

    // import ml_dtypes, numpy as np  (0.6.0)
    // w = np.float32([0.1, -0.2, 3.3, 1e-3, 65504, 1e-40])
    // print(w.astype(ml_dtypes.bfloat16).astype(np.float32).tolist())
    #[test]
    fn rounding_is_that_of_ml_dtypes() {
        let weights = [0.1, -0.2, 3.3, 1e-3, 65_504.0, 1e-40];
        let expected = [
            0.100_097_656,
            -0.200_195_31,
            3.296_875,
            0.000_999_450_7,
            65_536.0,
            9.183_55e-41,
        ];
        assert_eq!(rounded(&weights), expected);
    }

    #[test]
    fn ties_go_to_even_and_what_is_not_finite_stays_so() {
        // One unit in the last place of 1 is 2⁻⁷.
        let unit = 0.007_812_5;
        assert_eq!(
            rounded(&[1.0 + 0.5 * unit, 1.0 + 1.5 * unit, -1.0 - 2.5 * unit, -0.0]),
            [1.0, 1.0 + 2.0 * unit, -1.0 - 2.0 * unit, 0.0]
        );
        let wild = rounded(&[f32::INFINITY, f32::NAN, f32::MAX]);
        assert_eq!((wild[0], wild[2]), (f32::INFINITY, f32::INFINITY));
        assert!(wild[1].is_nan());
    }
}
