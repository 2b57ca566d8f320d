//! Weights rounded to 8-bit integers, symmetric about 0, with a scale for every block of 32 inputs of an output:
//!
//! ```text
//! s = max |w| / 127 over the block        (f32; 1 + 4/32 bytes a weight)
//! q = w / s to the nearest integer, ties to even, in −127 ..= 127
//! w ≈ s · q, off by at most s / 2 = max |w| / 254
//! Σ w·x ≈ Σ_blocks s · Σ q·x              (q and x as f32, sums in f32)
//! ```
//! The last block of an output may be shorter. A block of zeros has the scale 0. A block with a weight that is not finite
//! has the scale NaN, so that what is computed with it is seen to be wrong.

use super::{Layout, PANEL, products};
use crate::ops::Element;

/// Inputs that share a scale, as in GGUF's `Q8_0` (whose scale is an f16).
const BLOCK: usize = 32;

/// The largest integer.
const LARGEST: f32 = 127.0;

pub(super) struct Q8Panels {
    inputs: usize,
    /// (⌈O / PANEL⌉, I, PANEL), zeros behind the last output.
    weights: Vec<i8>,
    /// (⌈O / PANEL⌉, ⌈I / BLOCK⌉, PANEL).
    scales: Vec<f32>,
}

/// The scale of a block.
fn scale(block: &[f32]) -> f32 {
    let largest = block.iter().fold(0.0, |largest: f32, weight| {
        // `max` would lose a NaN.
        if weight.is_finite() {
            largest.max(weight.abs())
        } else {
            f32::INFINITY
        }
    });
    if largest.is_finite() {
        largest / LARGEST
    } else {
        f32::NAN
    }
}

/// The integer of a weight. 0 / 0 is NaN, and NaN becomes 0.
fn quantise(weight: f32, scale: f32) -> i8 {
    (weight / scale).round_ties_even().clamp(-LARGEST, LARGEST) as i8
}

/// Σ q·x over a block. Inlined into the loop over blocks, it would not be vectorised.
#[inline(never)]
fn integer_products<const R: usize>(
    weights: &[[i8; PANEL]],
    rows: [&[f32]; R],
) -> [[f32; PANEL]; R] {
    products(weights, rows, f32::from)
}

impl Q8Panels {
    fn blocks(&self) -> usize {
        self.inputs.div_ceil(BLOCK)
    }
}

impl Layout for Q8Panels {
    fn zeros(inputs: usize, panels: usize) -> Self {
        Self {
            inputs,
            weights: vec![0; panels * inputs * PANEL],
            scales: vec![0.0; panels * inputs.div_ceil(BLOCK) * PANEL],
        }
    }

    fn put(&mut self, panel: usize, lane: usize, row: &[f32]) {
        let first = panel * self.blocks();
        let weights = self.weights.as_chunks_mut::<PANEL>().0;
        let weights = weights[panel * self.inputs..].chunks_mut(BLOCK);
        let scales = self.scales.as_chunks_mut::<PANEL>().0;
        let scales = scales[first..].iter_mut();
        for ((row, weights), scales) in row.chunks(BLOCK).zip(weights).zip(scales) {
            let scale = scale(row);
            scales[lane] = scale;
            for (weights, weight) in weights.iter_mut().zip(row) {
                weights[lane] = quantise(*weight, scale);
            }
        }
    }

    fn row(&self, panel: usize, lane: usize) -> impl Iterator<Item = f32> {
        let weights = &self.weights.as_chunks::<PANEL>().0[panel * self.inputs..];
        let scales = &self.scales.as_chunks::<PANEL>().0[panel * self.blocks()..];
        let blocks = weights[..self.inputs].chunks(BLOCK).zip(scales);
        blocks.flat_map(move |(weights, scales)| {
            let scale = scales[lane];
            weights
                .iter()
                .map(move |weights| scale * f32::from(weights[lane]))
        })
    }

    fn bytes(&self) -> usize {
        size_of_val(&*self.weights) + size_of_val(&*self.scales)
    }

    #[inline]
    fn product<const R: usize>(&self, panel: usize, rows: [&[f32]; R]) -> [[f32; PANEL]; R] {
        let weights = &self.weights.as_chunks::<PANEL>().0[panel * self.inputs..];
        let scales = &self.scales.as_chunks::<PANEL>().0[panel * self.blocks()..];
        let blocks = weights[..self.inputs].chunks(BLOCK).zip(scales);
        let mut sums = [[0.0; PANEL]; R];
        for (block, (weights, scales)) in blocks.enumerate() {
            let part = integer_products(weights, rows.map(|row| &row[block * BLOCK..]));
            for (sums, part) in sums.iter_mut().zip(&part) {
                for ((sum, part), scale) in sums.iter_mut().zip(part).zip(scales) {
                    *sum = scale.fma(*part, *sum);
                }
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounded(row: &[f32]) -> Vec<f32> {
        let mut panels = Q8Panels::zeros(row.len(), 2);
        panels.put(1, 3, row);
        panels.row(1, 3).collect()
    }

    /// A block whose largest is 127/64 has the scale 2⁻⁶, and everything below is exact.
    #[test]
    fn known_values() {
        let mut block = vec![0.0; BLOCK];
        block[..6].copy_from_slice(&[
            -127.0 / 64.0,
            1.0,
            2.5 / 64.0, // a tie: to 2
            3.5 / 64.0, // a tie: to 4
            -0.49 / 64.0,
            126.51 / 64.0,
        ]);
        let mut expected = vec![0.0; BLOCK];
        expected[..6].copy_from_slice(&[-127.0, 64.0, 2.0, 4.0, 0.0, 127.0]);
        for value in &mut expected {
            *value /= 64.0;
        }
        assert_eq!(rounded(&block), expected);
    }

    /// The remainder's block has its own scale: small weights behind a block of large ones keep their precision.
    #[test]
    fn every_block_has_its_own_scale_and_the_bound_holds() {
        for inputs in [1, 31, 32, 33, 70] {
            let row: Vec<f32> = (0..inputs)
                .map(|i| (i as f32 * 1.7).sin() * 10f32.powi(-((i / BLOCK) as i32)))
                .collect();
            for (block, rounded) in row.chunks(BLOCK).zip(rounded(&row).chunks(BLOCK)) {
                let largest = block
                    .iter()
                    .fold(0f32, |most, weight| most.max(weight.abs()));
                for (weight, rounded) in block.iter().zip(rounded) {
                    // s / 2, and a few units in the last place for the two roundings of f32.
                    let bound = largest / 254.0 * (1.0 + 1e-5);
                    assert!((weight - rounded).abs() <= bound, "{weight} {rounded}");
                }
            }
        }
    }

    #[test]
    fn zeros_stay_zero_and_what_is_not_finite_is_seen() {
        assert_eq!(rounded(&[0.0; 40]), [0.0; 40]);
        for wild in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let rounded = rounded(&[1.0, wild, 2.0]);
            assert!(rounded.iter().all(|weight| weight.is_nan()), "{rounded:?}");
        }
        // Too small for a scale of their own.
        assert_eq!(rounded(&[1e-45, -1e-45]), [0.0, 0.0]);
    }
}
