//! Families of models: what makes a Qwen of a LLaMA, as a table.
//!
//! All families are the same decoder (`block.rs`); a table says which parameters a layer has and what they are called, where its
//! norms stand, and which activation it has. What a single model of a family chooses (sizes, windows, multipliers) stands in its
//! configuration. From both follow the layout of the parameters, the places of adapters, names in files, memory plans and what is
//! refused (`description`).

mod tables;
#[cfg(test)]
mod tests;

use std::fmt;

use crate::ops::gated::Activation;

/// A family of models, as transformers' `model_type` tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// LLaMA 1 to 3 (Touvron et al. 2023, arXiv:2302.13971; Grattafiori et al. 2024, arXiv:2407.21783).
    Llama,
    /// Mistral (Jiang et al. 2023, arXiv:2310.06825): attention over a sliding window.
    Mistral,
    /// Qwen 2 and 2.5 (Yang et al. 2024, arXiv:2407.10671): biases of queries, keys and values.
    Qwen2,
    /// Qwen 3 (Yang et al. 2025, arXiv:2505.09388): norms of the queries and keys of every head.
    Qwen3,
    /// `SmolLM` 3 (Bakouch et al. 2025): every fourth layer does without rotation.
    SmolLm3,
    /// OLMo 2 (Walsh et al. 2025, arXiv:2501.00656): norms behind attention and feed-forward, and of all queries and keys.
    Olmo2,
    /// Phi 3 (Abdin et al. 2024, arXiv:2404.14219): projections that are read by the same input lie in one matrix.
    Phi3,
    /// Gemma 2 (Riviere et al. 2024, arXiv:2408.00118): norms on both sides, soft caps, windows in every other layer.
    Gemma2,
    /// Gemma 3 (Kamath et al. 2025, arXiv:2503.19786), its language model.
    Gemma3,
    /// Granite 3 (IBM Granite Team 2024): multipliers of embeddings, scores, residuals and logits (after Yang et al. 2022).
    Granite,
}

/// What the models of a family have in common.
#[derive(Debug)]
pub(crate) struct Architecture {
    /// config.json's `model_type`.
    pub(crate) model_type: &'static str,
    /// What transformers' classes begin with: `Qwen3` of `Qwen3ForCausalLM`.
    pub(crate) class: &'static str,
    /// The parameters of a layer in the order in which they lie; biases follow the maps that have them.
    pub(crate) layer: &'static [Row],
    /// What is added to a norm's weight: 1 in Gemma, whose weights begin at 0.
    pub(crate) norm_offset: f64,
    pub(crate) activation: Activation,
    /// Which maps have biases.
    pub(crate) biases: Biases,
    /// The embedding is multiplied by √C (Gemma).
    pub(crate) scaled_embedding: bool,
    /// Values of keys that a config.json leaves out.
    pub(crate) defaults: Defaults,
    /// The keys beyond every family's that it reads.
    pub(crate) keys: &'static [&'static str],
    pub(crate) gguf: Gguf,
}

/// A parameter of a layer: what it is, its module's name inside a layer as Hugging Face has it, and as GGUF has it.
pub(crate) type Row = (Field, &'static str, &'static str);

/// What a parameter of a layer is. Shapes by C channels, F feed-forward, H heads, K key/value heads, D head size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    /// The norm of what goes into attention, (C,).
    InputNorm,
    /// (H·D, C).
    Query,
    /// (K·D, C).
    Key,
    /// (K·D, C).
    Value,
    /// The three below each other, (H·D + 2·K·D, C).
    QueryKeyValue,
    /// The norm of queries: (D,) for every head, or (H·D,) for all.
    QueryNorm(Width),
    /// The norm of keys: (D,) for every head, or (K·D,) for all.
    KeyNorm(Width),
    /// (C, H·D).
    Output,
    /// The norm of what attention adds, (C,).
    AttentionNorm,
    /// The norm of what goes into the feed-forward block, (C,).
    FeedForwardNorm,
    /// (F, C).
    Gate,
    /// (F, C).
    Up,
    /// The two below each other, (2·F, C).
    GateUp,
    /// (C, F).
    Down,
    /// The norm of what the feed-forward block adds, (C,).
    LastNorm,
}

/// Over what a norm of queries or keys takes its mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    Head,
    All,
}

/// Which of a family's maps have biases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Biases {
    /// None, whatever config.json says.
    Never,
    /// Those of queries, keys and values, always.
    QueryKeyValue,
    /// `attention_bias` says it of queries, keys, values and the output; `mlp_bias`, where the family has it, of the others.
    Asked,
    /// `attention_bias` says it of queries, keys, values and the output.
    AskedOfAttention,
}

/// What transformers' configuration class takes for keys that are left out, where families differ.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Defaults {
    pub(crate) num_key_value_heads: Option<usize>,
    pub(crate) head_dim: Option<usize>,
    pub(crate) max_position_embeddings: usize,
    pub(crate) rms_norm_eps: f64,
    pub(crate) rope_theta: f64,
    pub(crate) tie_word_embeddings: bool,
    pub(crate) sliding_window: Option<usize>,
}

/// How llama.cpp keeps the family.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gguf {
    /// `general.architecture`; the first key of its metadata.
    pub(crate) architecture: &'static str,
    /// Whether rows of `W_q` and `W_k` are reordered, because its rotation turns neighbouring channels.
    pub(crate) interleaved: bool,
}

impl Family {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Llama,
        Self::Mistral,
        Self::Qwen2,
        Self::Qwen3,
        Self::SmolLm3,
        Self::Olmo2,
        Self::Phi3,
        Self::Gemma2,
        Self::Gemma3,
        Self::Granite,
    ];

    /// The family that config.json's `model_type` names.
    pub(crate) fn of_model_type(name: &str) -> Option<Self> {
        let all = Self::ALL.into_iter();
        all.into_iter()
            .find(|family| family.architecture().model_type == name)
    }

    /// config.json's `model_type`s, for a message.
    pub(crate) fn accepted() -> String {
        let names = Self::ALL.map(|family| format!("\"{}\"", family.architecture().model_type));
        names.join(", ")
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.architecture().model_type)
    }
}

impl Architecture {
    /// The name of a field's module inside a layer, where the family has the field.
    pub(crate) fn module(&self, field: Field) -> Option<&'static str> {
        let row = self.layer.iter().find(|(of, _, _)| *of == field);
        row.map(|(_, module, _)| *module)
    }
}
