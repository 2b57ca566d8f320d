//! A weight matrix laid out for thin products, (rows, I) · (O, I)ᵀ → (rows, O), with as few as one row.
//!
//! A general matrix product picks its kernel, and with it the order of its sums, by the number of rows: the same row
//! then has other bits in another batch. Here each output is one chain of multiply-adds over I whatever stands beside
//! it, so that a row's logits, and what is sampled from them, depend on the row alone.

use rayon::prelude::*;

use super::vector::mul_add;

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

/// An (O, I) matrix in panels: for PANEL outputs at a time their weights of input 0, then of input 1, and so on.
pub(super) struct PackedMatrix {
    inputs: usize,
    outputs: usize,
    /// (⌈O / PANEL⌉, I, PANEL), zeros behind the last output.
    panels: Vec<f32>,
}

impl PackedMatrix {
    /// Packs matrices (Oₙ, I), row by row, below each other.
    pub(super) fn new(matrices: &[&[f32]], inputs: usize) -> Self {
        let rows = matrices.concat();
        let outputs = rows.len() / inputs;
        let mut panels = vec![0.0; outputs.next_multiple_of(PANEL) * inputs];
        for (panel, rows) in panels
            .chunks_exact_mut(PANEL * inputs)
            .zip(rows.chunks(PANEL * inputs))
        {
            for (output, row) in rows.chunks_exact(inputs).enumerate() {
                for (input, weight) in row.iter().enumerate() {
                    panel[input * PANEL + output] = *weight;
                }
            }
        }
        Self {
            inputs,
            outputs,
            panels,
        }
    }

    /// O.
    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }

    /// How many weights there are, padding included.
    pub(super) fn len(&self) -> usize {
        self.panels.len()
    }

    /// x (rows, I) → out (rows, O). `out` is resized; its old content does not matter.
    pub(super) fn multiply(&self, x: &[f32], out: &mut Vec<f32>) {
        let rows = x.len() / self.inputs;
        out.resize(rows * self.outputs, 0.0);
        if rows * self.panels.len() < PARALLEL {
            for (index, panel) in self.panels.chunks_exact(PANEL * self.inputs).enumerate() {
                self.panel(panel, x, |row, values| {
                    self.store(index, row, values, out);
                });
            }
            return;
        }
        // The outputs of a panel are not contiguous in `out`, so that threads cannot share it in safe code; each panel
        // gathers its own, which is a small part of the work of a product this large.
        let panels = self.panels.par_chunks_exact(PANEL * self.inputs);
        let gathered: Vec<Vec<[f32; PANEL]>> = panels
            .map(|panel| {
                let mut block = vec![[0.0; PANEL]; rows];
                self.panel(panel, x, |row, values| block[row] = *values);
                block
            })
            .collect();
        for (index, block) in gathered.iter().enumerate() {
            for (row, values) in block.iter().enumerate() {
                self.store(index, row, values, out);
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
    fn panel(&self, panel: &[f32], x: &[f32], mut store: impl FnMut(usize, &[f32; PANEL])) {
        let blocks = x.chunks_exact(ROWS * self.inputs);
        let (rest, full) = (blocks.remainder(), blocks.len() * ROWS);
        for (block, x) in blocks.enumerate() {
            let sums: [_; ROWS] = block_product(panel, x, self.inputs);
            for (row, values) in sums.iter().enumerate() {
                store(block * ROWS + row, values);
            }
        }
        for (row, x) in rest.chunks_exact(self.inputs).enumerate() {
            let [values] = block_product(panel, x, self.inputs);
            store(full + row, &values);
        }
    }
}

/// R rows by one panel. The sums of a row are the same for every R.
#[inline]
fn block_product<const R: usize>(panel: &[f32], x: &[f32], inputs: usize) -> [[f32; PANEL]; R] {
    let rows: [&[f32]; R] = std::array::from_fn(|row| &x[row * inputs..(row + 1) * inputs]);
    let mut sums = [[0.0; PANEL]; R];
    for (input, weights) in panel.as_chunks::<PANEL>().0.iter().enumerate().take(inputs) {
        for (sums, row) in sums.iter_mut().zip(rows) {
            let value = row[input];
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum = mul_add(value, *weight, *sum);
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::error::Result;

    /// Small integers, so that every order of summation gives the same float.
    fn integers(count: usize, seed: usize) -> Vec<f32> {
        (0..count)
            .map(|i| ((i * 7 + seed) % 11) as f32 - 5.0)
            .collect()
    }

    fn check(outputs: [usize; 2], inputs: usize, rows: usize) -> Result<()> {
        let device = Device::Cpu;
        let total = outputs[0] + outputs[1];
        let weights = integers(total * inputs, 3);
        let x = integers(rows * inputs, 1);
        let (first, second) = weights.split_at(outputs[0] * inputs);
        let packed = PackedMatrix::new(&[first, second], inputs);
        assert_eq!(packed.outputs(), total);
        let mut out = vec![f32::NAN; 3];
        packed.multiply(&x, &mut out);
        let weights = Tensor::from_slice(&weights, (total, inputs), &device)?;
        let expected = Tensor::from_vec(x, (rows, inputs), &device)?.matmul(&weights.t()?)?;
        assert_eq!(out, expected.flatten_all()?.to_vec1::<f32>()?);
        Ok(())
    }

    #[test]
    fn products_are_right_at_every_remainder() -> Result<()> {
        for rows in [1, 3, 4, 5, 9] {
            for outputs in [[1, 2], [20, 12], [32, 33]] {
                check(outputs, 13, rows)?;
            }
        }
        Ok(())
    }

    #[test]
    fn a_large_product_on_several_threads_is_the_same() -> Result<()> {
        check([500, 541], 260, 33)
    }

    #[test]
    fn a_row_has_the_same_bits_alone_and_among_others() {
        let (inputs, rows) = (300, 31);
        let weights: Vec<f32> = (0..1000 * inputs)
            .map(|i| (0.37 * i as f32).sin())
            .collect();
        let packed = PackedMatrix::new(&[&weights], inputs);
        let x: Vec<f32> = (0..rows * inputs).map(|i| (i as f32).sin()).collect();
        let (mut together, mut alone) = (Vec::new(), Vec::new());
        packed.multiply(&x, &mut together);
        for (x, expected) in x.chunks_exact(inputs).zip(together.chunks_exact(1000)) {
            packed.multiply(x, &mut alone);
            assert_eq!(alone, expected);
        }
    }
}
