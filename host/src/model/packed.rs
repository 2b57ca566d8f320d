//! A weight matrix laid out for thin products, (rows, I) · (O, I)ᵀ → (rows, O), with as few as one row.
//!
//! A general matrix product picks its kernel, and with it the order of its sums, by the number of rows: the same row
//! then has other bits in another batch. Here each output is one chain of multiply-adds over I whatever stands beside
//! it, so that a row's logits, and what is sampled from them, depend on the row alone.
//!
//! The weights lie in panels: for PANEL outputs at a time their weights of input 0, then of input 1, and so on. A file each
//! says how a weight is stored there: as f32, as bf16, or as an 8-bit integer.

mod bf16_panels;
mod f32_panels;
mod q8_panels;

use rayon::prelude::*;

use self::bf16_panels::Bf16Panels;
use self::f32_panels::F32Panels;
use self::q8_panels::Q8Panels;
use super::sampling_weights::SamplingWeights;
use crate::ops::Element;

/// Outputs worked on together: two vector registers.
const PANEL: usize = if cfg!(target_feature = "avx512f") {
    32
} else {
    16
};

/// Rows worked on together: ROWS · PANEL partial sums fit the registers.
const ROWS: usize = 4;

/// Multiply-adds from which several threads pay (about a tenth of a millisecond's work for one).
const PARALLEL: usize = 1 << 23;

/// How the weights of a panel are stored. An output is a lane of a panel.
trait Layout: Sync + Sized {
    /// Room for `panels` panels of `inputs` inputs, all zero.
    fn zeros(inputs: usize, panels: usize) -> Self;

    /// Stores the weights (I,) of one output.
    fn put(&mut self, panel: usize, lane: usize, row: &[f32]);

    /// The weights (I,) of one output as they take part in products.
    fn row(&self, panel: usize, lane: usize) -> impl Iterator<Item = f32>;

    /// Memory of the weights, padding included.
    fn bytes(&self) -> usize;

    /// R rows (I,) by one panel. The sums of a row are the same for every R.
    fn product<const R: usize>(&self, panel: usize, rows: [&[f32]; R]) -> [[f32; PANEL]; R];
}

/// R rows by some inputs of a panel: `weights` for each of them, `widen` makes an f32 of one. The sums of a row are the same
/// for every R.
///
/// The compiler keeps the sums in registers as long as they are a variable of their own, made and returned here; in a
/// function that is handed them it takes half the speed.
#[inline]
fn products<W: Copy, const R: usize>(
    weights: &[[W; PANEL]],
    rows: [&[f32]; R],
    widen: impl Fn(W) -> f32,
) -> [[f32; PANEL]; R] {
    let rows = rows.map(|row| &row[..weights.len()]);
    let mut sums = [[0.0; PANEL]; R];
    for (input, weights) in weights.iter().enumerate() {
        let mut wide = [0.0; PANEL];
        for (wide, weight) in wide.iter_mut().zip(weights) {
            *wide = widen(*weight);
        }
        for (sums, row) in sums.iter_mut().zip(rows) {
            let value = row[input];
            for (sum, weight) in sums.iter_mut().zip(&wide) {
                *sum = value.fma(*weight, *sum);
            }
        }
    }
    sums
}

/// The panels of a matrix, in one of the formats.
enum Format {
    F32(F32Panels),
    Bf16(Bf16Panels),
    Q8(Q8Panels),
}

/// An (O, I) matrix.
pub(super) struct PackedMatrix {
    inputs: usize,
    outputs: usize,
    panels: Format,
}

impl PackedMatrix {
    /// Packs a matrix (O, I), row by row.
    pub(super) fn new(matrix: &[f32], inputs: usize, weights: SamplingWeights) -> Self {
        let outputs = matrix.len() / inputs;
        Self {
            inputs,
            outputs,
            panels: match weights {
                SamplingWeights::F32 => Format::F32(pack(matrix, inputs, outputs)),
                SamplingWeights::Bf16 => Format::Bf16(pack(matrix, inputs, outputs)),
                SamplingWeights::Q8 => Format::Q8(pack(matrix, inputs, outputs)),
            },
        }
    }

    /// Memory of the weights, padding included.
    pub(super) fn bytes(&self) -> usize {
        match &self.panels {
            Format::F32(panels) => panels.bytes(),
            Format::Bf16(panels) => panels.bytes(),
            Format::Q8(panels) => panels.bytes(),
        }
    }

    /// Appends the weights (I,) of one output, as they take part in products.
    pub(super) fn extend_with_row(&self, output: usize, out: &mut Vec<f32>) {
        let (panel, lane) = (output / PANEL, output % PANEL);
        match &self.panels {
            Format::F32(panels) => out.extend(panels.row(panel, lane)),
            Format::Bf16(panels) => out.extend(panels.row(panel, lane)),
            Format::Q8(panels) => out.extend(panels.row(panel, lane)),
        }
    }

    /// x (rows, I) → out (rows, O).
    pub(super) fn multiply(&self, x: &[f32], out: &mut [f32]) {
        match &self.panels {
            Format::F32(panels) => self.multiply_by(panels, x, out),
            Format::Bf16(panels) => self.multiply_by(panels, x, out),
            Format::Q8(panels) => self.multiply_by(panels, x, out),
        }
    }

    fn multiply_by(&self, layout: &impl Layout, x: &[f32], out: &mut [f32]) {
        let rows = x.len() / self.inputs;
        let panels = self.outputs.div_ceil(PANEL);
        if rows * panels * PANEL * self.inputs < PARALLEL {
            for panel in 0..panels {
                self.panel(layout, panel, x, |row, values| {
                    self.store(panel, row, values, out);
                });
            }
            return;
        }
        // The outputs of a panel are not contiguous in `out`, so that threads cannot share it in safe code; each panel
        // gathers its own, which is a small part of the work of a product this large.
        let gathered: Vec<Vec<[f32; PANEL]>> = (0..panels)
            .into_par_iter()
            .map(|panel| {
                let mut block = vec![[0.0; PANEL]; rows];
                self.panel(layout, panel, x, |row, values| block[row] = *values);
                block
            })
            .collect();
        for (panel, block) in gathered.iter().enumerate() {
            for (row, values) in block.iter().enumerate() {
                self.store(panel, row, values, out);
            }
        }
    }

    fn store(&self, panel: usize, row: usize, values: &[f32; PANEL], out: &mut [f32]) {
        let first = panel * PANEL;
        let width = PANEL.min(self.outputs - first);
        let start = row * self.outputs + first;
        out[start..start + width].copy_from_slice(&values[..width]);
    }

    /// All rows of `x` through one panel.
    #[inline]
    fn panel(
        &self,
        layout: &impl Layout,
        panel: usize,
        x: &[f32],
        mut store: impl FnMut(usize, &[f32; PANEL]),
    ) {
        let blocks = x.chunks_exact(ROWS * self.inputs);
        let (rest, full) = (blocks.remainder(), blocks.len() * ROWS);
        for (block, x) in blocks.enumerate() {
            let rows: [&[f32]; ROWS] =
                std::array::from_fn(|row| &x[row * self.inputs..(row + 1) * self.inputs]);
            for (row, values) in layout.product(panel, rows).iter().enumerate() {
                store(block * ROWS + row, values);
            }
        }
        for (row, x) in rest.chunks_exact(self.inputs).enumerate() {
            let [values] = layout.product(panel, [x]);
            store(full + row, &values);
        }
    }
}

fn pack<L: Layout>(matrix: &[f32], inputs: usize, outputs: usize) -> L {
    let mut layout = L::zeros(inputs, outputs.div_ceil(PANEL));
    for (output, row) in matrix.chunks_exact(inputs).enumerate() {
        layout.put(output / PANEL, output % PANEL, row);
    }
    layout
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};
    use finegrain_sdk::rng::Stream;

    use super::*;
    use crate::error::Result;
    use crate::model::parameters;

    const ALL: [SamplingWeights; 3] = [
        SamplingWeights::F32,
        SamplingWeights::Bf16,
        SamplingWeights::Q8,
    ];

    /// Small integers, so that every order of summation gives the same float. All formats keep them: bf16 has 8 bits, and
    /// ±127/8 in every block makes the scale of q8 1/8.
    fn integers(count: usize, seed: usize) -> Vec<f32> {
        (0..count)
            .map(|i| ((i * 7 + seed) % 11) as f32 - 5.0)
            .collect()
    }

    fn check(weights: SamplingWeights, total: usize, inputs: usize, rows: usize) -> Result<()> {
        let device = Device::Cpu;
        let mut values = integers(total * inputs, 3);
        if weights == SamplingWeights::Q8 {
            for row in values.chunks_exact_mut(inputs) {
                for weight in row.iter_mut().step_by(32) {
                    *weight = 127.0 / 8.0;
                }
            }
        }
        let x = integers(rows * inputs, 1);
        let packed = PackedMatrix::new(&values, inputs, weights);
        let mut stored = Vec::new();
        (0..total).for_each(|output| packed.extend_with_row(output, &mut stored));
        assert_eq!(stored, values);
        let mut out = vec![f32::NAN; rows * total];
        packed.multiply(&x, &mut out);
        let matrix = Tensor::from_slice(&values, (total, inputs), &device)?;
        let expected = Tensor::from_vec(x, (rows, inputs), &device)?.matmul(&matrix.t()?)?;
        assert_eq!(out, expected.flatten_all()?.to_vec1::<f32>()?);
        Ok(())
    }

    #[test]
    fn products_are_right_at_every_remainder() -> Result<()> {
        for weights in ALL {
            for rows in [1, 3, 4, 5, 9] {
                for outputs in [3, 32, 65] {
                    for inputs in [13, 64, 70] {
                        check(weights, outputs, inputs, rows)?;
                    }
                }
            }
        }
        Ok(())
    }

    #[test]
    fn a_large_product_on_several_threads_is_the_same() -> Result<()> {
        for weights in ALL {
            check(weights, 1041, 260, 33)?;
        }
        Ok(())
    }

    /// Memory a weight, at a whole number of panels and blocks.
    #[test]
    fn a_weight_takes_the_bits_that_its_format_says() {
        for weights in ALL {
            let packed = PackedMatrix::new(&vec![0.0; 64 * 96], 96, weights);
            assert_eq!(8 * packed.bytes(), 64 * 96 * weights.bits());
        }
    }

    /// N(0, 1).
    fn normal(count: usize) -> Vec<f32> {
        parameters::normal(&Stream::new(11), 1.0, count)
    }

    /// Against the product of the unrounded weights in f64. Rounding moves a weight w by at most 2⁻⁸·|w| (bf16: half a unit
    /// in the last of 8 places) or max |w| / 254 over its block of 32 inputs (q8), so that an output moves by at most the sum
    /// over inputs of that times |x|. To this comes the rounding of f32 sums: I + 1 operations, each relative to 2⁻²⁴,
    /// on at most Σ |w·x|. The bound is not idle: the largest error is above a tenth of it (0 for f32).
    #[test]
    fn products_of_rounded_weights_are_within_the_bound_of_the_format() {
        let (outputs, inputs, rows) = (50, 100, 6);
        let matrix = normal(outputs * inputs);
        let x: Vec<f32> = (0..rows * inputs).map(|i| (i as f32).sin()).collect();
        for weights in ALL {
            let mut out = vec![0.0; rows * outputs];
            PackedMatrix::new(&matrix, inputs, weights).multiply(&x, &mut out);
            let mut closest = 0f64;
            for (x, out) in x.chunks_exact(inputs).zip(out.chunks_exact(outputs)) {
                for (w, out) in matrix.chunks_exact(inputs).zip(out) {
                    let (mut sum, mut size, mut bound) = (0.0, 0.0, 0.0);
                    for (w, x) in w.chunks(32).zip(x.chunks(32)) {
                        let largest = w.iter().fold(0f32, |most, w| most.max(w.abs()));
                        for (w, x) in w.iter().zip(x) {
                            let (w, x) = (f64::from(*w), f64::from(*x));
                            sum += w * x;
                            size += (w * x).abs();
                            bound += x.abs()
                                * match weights {
                                    SamplingWeights::F32 => 0.0,
                                    SamplingWeights::Bf16 => w.abs() / 256.0,
                                    SamplingWeights::Q8 => f64::from(largest) / 254.0,
                                };
                        }
                    }
                    let arithmetic = (inputs + 1) as f64 * size / f64::from(1 << 24);
                    let error = (f64::from(*out) - sum).abs();
                    assert!(error <= bound + arithmetic, "{weights}: {error} {bound}");
                    closest = closest.max(error / bound);
                }
            }
            assert!(
                !weights.rounds() || closest > 0.1,
                "{weights}: {closest} of the bound"
            );
        }
    }

    #[test]
    fn a_row_has_the_same_bits_alone_and_among_others() {
        let (inputs, rows) = (300, 31);
        let matrix = normal(1000 * inputs);
        let x: Vec<f32> = (0..rows * inputs).map(|i| (i as f32).sin()).collect();
        for weights in ALL {
            let packed = PackedMatrix::new(&matrix, inputs, weights);
            let (mut together, mut alone) = (vec![0.0; rows * 1000], vec![0.0; 1000]);
            packed.multiply(&x, &mut together);
            for (x, expected) in x.chunks_exact(inputs).zip(together.chunks_exact(1000)) {
                packed.multiply(x, &mut alone);
                assert_eq!(alone, expected);
            }
        }
    }
}
