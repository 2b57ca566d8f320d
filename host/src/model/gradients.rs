//! Sums of gradients over several backward passes, beside the parameters they belong to.

use std::borrow::Cow;

use rayon::prelude::*;

use super::parameters::ParameterSet;
use crate::device::Device;
#[cfg(feature = "cuda")]
use crate::device::ViewMut;
use crate::error::Result;

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

/// One value for each trained value of a model, by set, where the set is.
#[derive(Debug)]
pub struct Gradients {
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Host(Vec<f32>),
    #[cfg(feature = "cuda")]
    Device(crate::device::Buffer<f32>),
}

impl Gradients {
    /// All zero, for the parameters of a model.
    ///
    /// # Errors
    /// No memory on the device.
    pub fn zeros(model: &impl Trainable) -> Result<Self> {
        let part = |(set, count): (&ParameterSet, usize)| match set.device() {
            Device::Cpu => Ok(Part::Host(vec![0.0; count])),
            #[cfg(feature = "cuda")]
            Device::Cuda(gpu) => Ok(Part::Device(gpu.zeros(count)?)),
        };
        let sets = model.parameter_sets().into_iter();
        Ok(Self {
            parts: sets.map(part).collect::<Result<_>>()?,
        })
    }

    /// The gradients of set `index`, on the processor.
    ///
    /// # Panics
    /// A set on a GPU.
    pub fn part(&mut self, index: usize) -> &mut [f32] {
        match &mut self.parts[index] {
            Part::Host(values) => values,
            #[cfg(feature = "cuda")]
            Part::Device(_) => panic!("invariant: the processor's passes have their own gradients"),
        }
    }

    /// The gradients of set `index`, on the GPU.
    ///
    /// # Panics
    /// A set on the processor.
    #[cfg(feature = "cuda")]
    pub(crate) fn on_gpu(&mut self, index: usize) -> ViewMut<'_, f32> {
        match &mut self.parts[index] {
            Part::Device(values) => values.view_mut(),
            Part::Host(_) => panic!("invariant: the GPU's passes have their own gradients"),
        }
    }

    /// The gradients of the first two sets, on the GPU.
    ///
    /// # Panics
    /// Sets on the processor, or fewer of them.
    #[cfg(feature = "cuda")]
    pub(crate) fn two_on_gpu(&mut self) -> (ViewMut<'_, f32>, ViewMut<'_, f32>) {
        match &mut self.parts[..] {
            [Part::Device(first), Part::Device(second), ..] => {
                (first.view_mut(), second.view_mut())
            }
            _ => panic!("invariant: the GPU's passes have their own gradients"),
        }
    }

    /// Those of set `index`, copied from the device where they are on one.
    ///
    /// # Errors
    /// Work on the device that failed.
    pub fn values(&self, index: usize) -> Result<Cow<'_, [f32]>> {
        match &self.parts[index] {
            Part::Host(values) => Ok(Cow::Borrowed(values)),
            #[cfg(feature = "cuda")]
            Part::Device(values) => Ok(Cow::Owned(values.download()?)),
        }
    }

    /// The Euclidean norm over all parameters, accumulated in f64 in an order that no thread decides.
    ///
    /// # Errors
    /// Work on the device that failed.
    pub fn norm(&self) -> Result<f64> {
        let mut total = 0.0;
        for part in &self.parts {
            let partial: Vec<f64> = match part {
                Part::Host(values) => values
                    .par_chunks(CHUNK)
                    .map(|chunk| chunk.iter().map(|&x| f64::from(x) * f64::from(x)).sum())
                    .collect(),
                #[cfg(feature = "cuda")]
                Part::Device(values) => crate::ops::cuda::square_sums(values)?,
            };
            total += partial.iter().sum::<f64>();
        }
        Ok(total.sqrt())
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
        let gradients = Gradients {
            parts: parts.into_iter().map(Part::Host).collect(),
        };
        assert_eq!(gradients.norm().unwrap(), squares.sqrt());
    }
}
