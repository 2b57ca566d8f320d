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

use super::block::{Slot, Tokens};
use super::config::CausalLmConfig;
use super::description::Place;
use super::family::{Family, Field};
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
    /// The three, which are one map in Phi 3: (H·D + 2·K·D, C).
    QkvProj,
    /// The attention's output, (C, H·D).
    OProj,
    /// The feed-forward gate, (F, C).
    GateProj,
    /// The feed-forward's other input, (F, C).
    UpProj,
    /// The two, which are one map in Phi 3: (2·F, C).
    GateUpProj,
    /// The feed-forward's output, (C, F).
    DownProj,
}

impl Target {
    /// One for each map of most families, in the order of a layer's parameters.
    pub const USUAL: [Self; 7] = [
        Self::QProj,
        Self::KProj,
        Self::VProj,
        Self::OProj,
        Self::GateProj,
        Self::UpProj,
        Self::DownProj,
    ];

    /// All there are.
    pub const ALL: [Self; 9] = [
        Self::QProj,
        Self::KProj,
        Self::VProj,
        Self::QkvProj,
        Self::OProj,
        Self::GateProj,
        Self::UpProj,
        Self::GateUpProj,
        Self::DownProj,
    ];

    /// The target that is a field's map, whole; `None` of a norm.
    pub(super) fn of(field: Field) -> Option<Self> {
        Some(match field {
            Field::Query => Self::QProj,
            Field::Key => Self::KProj,
            Field::Value => Self::VProj,
            Field::QueryKeyValue => Self::QkvProj,
            Field::Output => Self::OProj,
            Field::Gate => Self::GateProj,
            Field::Up => Self::UpProj,
            Field::GateUp => Self::GateUpProj,
            Field::Down => Self::DownProj,
            _ => return None,
        })
    }

    /// The targets that it is made of, or that it is a part of.
    fn kin(self) -> &'static [Self] {
        match self {
            Self::QProj | Self::KProj | Self::VProj => &[Self::QkvProj],
            Self::GateProj | Self::UpProj => &[Self::GateUpProj],
            Self::QkvProj => &[Self::QProj, Self::KProj, Self::VProj],
            Self::GateUpProj => &[Self::GateProj, Self::UpProj],
            Self::OProj | Self::DownProj => &[],
        }
    }

    /// Its name, as PEFT and configurations have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::QProj => "q_proj",
            Self::KProj => "k_proj",
            Self::VProj => "v_proj",
            Self::QkvProj => "qkv_proj",
            Self::OProj => "o_proj",
            Self::GateProj => "gate_proj",
            Self::UpProj => "up_proj",
            Self::GateUpProj => "gate_up_proj",
            Self::DownProj => "down_proj",
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
            targets: Target::USUAL.to_vec(),
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

    /// The maps of a family's layers that have an adapter, in the order of a layer's parameters. Where a family keeps several
    /// targets in one map, one of them is enough here; [`LoraConfig::check_family`] refuses that.
    pub(crate) fn fields(&self, family: Family) -> Vec<Field> {
        let has = |target: &Target| self.targets.contains(target);
        let chosen = |field: &Field| {
            Target::of(*field).is_some_and(|target| has(&target) || target.kin().iter().any(has))
        };
        let rows = family.architecture().layer.iter();
        rows.map(|(field, _, _)| *field).filter(chosen).collect()
    }

    /// Refuses targets that are a part of one map in a family: a low-rank addition of a part would be no LoRA of the map.
    ///
    /// # Errors
    /// The target, and what stands in its way.
    pub(crate) fn check_family(&self, family: Family) -> Result<()> {
        let architecture = family.architecture();
        for (field, _, _) in architecture.layer {
            let Some(target) = Target::of(*field).filter(|it| !self.targets.contains(it)) else {
                continue;
            };
            if !matches!(target, Target::QkvProj | Target::GateUpProj) {
                continue;
            }
            let (named, missing): (Vec<Target>, Vec<Target>) = target
                .kin()
                .iter()
                .partition(|it| self.targets.contains(it));
            if let (Some(named), Some(missing)) = (named.first(), missing.first()) {
                return Err(Error::input(format!(
                    "lora.targets: {} is named and {} is not, and models of the family {family} keep them in one map; accepted: \
                     {}, or all of its parts",
                    named.name(),
                    missing.name(),
                    target.name()
                )));
            }
        }
        Ok(())
    }

    /// Its parts in a layer, by slot; all layers are alike.
    fn parts(&self, model: &CausalLmConfig) -> Vec<AdapterPart> {
        let rank = self.rank;
        let mut parts = Vec::new();
        let mut at = 0;
        for field in self.fields(model.family) {
            let (outputs, inputs) = model.shape(field);
            let a = at..at + rank * inputs;
            for piece in model.pieces(field) {
                parts.push(AdapterPart {
                    place: piece.place,
                    first: piece.first,
                    inputs,
                    outputs: piece.rows.len(),
                    a: a.clone(),
                    b: a.end + piece.rows.start * rank..a.end + piece.rows.end * rank,
                });
            }
            at = a.end + outputs * rank;
        }
        parts
    }

    /// The slots of a layer: one for each part, which sees all tokens (keys and values) or those that ask.
    pub(crate) fn slots(&self, model: &CausalLmConfig) -> Vec<Slot> {
        let parts = self.parts(model).into_iter();
        let slot = |part: AdapterPart| Slot {
            rank: self.rank,
            tokens: match part.place {
                Place::KeyValue => Tokens::All,
                _ => Tokens::Asking,
            },
        };
        parts.map(slot).collect()
    }

    /// Names and shapes of an adapter's parameters, layer by layer: A, then B of every map.
    fn shapes(&self, model: &CausalLmConfig) -> Vec<(String, Vec<usize>)> {
        let mut shapes = Vec::new();
        let fields = self.fields(model.family);
        for layer in 0..model.num_hidden_layers {
            for &field in &fields {
                let (outputs, inputs) = model.shape(field);
                let name = |part| tensor_name(model.family, layer, field, part);
                shapes.push((name("lora_A"), vec![self.rank, inputs]));
                shapes.push((name("lora_B"), vec![outputs, self.rank]));
            }
        }
        shapes
    }
}

/// The module of a layer's map, as Hugging Face names it.
pub(super) fn module_name(family: Family, layer: usize, field: Field) -> String {
    let module = family.architecture().module(field).unwrap_or_default();
    format!("model.layers.{layer}.{module}")
}

/// PEFT's name of a part (`lora_A` or `lora_B`) of the adapter beside a map.
fn tensor_name(family: Family, layer: usize, field: Field, part: &str) -> String {
    let module = module_name(family, layer, field);
    format!("base_model.model.{module}.{part}.weight")
}

/// A low-rank addition to some outputs of a product: y[first..first + o] += scale · B · A · x.
pub(super) struct AdapterPart {
    /// The product, and the first of its outputs.
    pub(super) place: Place,
    pub(super) first: usize,
    pub(super) inputs: usize,
    /// o.
    pub(super) outputs: usize,
    /// Where A (r, I) and the rows of B (o, r) lie among the adapter's values of a layer. A is shared where one map is a part of
    /// two products.
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
    pub fn new(config: &LoraConfig, model: &CausalLmConfig, stream: &Stream) -> Result<Self> {
        config.validate("lora")?;
        config.check_family(model.family)?;
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

    /// Its parts in a layer, by slot; all layers are alike.
    pub(super) fn parts(&self, model: &CausalLmConfig) -> Vec<AdapterPart> {
        self.config.parts(model)
    }

    /// The slots of a layer.
    pub(super) fn slots(&self, model: &CausalLmConfig) -> Vec<Slot> {
        self.config.slots(model)
    }

    /// Adds the adapter to the weights it stands beside: W ← W + (α/r)·B·A.
    pub(super) fn merge_into(
        &self,
        weights: &mut ParameterSet,
        model: &CausalLmConfig,
    ) -> Result<()> {
        let mut places = Vec::new();
        for layer in 0..model.num_hidden_layers {
            for field in self.config.fields(model.family) {
                let name = module_name(model.family, layer, field) + ".weight";
                places.push((layer, field, weights.range(&name)?));
            }
        }
        weights.edit(|values| {
            places.into_iter().try_for_each(|(layer, field, range)| {
                self.add(layer, field, model, &mut values[range])
            })
        })
    }

    /// weight (O, I) += (α/r)·B·A of one map.
    fn add(
        &self,
        layer: usize,
        field: Field,
        model: &CausalLmConfig,
        weight: &mut [f32],
    ) -> Result<()> {
        let (outputs, inputs) = model.shape(field);
        let rank = self.config.rank;
        let part = |part| {
            let name = tensor_name(model.family, layer, field, part);
            self.parameters.get(&name)
        };
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
    pub fn load(dir: &Path, model: &CausalLmConfig) -> Result<Self> {
        Ok(Self::load_with_head(dir, model)?.0)
    }

    /// An adapter, and a scalar head where the folder holds one.
    pub(super) fn load_with_head(
        dir: &Path,
        model: &CausalLmConfig,
    ) -> Result<(Self, Option<SavedHead>)> {
        let described = peft::read(dir, model.family)?;
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
    pub fn save(
        &self,
        family: Family,
        dir: &Path,
        base: &Path,
        head: Vec<(String, Tensor)>,
    ) -> Result<()> {
        files::save((self, family), dir, base, head)
    }
}
