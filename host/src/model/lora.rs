//! Low-rank adaptation (Hu et al. 2022, arXiv:2106.09685): y = W·x + (α/r)·B·A·x with W frozen, A (r, I) and B (O, r)
//! trained. A starts as PEFT starts it, from U(−1/√I, 1/√I) (Kaiming's rule with a = √5), and B at 0, so that a fresh
//! adapter changes nothing.
//!
//! Files and names are PEFT's: `adapter_config.json` and `adapter_model.safetensors`.
//! Legend: I inputs, O outputs, r rank, C channels, F feed-forward, H heads, K key/value heads, D head size.

use std::ops::Range;
use std::path::Path;

use candle_core::Tensor;
use finegrain_sdk::rng::Stream;
use rand::RngExt as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::config::LlamaConfig;
use super::parameters::ParameterSet;
use crate::error::{Error, Result};
use crate::ops::product::{Matrix, MatrixMut, Product, multiply};

pub(super) mod base;
mod files;
mod peft;
#[cfg(test)]
mod tests;

pub(super) use base::named_base;
pub use base::{base_of, is_adapter, tokenizer_of};

/// A linear map of every layer that an adapter may stand beside; PEFT's `target_modules`.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Queries, (H·D, C).
    QProj,
    /// Keys, (K·D, C).
    KProj,
    /// Values, (K·D, C).
    VProj,
    /// The attention's output, (C, H·D).
    OProj,
    /// The feed-forward gate, (F, C).
    GateProj,
    /// The feed-forward's other input, (F, C).
    UpProj,
    /// The feed-forward's output, (C, F).
    DownProj,
}

/// The products of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Query,
    KeyValue,
    Output,
    GateUp,
    Down,
}

impl Target {
    /// All, in the order of a layer's parameters.
    pub const ALL: [Self; 7] = [
        Self::QProj,
        Self::KProj,
        Self::VProj,
        Self::OProj,
        Self::GateProj,
        Self::UpProj,
        Self::DownProj,
    ];

    /// The module's name inside a layer, as Hugging Face has it.
    pub fn module(self) -> &'static str {
        match self {
            Self::QProj => "self_attn.q_proj",
            Self::KProj => "self_attn.k_proj",
            Self::VProj => "self_attn.v_proj",
            Self::OProj => "self_attn.o_proj",
            Self::GateProj => "mlp.gate_proj",
            Self::UpProj => "mlp.up_proj",
            Self::DownProj => "mlp.down_proj",
        }
    }

    /// The product that it is a part of, and the first of its outputs there: keys and values are one product, and so are gate
    /// and up.
    pub(super) fn place(self, config: &LlamaConfig) -> (Place, usize) {
        let (outputs, _) = self.shape(config);
        match self {
            Self::QProj => (Place::Query, 0),
            Self::KProj => (Place::KeyValue, 0),
            Self::VProj => (Place::KeyValue, outputs),
            Self::OProj => (Place::Output, 0),
            Self::GateProj => (Place::GateUp, 0),
            Self::UpProj => (Place::GateUp, outputs),
            Self::DownProj => (Place::Down, 0),
        }
    }

    /// Outputs and inputs.
    pub fn shape(self, config: &LlamaConfig) -> (usize, usize) {
        let (c, f) = (config.hidden_size, config.intermediate_size);
        let q = config.num_attention_heads * config.head_dim;
        let k = config.num_key_value_heads * config.head_dim;
        match self {
            Self::QProj => (q, c),
            Self::KProj | Self::VProj => (k, c),
            Self::OProj => (c, q),
            Self::GateProj | Self::UpProj => (f, c),
            Self::DownProj => (c, f),
        }
    }
}

/// What an adapter is like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LoraConfig {
    /// r, the rank of the addition. PEFT: 8.
    #[schemars(range(min = 1))]
    pub rank: usize,
    /// α; the addition is multiplied by α/r. PEFT: 8.
    #[schemars(range(min = 0.0))]
    pub alpha: f64,
    /// The maps that have an adapter. The LoRA paper and PEFT: `q_proj` and `v_proj`; QLoRA (Dettmers et al. 2023): all.
    pub targets: Vec<Target>,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self {
            rank: 8,
            alpha: 16.0,
            targets: Target::ALL.to_vec(),
        }
    }
}

impl LoraConfig {
    /// Refuses what is no adapter; `section` is where it stands in the configuration.
    pub fn validate(&self, section: &str) -> Result<()> {
        if self.rank == 0 {
            return Err(Error::input(format!(
                "{section}.rank: 0 is not accepted; at least 1 is"
            )));
        }
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            return Err(Error::input(format!(
                "{section}.alpha: {} is not accepted; a finite number above 0 is",
                self.alpha
            )));
        }
        if self.targets.is_empty() {
            return Err(Error::input(format!(
                "{section}.targets: none is named; at least one is needed"
            )));
        }
        Ok(())
    }

    /// α/r.
    pub fn scale(&self) -> f64 {
        self.alpha / self.rank as f64
    }

    /// The targets in the order of a layer's parameters, each once.
    pub fn targets(&self) -> impl Iterator<Item = Target> + '_ {
        Target::ALL
            .into_iter()
            .filter(|target| self.targets.contains(target))
    }

    /// Names and shapes of an adapter's parameters, layer by layer: A, then B of every target.
    fn shapes(&self, config: &LlamaConfig) -> Vec<(String, Vec<usize>)> {
        let mut shapes = Vec::new();
        for layer in 0..config.num_hidden_layers {
            for target in self.targets() {
                let (outputs, inputs) = target.shape(config);
                let name = |part| tensor_name(layer, target, part);
                shapes.push((name("lora_A"), vec![self.rank, inputs]));
                shapes.push((name("lora_B"), vec![outputs, self.rank]));
            }
        }
        shapes
    }
}

/// PEFT's name of a part (`lora_A` or `lora_B`) of the adapter beside a map.
fn tensor_name(layer: usize, target: Target, part: &str) -> String {
    let module = target.module();
    format!("base_model.model.model.layers.{layer}.{module}.{part}.weight")
}

/// A low-rank addition of one map: y[first..] += scale · B · A · x.
pub(super) struct AdapterPart {
    pub(super) layer: usize,
    /// Its number among those of a layer.
    pub(super) slot: usize,
    /// The product that the map is a part of, and the first of its outputs there.
    pub(super) place: Place,
    pub(super) first: usize,
    pub(super) outputs: usize,
    pub(super) inputs: usize,
    /// Where A (r, I) and B (O, r) lie among the adapter's values.
    pub(super) a: Range<usize>,
    pub(super) b: Range<usize>,
}

/// A scalar head's weight (C,) and bias, as they lie beside an adapter.
pub(super) type SavedHead = (Vec<f32>, f32);

/// The trained part of an adapted model.
#[derive(Clone, Debug)]
pub struct Adapter {
    config: LoraConfig,
    pub(super) parameters: ParameterSet,
}

impl Adapter {
    /// A fresh adapter, which changes nothing yet.
    pub fn new(config: &LoraConfig, model: &LlamaConfig, stream: &Stream) -> Result<Self> {
        config.validate("lora")?;
        let parameters = ParameterSet::new(config.shapes(model), |name, shape| {
            let count = shape.iter().product();
            if name.ends_with("lora_B.weight") {
                return Ok(vec![0.0; count]);
            }
            let bound = 1.0 / (shape[1] as f64).sqrt();
            let mut rng = stream.child(name).rng();
            let draw = |_| ((2.0 * rng.random::<f64>() - 1.0) * bound) as f32;
            Ok((0..count).map(draw).collect())
        })?;
        Ok(Self {
            config: config.clone(),
            parameters,
        })
    }

    /// Rank, α and targets.
    pub fn config(&self) -> &LoraConfig {
        &self.config
    }

    /// The trained parameters.
    pub fn parameters(&self) -> &ParameterSet {
        &self.parameters
    }

    /// Its parts, layer by layer, in the order of its values.
    pub(super) fn parts<'a>(
        &'a self,
        model: &'a LlamaConfig,
    ) -> impl Iterator<Item = AdapterPart> + 'a {
        let rank = self.config.rank;
        let mut end = 0;
        let mut next = move |count: usize| {
            end += count;
            end - count..end
        };
        (0..model.num_hidden_layers)
            .flat_map(|layer| {
                let targets = self.config.targets().enumerate();
                targets.map(move |(slot, target)| (layer, slot, target))
            })
            .map(move |(layer, slot, target)| {
                let (outputs, inputs) = target.shape(model);
                let (place, first) = target.place(model);
                AdapterPart {
                    layer,
                    slot,
                    place,
                    first,
                    outputs,
                    inputs,
                    a: next(rank * inputs),
                    b: next(outputs * rank),
                }
            })
    }

    /// The rank of each slot of a layer, and whether it sees all tokens (keys and values) or those that ask.
    pub(super) fn slots(&self, model: &LlamaConfig) -> Vec<(usize, bool)> {
        let sees_all = |target: Target| target.place(model).0 == Place::KeyValue;
        let targets = self.config.targets();
        targets
            .map(|target| (self.config.rank, sees_all(target)))
            .collect()
    }

    /// Adds the adapter to the weights it stands beside: W ← W + (α/r)·B·A.
    pub(super) fn merge_into(&self, weights: &mut ParameterSet, model: &LlamaConfig) -> Result<()> {
        let mut places = Vec::new();
        for layer in 0..model.num_hidden_layers {
            for target in self.config.targets() {
                let name = format!("model.layers.{layer}.{}.weight", target.module());
                places.push((layer, target, weights.range(&name)?));
            }
        }
        weights.edit(|values| {
            places.into_iter().try_for_each(|(layer, target, range)| {
                self.add(layer, target, model, &mut values[range])
            })
        })
    }

    /// weight (O, I) += (α/r)·B·A of one map.
    fn add(
        &self,
        layer: usize,
        target: Target,
        model: &LlamaConfig,
        weight: &mut [f32],
    ) -> Result<()> {
        let (outputs, inputs) = target.shape(model);
        let rank = self.config.rank;
        let part = |part| self.parameters.get(&tensor_name(layer, target, part));
        let (a, b) = (part("lora_A")?, part("lora_B")?);
        let product = Product {
            scale: self.config.scale() as f32,
            ..Product::add(rayon::current_num_threads())
        };
        multiply(
            MatrixMut::new(weight, outputs, inputs),
            Matrix::new(&b, outputs, rank),
            Matrix::new(&a, rank, inputs),
            product,
        );
        Ok(())
    }

    /// Reads an adapter for a model from a PEFT folder.
    ///
    /// # Errors
    /// A file that cannot be read, a kind of adapter that is not a plain LoRA, a tensor that is missing or does not fit.
    pub fn load(dir: &Path, model: &LlamaConfig) -> Result<Self> {
        Ok(Self::load_with_head(dir, model)?.0)
    }

    /// An adapter, and a scalar head where the folder holds one.
    pub(super) fn load_with_head(
        dir: &Path,
        model: &LlamaConfig,
    ) -> Result<(Self, Option<SavedHead>)> {
        let described = peft::read(dir)?;
        let tensors = files::Tensors::open(dir)?;
        let config = tensors.config(&described, model)?;
        let parameters = ParameterSet::new(config.shapes(model), |name, shape| {
            tensors.get_or_zeros(name, shape)
        })?;
        tensors.check_all_are_used(parameters.entries(), model)?;
        let head = tensors.head(model.hidden_size)?;
        Ok((Self { config, parameters }, head))
    }

    /// Writes `adapter_config.json` and `adapter_model.safetensors` into `dir`, each whole or not at all. `base` is where PEFT
    /// loads the frozen weights from; `head` are the tensors of a scalar head beside it.
    pub fn save(&self, dir: &Path, base: &Path, head: Vec<(String, Tensor)>) -> Result<()> {
        files::save(self, dir, base, head)
    }
}
