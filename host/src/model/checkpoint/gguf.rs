//! A model in a GGUF file: metadata as [`CausalLmConfig`] ([`metadata`]), tensors under their Hugging Face names and in their row order.
//!
//! llama.cpp's converter reorders the rows of `W_q` and `W_k` head by head in some families, because its rotary embedding turns
//! neighbouring channels (2j, 2j + 1) there, where Hugging Face's (and `ops::rope`) turns (j, j + D/2):
//! ```text
//! gguf row h·D + 2j + s  =  Hugging Face row h·D + s·D/2 + j      s ∈ {0, 1},  j ∈ 0..D/2
//! ```
//! Reading undoes it: (H, D/2, 2, C) → (H, 2, D/2, C). It stores a norm's weight as it is multiplied; Gemma's files have 1 less.

mod metadata;

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor};

use super::super::config::CausalLmConfig;
use super::super::family::Field;
use crate::data::gguf::Gguf;
use crate::error::{Error, Result};

/// Divisors of the rotary frequencies, which the metadata are read with.
const ROPE_FACTORS: [&str; 3] = [
    "rope_freqs.weight",
    "rope_factors_long.weight",
    "rope_factors_short.weight",
];

/// What a tensor is called there, and what becomes of it.
struct Stored {
    name: String,
    /// Heads whose rows are reordered.
    heads: Option<usize>,
    /// Whether it is a norm's weight.
    norm: bool,
}

/// An opened file.
pub(super) struct GgufModel {
    gguf: Gguf,
    config: CausalLmConfig,
    /// By Hugging Face name.
    stored: HashMap<String, Stored>,
}

impl GgufModel {
    /// Reads the metadata and refuses what no family here has.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let gguf = Gguf::open(path)?;
        let config = metadata::read(&gguf)?;
        config
            .validate()
            .map_err(|error| error.context(path.display()))?;
        let stored = stored(&config);
        let model = Self {
            gguf,
            config,
            stored,
        };
        model.check_tensors()?;
        Ok(model)
    }

    pub(super) fn config(&self) -> &CausalLmConfig {
        &self.config
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        let stored = self.stored.get(name);
        stored.is_some_and(|stored| self.gguf.shape(&stored.name).is_some())
    }

    /// The tensor of a Hugging Face name as f32.
    pub(super) fn tensor(&self, name: &str, device: &Device) -> Result<Tensor> {
        let stored = self
            .stored
            .get(name)
            .ok_or_else(|| Error::internal(format!("no GGUF name is known for {name:?}")))?;
        let tensor = self.gguf.tensor(&stored.name, device)?;
        let offset = self.config.family.architecture().norm_offset;
        match stored.heads {
            Some(heads) => to_half_split(&tensor, heads),
            None if stored.norm && offset != 0.0 => Ok((tensor - offset)?),
            None => Ok(tensor),
        }
    }

    /// Refuses tensors that belong to nothing.
    fn check_tensors(&self) -> Result<()> {
        for name in self.gguf.tensor_names() {
            let known = ROPE_FACTORS.contains(&name)
                || self.stored.values().any(|stored| stored.name == name);
            if !known {
                let family = self.config.family;
                return Err(self
                    .gguf
                    .refused(format!("tensor {name:?} is not one of the family {family}"))
                    .hint("experts and adapters are not supported"));
            }
        }
        Ok(())
    }
}

/// Where every parameter lies, by its Hugging Face name.
fn stored(config: &CausalLmConfig) -> HashMap<String, Stored> {
    let interleaved = config.family.architecture().gguf.interleaved;
    let specs = config.specs().into_iter();
    let stored = specs.map(|spec| {
        let heads = match spec.field {
            Some(Field::Query) => Some(config.num_attention_heads),
            Some(Field::Key) => Some(config.num_key_value_heads),
            _ => None,
        };
        let stored = Stored {
            name: spec.gguf,
            heads: heads.filter(|_| interleaved),
            norm: spec.name.ends_with("norm.weight"),
        };
        (spec.name, stored)
    });
    stored.collect()
}

/// Rows from llama.cpp's order (neighbouring channels turn together) into Hugging Face's (halves), for `heads` heads.
fn to_half_split(weight: &Tensor, heads: usize) -> Result<Tensor> {
    let dims = weight.dims().to_vec();
    let rows = dims.first().copied().unwrap_or(0);
    if !rows.is_multiple_of(2 * heads) {
        // The shape is wrong; whoever asked for the tensor says so, with its name.
        return Ok(weight.clone());
    }
    let columns = weight.elem_count() / rows.max(1);
    let split = weight.reshape((heads, rows / heads / 2, 2, columns))?;
    Ok(split.transpose(1, 2)?.contiguous()?.reshape(dims)?)
}

#[cfg(test)]
mod tests;
