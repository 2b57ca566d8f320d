//! Weights as they are.

use super::{Layout, PANEL, products};

/// (⌈O / PANEL⌉, I, PANEL), zeros behind the last output.
pub(super) struct F32Panels {
    inputs: usize,
    weights: Vec<f32>,
}

impl Layout for F32Panels {
    fn zeros(inputs: usize, panels: usize) -> Self {
        Self {
            inputs,
            weights: vec![0.0; panels * inputs * PANEL],
        }
    }

    fn put(&mut self, panel: usize, lane: usize, row: &[f32]) {
        let weights = self.weights.as_chunks_mut::<PANEL>().0;
        for (weights, weight) in weights[panel * self.inputs..].iter_mut().zip(row) {
            weights[lane] = *weight;
        }
    }

    fn row(&self, panel: usize, lane: usize) -> impl Iterator<Item = f32> {
        let weights = &self.weights.as_chunks::<PANEL>().0[panel * self.inputs..];
        weights[..self.inputs]
            .iter()
            .map(move |weights| weights[lane])
    }

    fn bytes(&self) -> usize {
        size_of_val(&*self.weights)
    }

    #[inline]
    fn product<const R: usize>(&self, panel: usize, rows: [&[f32]; R]) -> [[f32; PANEL]; R] {
        let weights = &self.weights.as_chunks::<PANEL>().0[panel * self.inputs..];
        products(&weights[..self.inputs], rows, |weight| weight)
    }
}
