//! Parameters in one flat vector, each with a name and a shape; and those of a LLaMA in their fixed order, with names as
//! Hugging Face has them, and how a fresh model draws them.
//! Legend: C channels, F feed-forward, H heads, K key/value heads, D head size, V vocabulary, L layers.

use std::borrow::Cow;
use std::f64::consts::TAU;
use std::ops::Range;
use std::sync::Arc;

use candle_core::{Device as CandleDevice, Tensor};
use finegrain_sdk::rng::Stream;
use rand::RngExt as _;

use super::config::LlamaConfig;
use super::storage::{Storage, WeakStorage};
use crate::device::Device;
use crate::error::{Error, Result};

/// How many parameters a layer has; they follow each other in the order of [`specs`].
pub(super) const PER_LAYER: usize = 9;

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

/// One parameter: its name, its shape and the standard deviation it is drawn with (`None`: all ones, for norms).
pub(super) struct Spec {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    std: Option<f64>,
}

/// All parameters in order: embedding, layers, final norm, and the output head where it is not the embedding.
///
/// A fresh weight of I inputs is drawn with the standard deviation 1/√I, so that every map keeps the scale of what goes in
/// (`LeCun` et al. 1998, section 4.6), whatever the width. The customary 0.02 is that for C = 2500; in a model of 100
/// channels it leaves attention flat and the feed-forward block linear for most of a short training.
pub(super) fn specs(config: &LlamaConfig) -> Vec<Spec> {
    let (c, f) = (config.hidden_size, config.intermediate_size);
    let queries = config.num_attention_heads * config.head_dim;
    let keys = config.num_key_value_heads * config.head_dim;
    // Each layer adds twice to the residual stream. Scaling what is added by 1/√(2L) keeps the stream's variance
    // independent of the depth (GPT-2, section 2.3); transformers' LLaMA does not scale.
    let depth = (2.0 * config.num_hidden_layers as f64).sqrt();
    let fan_in = |inputs: usize| 1.0 / (inputs as f64).sqrt();
    // A row of the table is read as it is: of scale 1, it weighs in the residual stream what a layer adds. As an output
    // head it has C inputs.
    let embedding = if config.tie_word_embeddings {
        fan_in(c)
    } else {
        1.0
    };
    let spec = |name: String, shape: &[usize], std| Spec {
        name,
        shape: shape.to_vec(),
        std,
    };
    let table = [config.vocab_size, c];
    let mut all = vec![spec(
        "model.embed_tokens.weight".into(),
        &table,
        Some(embedding),
    )];
    for layer in 0..config.num_hidden_layers {
        let of_layer: [(&str, &[usize], Option<f64>); PER_LAYER] = [
            ("input_layernorm", &[c], None),
            ("self_attn.q_proj", &[queries, c], Some(fan_in(c))),
            ("self_attn.k_proj", &[keys, c], Some(fan_in(c))),
            ("self_attn.v_proj", &[keys, c], Some(fan_in(c))),
            (
                "self_attn.o_proj",
                &[c, queries],
                Some(fan_in(queries) / depth),
            ),
            ("post_attention_layernorm", &[c], None),
            ("mlp.gate_proj", &[f, c], Some(fan_in(c))),
            ("mlp.up_proj", &[f, c], Some(fan_in(c))),
            ("mlp.down_proj", &[c, f], Some(fan_in(f) / depth)),
        ];
        for (name, shape, std) in of_layer {
            all.push(spec(
                format!("model.layers.{layer}.{name}.weight"),
                shape,
                std,
            ));
        }
    }
    all.push(spec("model.norm.weight".into(), &[c], None));
    if !config.tie_word_embeddings {
        all.push(spec("lm_head.weight".into(), &table, Some(fan_in(c))));
    }
    all
}

/// Names and shapes of all parameters in order.
pub(super) fn shapes(config: &LlamaConfig) -> Vec<(String, Vec<usize>)> {
    let specs = specs(config).into_iter();
    specs.map(|spec| (spec.name, spec.shape)).collect()
}

impl Spec {
    /// A fresh value. It depends on the seed and the parameter's name alone, so that a model with one more layer
    /// begins with the same first layers (but for the residual scale).
    pub(super) fn draw(&self, stream: &Stream) -> Vec<f32> {
        let count = self.shape.iter().product();
        match self.std {
            None => vec![1.0; count],
            Some(std) => normal(&stream.child(&self.name), std, count),
        }
    }
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
