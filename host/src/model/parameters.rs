//! Parameters in one flat vector, each with a name and a shape, and how a fresh model draws them.

use std::borrow::Cow;
use std::f64::consts::TAU;
use std::ops::Range;
use std::sync::Arc;

use candle_core::{Device as CandleDevice, Tensor};
use finegrain_sdk::rng::Stream;
use rand::RngExt as _;
use rayon::prelude::*;

use super::config::CausalLmConfig;
use super::description::{Draw, Spec};
use super::storage::{Storage, WeakStorage};
use crate::device::Device;
use crate::error::{Error, Result};

/// A parameter's place in the flat vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its name, as the checkpoint has it.
    pub name: String,
    /// Its sizes.
    pub shape: Vec<usize>,
    /// Its elements in the flat vector.
    pub range: Range<usize>,
}

/// f32 parameters back to back in one vector, on the processor or on a GPU. Clones share the vector until one of them is
/// written (then that one copies it), so that a reference policy, or four roles on one frozen backbone, cost nothing.
#[derive(Clone, Debug)]
pub struct ParameterSet {
    entries: Arc<Vec<Entry>>,
    pub(super) storage: Storage,
}

/// A set that is not kept alive.
#[derive(Clone, Debug)]
pub(super) struct WeakSet {
    entries: Arc<Vec<Entry>>,
    storage: WeakStorage,
}

impl WeakSet {
    /// The set, where somebody still holds it.
    pub(super) fn upgrade(&self) -> Option<ParameterSet> {
        Some(ParameterSet {
            entries: self.entries.clone(),
            storage: self.storage.upgrade()?,
        })
    }

    /// Whether somebody still holds it.
    pub(super) fn is_held(&self) -> bool {
        self.storage.is_held()
    }
}

impl ParameterSet {
    /// A set of parameters on the processor, in order, each with as many values as its shape says.
    ///
    /// # Errors
    /// Whatever `values` returns for one of them.
    pub fn new(
        shapes: impl IntoIterator<Item = (String, Vec<usize>)>,
        mut values: impl FnMut(&str, &[usize]) -> Result<Vec<f32>>,
    ) -> Result<Self> {
        let shapes: Vec<_> = shapes.into_iter().collect();
        let count = |(_, shape): &(String, Vec<usize>)| shape.iter().product::<usize>();
        let mut all = Vec::with_capacity(shapes.iter().map(count).sum());
        let mut entries = Vec::with_capacity(shapes.len());
        for (name, shape) in shapes {
            let start = all.len();
            all.append(&mut values(&name, &shape)?);
            let range = start..all.len();
            assert_eq!(
                range.len(),
                shape.iter().product::<usize>(),
                "{name} fills its shape"
            );
            entries.push(Entry { name, shape, range });
        }
        Ok(Self {
            entries: Arc::new(entries),
            storage: Storage::new(all),
        })
    }

    /// The parameters' names and shapes, in the order in which they lie.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The same values on a device. What is not trained keeps its values on the processor beside the device's copy, which all
    /// clones share; the first training step makes it the device's own.
    ///
    /// # Errors
    /// No memory on the device.
    pub fn to(&self, device: &Device) -> Result<Self> {
        Ok(Self {
            entries: self.entries.clone(),
            storage: self.storage.to(device)?,
        })
    }

    /// Where they are.
    pub fn device(&self) -> Device {
        self.storage.device()
    }

    /// All values; copied from the device where they are trained on one.
    ///
    /// # Errors
    /// Work on the device that failed.
    pub fn values(&self) -> Result<Cow<'_, [f32]>> {
        self.storage.values()
    }

    /// All values of a set that is on the processor.
    ///
    /// # Panics
    /// A set that is trained on a GPU.
    pub(super) fn host(&self) -> &[f32] {
        self.storage.host()
    }

    /// All values of a set on the processor, to be changed; those of clones stay as they are.
    ///
    /// # Panics
    /// A set on a GPU: [`ParameterSet::edit`] serves both.
    pub fn host_mut(&mut self) -> &mut [f32] {
        self.storage.host_mut()
    }

    /// A copy of the f32 values on a GPU; for small sets, which kernels read in f32.
    ///
    /// # Errors
    /// No memory.
    #[cfg(feature = "cuda")]
    pub(super) fn values_on(
        &self,
        gpu: &Arc<crate::device::Gpu>,
    ) -> Result<crate::device::Buffer<f32>> {
        self.storage.values_on(gpu)
    }

    /// The values on a GPU, to be trained there from now on.
    ///
    /// # Errors
    /// Another device; no memory.
    #[cfg(feature = "cuda")]
    pub(crate) fn train_on(
        &mut self,
        gpu: &Arc<crate::device::Gpu>,
    ) -> Result<super::TrainedMut<'_>> {
        self.storage.train_on(gpu)
    }

    /// Changes values wherever they are: on a GPU they are copied here and back.
    ///
    /// # Errors
    /// Those of `change`, and a device that fails.
    pub fn edit(&mut self, change: impl FnOnce(&mut [f32]) -> Result<()>) -> Result<()> {
        self.storage.edit(change)
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.storage.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The set without keeping it alive; `None` of one that is trained on a GPU.
    pub(super) fn downgrade(&self) -> Option<WeakSet> {
        Some(WeakSet {
            entries: self.entries.clone(),
            storage: self.storage.downgrade()?,
        })
    }

    /// Whether both read the same memory.
    pub fn shares_memory_with(&self, other: &Self) -> bool {
        self.storage.is(&other.storage)
    }

    /// The place of one parameter.
    ///
    /// # Errors
    /// No parameter of this name.
    pub fn range(&self, name: &str) -> Result<Range<usize>> {
        let found = self.entries.iter().find(|entry| entry.name == name);
        let found = found.map(|entry| entry.range.clone());
        found.ok_or_else(|| Error::internal(format!("there is no parameter {name:?}")))
    }

    /// The values of one parameter.
    ///
    /// # Errors
    /// No parameter of this name.
    pub fn get(&self, name: &str) -> Result<Cow<'_, [f32]>> {
        let range = self.range(name)?;
        Ok(match self.values()? {
            Cow::Borrowed(values) => Cow::Borrowed(&values[range]),
            Cow::Owned(values) => Cow::Owned(values[range].to_vec()),
        })
    }

    /// The values of one parameter of a set on the processor, to be changed.
    ///
    /// # Errors
    /// No parameter of this name.
    pub fn get_mut(&mut self, name: &str) -> Result<&mut [f32]> {
        let range = self.range(name)?;
        Ok(&mut self.host_mut()[range])
    }

    /// Every parameter as a tensor of its shape under its name, for writing.
    pub fn tensors(&self) -> Result<Vec<(String, Tensor)>> {
        let values = self.values()?;
        let tensor = |entry: &Entry| {
            let values = &values[entry.range.clone()];
            let tensor = Tensor::from_slice(values, entry.shape.as_slice(), &CandleDevice::Cpu)?;
            Ok((entry.name.clone(), tensor))
        };
        self.entries.iter().map(tensor).collect()
    }
}

/// A fresh value. It depends on the seed and the parameter's name alone, so that a model with one more layer begins with the same
/// first layers (but for the residual scale).
pub(super) fn draw(spec: &Spec, stream: &Stream) -> Vec<f32> {
    let count = spec.shape.iter().product();
    match spec.draw {
        Draw::Constant(value) => vec![value; count],
        Draw::Normal(std) => normal(&stream.child(&spec.name), std, count),
    }
}

/// The parameters of a model of noise: of the scale that a fresh one has, uniform, value by value from `seed` and its place.
pub(super) fn noise(config: &CausalLmConfig, seed: u64) -> ParameterSet {
    let specs = config.specs();
    let count = |spec: &Spec| spec.shape.iter().product::<usize>();
    let mut all = Vec::with_capacity(specs.iter().map(count).sum());
    let mut entries = Vec::with_capacity(specs.len());
    for spec in specs {
        let range = all.len()..all.len() + count(&spec);
        match spec.draw {
            Draw::Constant(value) => all.resize(range.end, value),
            Draw::Normal(std) => {
                // U(−a, a) has the standard deviation a/√3.
                let width = (std * 2.0 * 3f64.sqrt()) as f32;
                let place = range.clone().into_par_iter();
                all.par_extend(place.map(|at| (unit(seed, at as u64) - 0.5) * width));
            }
        }
        let Spec { name, shape, .. } = spec;
        entries.push(Entry { name, shape, range });
    }
    ParameterSet {
        entries: Arc::new(entries),
        storage: Storage::new(all),
    }
}

/// A number in [0, 1) by the output function of `SplitMix64` (Steele et al. 2014).
fn unit(seed: u64, at: u64) -> f32 {
    let mut x = (seed ^ at)
        .wrapping_add(1)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((x ^ (x >> 31)) >> 40) as f32 / (1u64 << 24) as f32
}

/// `count` draws from N(0, std²) by Box and Muller's transform.
pub(super) fn normal(stream: &Stream, std: f64, count: usize) -> Vec<f32> {
    let mut rng = stream.rng();
    let mut values = Vec::with_capacity(count + 1);
    while values.len() < count {
        // 1 − u lies in (0, 1]: the logarithm is finite.
        let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt() * std;
        let angle = TAU * rng.random::<f64>();
        values.push((radius * angle.cos()) as f32);
        values.push((radius * angle.sin()) as f32);
    }
    values.truncate(count);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_memory_until_one_is_written() -> Result<()> {
        let shapes = [("a".to_owned(), vec![2, 2]), ("b".to_owned(), vec![1])];
        let mut set = ParameterSet::new(shapes, |name, shape| {
            let count = shape.iter().product();
            Ok(vec![if name == "a" { 1.0 } else { 2.0 }; count])
        })?;
        let clone = set.clone();
        assert!(set.shares_memory_with(&clone));
        set.get_mut("b")?[0] = 7.0;
        assert!(!set.shares_memory_with(&clone));
        assert_eq!(set.get("b")?[..], [7.0]);
        assert_eq!(clone.get("b")?[..], [2.0]);
        assert_eq!(set.values()?[..], [1.0, 1.0, 1.0, 1.0, 7.0]);
        assert_eq!(set.tensors()?[0].1.dims(), [2, 2]);
        let error = set.get("c").unwrap_err().to_string();
        assert!(error.contains("\"c\""), "{error}");
        Ok(())
    }

    #[test]
    fn draws_are_normal_and_depend_on_the_stream_alone() {
        let values = normal(&Stream::new(1), 0.02, 100_001);
        assert_eq!(values, normal(&Stream::new(1), 0.02, 100_001));
        assert_ne!(values[..9], normal(&Stream::new(2), 0.02, 9)[..]);
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let moment = |k: i32| values.iter().map(|&v| f64::from(v).powi(k)).sum::<f64>() / n;
        // Four standard errors: σ/√n for the mean, σ²√(2/n) for the variance, σ⁴√(96/n) for the fourth moment.
        assert!(mean.abs() < 4.0 * 0.02 / n.sqrt(), "mean {mean}");
        assert!((moment(2) / 4e-4 - 1.0).abs() < 4.0 * (2.0 / n).sqrt());
        assert!((moment(4) / 1.6e-7 - 3.0).abs() < 4.0 * (96.0 / n).sqrt());
    }
}
