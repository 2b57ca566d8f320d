//! Sums of gradients over several backward passes, beside the parameters they belong to.

use rayon::prelude::*;

use super::parameters::ParameterSet;

/// Elements that one thread works on at a time; less is not worth a second thread. Sums are taken chunk by chunk, so this
/// constant, and not the number of threads, decides their bits.
pub(crate) const CHUNK: usize = 16 * 1024;

/// A model whose parameters are trained: one or more sets, each from its first value to some value.
pub trait Trainable {
    /// The sets, and how many of each one's values are trained, counted from its first.
    fn parameter_sets(&self) -> Vec<(&ParameterSet, usize)>;

    /// The same sets, to be changed.
    fn parameter_sets_mut(&mut self) -> Vec<&mut ParameterSet>;
}

/// One value for each trained value of a model, by set.
#[derive(Clone, Debug)]
pub struct Gradients {
    parts: Vec<Vec<f32>>,
}

impl Gradients {
    /// All zero, for the parameters of a model.
    pub fn zeros(model: &impl Trainable) -> Self {
        let sets = model.parameter_sets().into_iter();
        Self {
            parts: sets.map(|(_, count)| vec![0.0; count]).collect(),
        }
    }

    /// The gradients of set `index`.
    pub fn part(&mut self, index: usize) -> &mut [f32] {
        &mut self.parts[index]
    }

    /// Those of all sets, in order.
    pub fn parts_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        self.parts.iter_mut().map(Vec::as_mut_slice)
    }

    /// The Euclidean norm over all parameters, accumulated in f64 in an order that no thread decides.
    pub fn norm(&self) -> f64 {
        let mut total = 0.0;
        for part in &self.parts {
            let partial: Vec<f64> = part
                .par_chunks(CHUNK)
                .map(|chunk| chunk.iter().map(|&x| f64::from(x) * f64::from(x)).sum())
                .collect();
            total += partial.iter().sum::<f64>();
        }
        total.sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_norm_is_exact_over_many_chunks() {
        let parts = vec![
            (0..3 * CHUNK + 7).map(|i| (i % 5) as f32).collect(),
            vec![12.0],
        ];
        let squares: f64 = parts
            .iter()
            .flatten()
            .map(|&g: &f32| f64::from(g * g))
            .sum();
        let gradients = Gradients { parts };
        assert_eq!(gradients.norm(), squares.sqrt());
    }
}
