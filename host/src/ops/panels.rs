//! A matrix laid out once for products with many left sides: a model's weights, which every chunk of a batch meets.
//! Legend: n rows of the left side, I inputs (the inner axis), O outputs.
//!
//! For 32 outputs at a time their weights of input 0 lie side by side, then those of input 1, and so on, so that the kernel
//! ([`super::tile`]) reads them one after the other and the left side as it is: a general product ([`super::product`]) would
//! lay out the same weights again for every chunk.

use std::ops::{Deref, DerefMut};

use rayon::prelude::*;

use super::element::Element;
use super::product::{Matrix, PARALLEL};
use super::start::Start;
use super::tile::{self, Left, Out, PANEL, Right};

/// An (I, O) matrix in panels: (⌈O / 32⌉, I, 32), zeros behind the last output.
#[derive(Debug)]
pub(crate) struct Panels<B> {
    values: B,
    inputs: usize,
    outputs: usize,
}

/// Elements of a matrix in panels.
pub(crate) fn len(inputs: usize, outputs: usize) -> usize {
    outputs.div_ceil(PANEL) * inputs * PANEL
}

/// Lays out the outputs of a matrix from `first` on in one panel.
fn lay_out<T: Element>(matrix: Matrix<'_, T>, first: usize, panel: &mut [T]) {
    let width = PANEL.min(matrix.columns() - first);
    if width < PANEL {
        panel.fill(T::zero());
    }
    matrix.part(first, width).copy_rows(panel, PANEL);
}

impl<B> Panels<B> {
    /// Lays out `matrix` (I, O) in `values`, [`len`] elements of any content.
    pub(crate) fn new<T: Element>(matrix: Matrix<'_, T>, mut values: B) -> Self
    where
        B: DerefMut<Target = [T]>,
    {
        let (inputs, outputs) = (matrix.rows(), matrix.columns());
        assert_eq!(
            values.len(),
            len(inputs, outputs),
            "panels fill their buffer"
        );
        for (panel, values) in values.chunks_exact_mut((inputs * PANEL).max(1)).enumerate() {
            lay_out(matrix, panel * PANEL, values);
        }
        Self {
            values,
            inputs,
            outputs,
        }
    }

    /// out (n, O) = start + x (n, I) · W, by at most so many threads; the bits do not depend on their number.
    pub(crate) fn multiply<T: Element>(
        &self,
        x: &[T],
        out: &mut [T],
        start: Start<'_, T>,
        threads: usize,
    ) where
        B: Deref<Target = [T]>,
    {
        let Self {
            inputs, outputs, ..
        } = *self;
        let values = &*self.values;
        let n = out.len() / outputs;
        if let Start::Of(base) = start {
            assert_eq!(
                base.len(),
                out.len(),
                "a result lies as what it is added to"
            );
        }
        if n == 0 {
            return;
        }
        assert_eq!(
            (x.len(), out.len()),
            (n * inputs, n * outputs),
            "a product fills its result"
        );
        let rows = |x: &[T], out: &mut [T], start: Start<'_, T>| {
            let n = out.len() / outputs;
            for first in (0..outputs).step_by(PANEL) {
                let width = PANEL.min(outputs - first);
                let left = Left {
                    values: x,
                    row: inputs,
                    step: 1,
                };
                let right = Right {
                    values: &values[first * inputs..],
                    step: PANEL,
                };
                let out = Out {
                    values: &mut out[first..],
                    row: outputs,
                };
                tile::product(out, left, right, (n, inputs, width), start.from(first));
            }
        };
        if threads <= 1 || n * inputs * outputs < PARALLEL {
            rows(x, out, start);
            return;
        }
        let part = n.div_ceil(threads).next_multiple_of(8);
        let parts = out
            .par_chunks_mut(part * outputs)
            .zip(x.par_chunks(part * inputs));
        parts
            .enumerate()
            .for_each(|(index, (out, x))| rows(x, out, start.from(index * part * outputs)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::product::{MatrixMut, Product, multiply};

    #[test]
    fn products_agree_with_general_ones_in_both_layouts() {
        for (n, inputs, outputs) in [
            (1, 1, 1),
            (0, 4, 40),
            (3, 1, 40),
            (9, 13, 40),
            (70, 33, 64),
            (3, 0, 5),
            (300, 90, 100),
            (40, 500, 1000),
        ] {
            let wave = |count: usize, phase: f64| -> Vec<f64> {
                (0..count).map(|i| (i as f64 * 0.7 + phase).sin()).collect()
            };
            let (x, w) = (wave(n * inputs, 0.1), wave(inputs * outputs, 1.0));
            let turned: Vec<f64> = (0..inputs * outputs)
                .map(|i| w[i % inputs.max(1) * outputs + i / inputs.max(1)])
                .collect();
            let mut expected = vec![0.5; n * outputs];
            let matrix = Matrix::new(&w, inputs, outputs);
            multiply(
                MatrixMut::new(&mut expected, n, outputs),
                Matrix::new(&x, n, inputs),
                matrix,
                Product::add(1),
            );
            for matrix in [matrix, Matrix::new(&turned, outputs, inputs).t()] {
                let panels = Panels::new(matrix, vec![f64::NAN; len(inputs, outputs)]);
                for threads in [1, 3] {
                    let mut found = vec![0.5; n * outputs];
                    panels.multiply(&x, &mut found, Start::Result, threads);
                    for (found, expected) in found.iter().zip(&expected) {
                        assert!((found - expected).abs() < 1e-12, "{found} {expected}");
                    }
                    let before = found.clone();
                    panels.multiply(&x, &mut found, Start::Zero, threads);
                    let mut onto = vec![f64::NAN; n * outputs];
                    panels.multiply(&x, &mut onto, Start::Of(&before), threads);
                    for ((found, onto), before) in found.iter().zip(&onto).zip(&before) {
                        assert!((found + 0.5 - before).abs() < 1e-12);
                        assert!((found + before - onto).abs() < 1e-12);
                    }
                }
            }
        }
    }
}
