//! A LLaMA in a GGUF file: metadata as [`LlamaConfig`], tensors under their Hugging Face names and in their row order.
//!
//! llama.cpp's converter reorders the rows of `W_q` and `W_k` head by head, because its rotary embedding turns neighbouring
//! channels (2j, 2j + 1) where Hugging Face's (and `ops::rope`) turns (j, j + D/2):
//! ```text
//! gguf row h·D + 2j + s  =  Hugging Face row h·D + s·D/2 + j      s ∈ {0, 1},  j ∈ 0..D/2
//! ```
//! Reading undoes it: (H, D/2, 2, C) → (H, 2, D/2, C).

use std::collections::HashSet;
use std::path::Path;

use candle_core::{Device, Tensor};

use super::super::config::LlamaConfig;
use super::super::parameters;
use crate::data::gguf::Gguf;
use crate::error::{Error, Result};

/// Factors of the rotary frequencies; where they are not 1, the positions are stretched.
const ROPE_FACTORS: &str = "rope_freqs.weight";

/// What the tensors of the whole model are called here and there.
const OF_MODEL: [(&str, &str); 3] = [
    ("model.embed_tokens.weight", "token_embd.weight"),
    ("model.norm.weight", "output_norm.weight"),
    ("lm_head.weight", "output.weight"),
];

/// What the tensors of a layer are called here and there.
const OF_LAYER: [(&str, &str); parameters::PER_LAYER] = [
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// An opened file of the architecture `llama`.
pub(super) struct GgufModel {
    gguf: Gguf,
    config: LlamaConfig,
}

impl GgufModel {
    /// Reads the metadata and refuses what is not a plain LLaMA.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let gguf = Gguf::open(path)?;
        let config = read_config(&gguf)?;
        config
            .validate()
            .map_err(|error| error.context(path.display()))?;
        let model = Self { gguf, config };
        model.check_tensors()?;
        Ok(model)
    }

    pub(super) fn config(&self) -> &LlamaConfig {
        &self.config
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        gguf_name(name).is_some_and(|name| self.gguf.shape(&name).is_some())
    }

    /// The tensor of a Hugging Face name as f32.
    pub(super) fn tensor(&self, name: &str, device: &Device) -> Result<Tensor> {
        let stored = gguf_name(name)
            .ok_or_else(|| Error::internal(format!("no GGUF name is known for {name:?}")))?;
        let tensor = self.gguf.tensor(&stored, device)?;
        if stored.ends_with("attn_q.weight") {
            to_half_split(&tensor, self.config.num_attention_heads)
        } else if stored.ends_with("attn_k.weight") {
            to_half_split(&tensor, self.config.num_key_value_heads)
        } else {
            Ok(tensor)
        }
    }

    /// Refuses tensors that a plain LLaMA does not have: biases, experts, rotary factors that are not 1.
    fn check_tensors(&self) -> Result<()> {
        let known: HashSet<String> = parameters::specs(&self.config)
            .iter()
            .filter_map(|spec| gguf_name(&spec.name))
            .collect();
        for name in self.gguf.tensor_names() {
            if name == ROPE_FACTORS {
                let factors = self.gguf.tensor(name, &Device::Cpu)?.flatten_all()?;
                if factors
                    .to_vec1::<f32>()?
                    .iter()
                    .any(|factor| *factor != 1.0)
                {
                    return Err(stretched(
                        &self.gguf,
                        &format!("{ROPE_FACTORS} is not all 1"),
                    ));
                }
            } else if !known.contains(name) {
                return Err(self
                    .gguf
                    .refused(format!("tensor {name:?} is not one of a plain LLaMA"))
                    .hint("biases, experts and adapters are not supported"));
            }
        }
        Ok(())
    }
}

/// `model.layers.3.self_attn.q_proj.weight` → `blk.3.attn_q.weight`.
fn gguf_name(name: &str) -> Option<String> {
    if let Some((_, there)) = OF_MODEL.iter().find(|(here, _)| *here == name) {
        return Some((*there).to_owned());
    }
    let (layer, part) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let part = part.strip_suffix(".weight")?;
    let (_, there) = OF_LAYER.iter().find(|(here, _)| *here == part)?;
    Some(format!("blk.{layer}.{there}.weight"))
}

/// Rows from llama.cpp's order (neighbouring channels turn together) into Hugging Face's (halves), for `heads` heads.
fn to_half_split(weight: &Tensor, heads: usize) -> Result<Tensor> {
    let (rows, columns) = weight.dims2()?;
    if !rows.is_multiple_of(2 * heads) {
        // The shape is wrong; whoever asked for the tensor says so, with its name.
        return Ok(weight.clone());
    }
    let split = weight.reshape((heads, rows / heads / 2, 2, columns))?;
    Ok(split
        .transpose(1, 2)?
        .contiguous()?
        .reshape((rows, columns))?)
}

fn stretched(gguf: &Gguf, found: &str) -> Error {
    gguf.refused(format!("{found}; accepted: positions that are not scaled"))
        .hint("stretched rotary positions are not supported; use a model without rope scaling")
}

fn read_config(gguf: &Gguf) -> Result<LlamaConfig> {
    let key = "general.type";
    if let Some(kind) = gguf.text(key)?.filter(|kind| *kind != "model") {
        return Err(gguf
            .refused(format!(
                "{key} is {kind:?}: the file holds {} and no model; accepted: \"model\"",
                if kind == "adapter" { "an adapter" } else { "something else" }
            ))
            .hint(
                "adapters are read as PEFT writes them (adapter_config.json and adapter_model.safetensors); llama-export-lora merges \
                 one of this kind into its model",
            ));
    }
    let key = "general.architecture";
    let architecture = gguf.required(key, gguf.text(key)?)?;
    if architecture != "llama" {
        return Err(gguf.refused(format!("{key} is {architecture:?}; accepted: \"llama\"")));
    }
    check_variant(gguf)?;
    let size = |key: &str| gguf.required(key, gguf.count(key)?);
    let hidden_size = size("llama.embedding_length")?;
    let layers = size("llama.block_count")?;
    let heads = uniform(gguf, "llama.attention.head_count")?;
    let num_attention_heads = gguf.required("llama.attention.head_count", heads)?;
    let feed_forward = uniform(gguf, "llama.feed_forward_length")?;
    let head_dim = match gguf.count("llama.attention.key_length")? {
        Some(size) => size,
        None if num_attention_heads > 0 && hidden_size.is_multiple_of(num_attention_heads) => {
            hidden_size / num_attention_heads
        }
        None => {
            return Err(gguf.refused(format!(
                "llama.embedding_length is {hidden_size} and llama.attention.head_count is {num_attention_heads}; \
                 accepted: a multiple, or llama.attention.key_length beside them"
            )));
        }
    };
    for key in ["llama.attention.value_length", "llama.rope.dimension_count"] {
        if let Some(found) = gguf.count(key)?.filter(|found| *found != head_dim) {
            return Err(gguf.refused(format!(
                "{key} is {found}; accepted: the head size, which is {head_dim}"
            )));
        }
    }
    let (embedding, head) = (OF_MODEL[0].1, OF_MODEL[2].1);
    let table = gguf
        .shape(embedding)
        .ok_or_else(|| gguf.refused(format!("there is no tensor {embedding:?}")))?;
    Ok(LlamaConfig {
        vocab_size: table[0],
        hidden_size,
        intermediate_size: gguf.required("llama.feed_forward_length", feed_forward)?,
        num_hidden_layers: layers,
        num_attention_heads,
        num_key_value_heads: uniform(gguf, "llama.attention.head_count_kv")?
            .unwrap_or(num_attention_heads),
        head_dim,
        max_position_embeddings: size("llama.context_length")?,
        rms_norm_eps: {
            let key = "llama.attention.layer_norm_rms_epsilon";
            gguf.required(key, gguf.real(key)?)?
        },
        rope_theta: gguf.real("llama.rope.freq_base")?.unwrap_or(10_000.0),
        tie_word_embeddings: gguf.shape(head).is_none(),
        bos_token_id: token_id(gguf, "bos")?,
        eos_token_id: [token_id(gguf, "eos")?, token_id(gguf, "eot")?]
            .into_iter()
            .flatten()
            .chain(more_ends(gguf)?)
            .fold(Vec::new(), |mut ids, id| {
                if !ids.contains(&id) {
                    ids.push(id);
                }
                ids
            }),
    })
}

/// The id of the token that begins a text (`bos`), ends it (`eos`) or ends a turn (`eot`).
fn token_id(gguf: &Gguf, kind: &str) -> Result<Option<u32>> {
    let id = gguf.count(&format!("tokenizer.ggml.{kind}_token_id"))?;
    Ok(id.and_then(|id| u32::try_from(id).ok()))
}

/// Further tokens that end a response, where a writer lists them.
fn more_ends(gguf: &Gguf) -> Result<Vec<u32>> {
    let ids = gguf.counts("tokenizer.ggml.eos_token_ids")?;
    let ids = ids.unwrap_or_default().into_iter();
    Ok(ids.filter_map(|id| u32::try_from(id).ok()).collect())
}

/// A number that may be given layer by layer, where all layers agree.
fn uniform(gguf: &Gguf, key: &str) -> Result<Option<usize>> {
    let Some(values) = gguf.counts(key)? else {
        return Ok(None);
    };
    match values.as_slice() {
        [first, rest @ ..] if rest.iter().all(|value| value == first) => Ok(Some(*first)),
        _ => Err(gguf.refused(format!(
            "{key} is {values:?}; accepted: the same for all layers"
        ))),
    }
}

/// Refuses models that use the name `llama` for more than a plain LLaMA.
fn check_variant(gguf: &Gguf) -> Result<()> {
    let key = "llama.rope.scaling.type";
    if let Some(kind) = gguf.text(key)?.filter(|kind| *kind != "none") {
        return Err(stretched(gguf, &format!("{key} is {kind:?}")));
    }
    for key in ["llama.rope.scaling.factor", "llama.rope.scale_linear"] {
        if let Some(factor) = gguf
            .real(key)?
            .filter(|factor| *factor != 1.0 && *factor != 0.0)
        {
            return Err(stretched(gguf, &format!("{key} is {factor}")));
        }
    }
    if let Some(count) = gguf.count("split.count")?.filter(|count| *count > 1) {
        return Err(gguf
            .refused(format!("split.count is {count}; accepted: 1"))
            .hint("join the parts with llama-gguf-split --merge"));
    }
    let positive = [
        (
            "llama.expert_count",
            "mixtures of experts are not supported",
        ),
        (
            "llama.attention.sliding_window",
            "sliding windows are not supported",
        ),
    ];
    for (key, hint) in positive {
        if let Some(found) = gguf.count(key)?.filter(|found| *found > 0) {
            return Err(gguf
                .refused(format!("{key} is {found}; accepted: 0, or none"))
                .hint(hint));
        }
    }
    for key in [
        "llama.attention.scale",
        "llama.logit_scale",
        "llama.residual_scale",
        "llama.embedding_scale",
    ] {
        if let Some(found) = gguf.real(key)? {
            return Err(gguf.refused(format!("{key} is {found}; accepted: no such key")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
