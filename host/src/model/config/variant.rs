//! What a model of a family chooses beyond its sizes: windows, positions, multipliers. The default is a plain LLaMA.

use super::{CausalLmConfig, RopeScaling};
use crate::error::{Error, Result};

/// What the layers of a model do beyond their sizes. Field names are config.json's where it has one.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// Whether the maps of attention have biases, in the families that leave it open.
    pub attention_bias: bool,
    /// The same of the feed-forward block.
    pub mlp_bias: bool,
    /// How positions are stretched in layers that see everything.
    pub rope_scaling: RopeScaling,
    /// Base of the rotary frequencies of layers with a window, where they have their own (Gemma 3), above 0.
    pub rope_local_base_freq: Option<f64>,
    /// Tokens that a query sees in layers with a window, itself included.
    pub sliding_window: Option<usize>,
    /// What each layer does; empty where all see everything and rotate.
    pub layers: Vec<LayerKind>,
    /// Scores are products of queries and keys divided by its root; by √D where there is none (Gemma).
    pub query_pre_attn_scalar: Option<f64>,
    /// Scores are products of queries and keys times this (Granite); takes the place of the former.
    pub attention_multiplier: Option<f64>,
    /// c: scores become c·tanh(s / c).
    pub attn_logit_softcapping: Option<f64>,
    /// c: logits become c·tanh(z / c).
    pub final_logit_softcapping: Option<f64>,
    /// What embeddings are multiplied by (Granite; Gemma's √C follows from the family).
    pub embedding_multiplier: f64,
    /// What a layer's two additions to the residual stream are multiplied by.
    pub residual_multiplier: f64,
    /// What logits are divided by.
    pub logits_scaling: f64,
}

/// What one layer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerKind {
    /// Whether its attention has the window.
    pub sliding: bool,
    /// Whether its queries and keys are rotated.
    pub rotates: bool,
}

impl Default for LayerKind {
    fn default() -> Self {
        Self {
            sliding: false,
            rotates: true,
        }
    }
}

impl Default for Variant {
    fn default() -> Self {
        Self {
            attention_bias: false,
            mlp_bias: false,
            rope_scaling: RopeScaling::None,
            rope_local_base_freq: None,
            sliding_window: None,
            layers: Vec::new(),
            query_pre_attn_scalar: None,
            attention_multiplier: None,
            attn_logit_softcapping: None,
            final_logit_softcapping: None,
            embedding_multiplier: 1.0,
            residual_multiplier: 1.0,
            logits_scaling: 1.0,
        }
    }
}

impl Variant {
    /// What layer `index` does.
    pub fn layer(&self, index: usize) -> LayerKind {
        self.layers.get(index).copied().unwrap_or_default()
    }

    /// What products of queries and keys of `head_dim` channels are multiplied by.
    pub fn score_scale(&self, head_dim: usize) -> f64 {
        self.attention_multiplier
            .unwrap_or_else(|| 1.0 / self.query_pre_attn_scalar.unwrap_or(head_dim as f64).sqrt())
    }

    /// Checks what the sizes of the model do not.
    pub(super) fn validate(&self, of: &CausalLmConfig) -> Result<()> {
        for (key, value) in [
            ("rope_local_base_freq", self.rope_local_base_freq),
            ("query_pre_attn_scalar", self.query_pre_attn_scalar),
            ("attention_multiplier", self.attention_multiplier),
            ("attn_logit_softcapping", self.attn_logit_softcapping),
            ("final_logit_softcapping", self.final_logit_softcapping),
            (
                "sliding_window",
                self.sliding_window.map(|size| size as f64),
            ),
        ] {
            if let Some(value) = value.filter(|value| !(value.is_finite() && *value > 0.0)) {
                return Err(Error::input(format!(
                    "{key} is {value}; accepted: a number above 0"
                )));
            }
        }
        let (found, layers) = (self.layers.len(), of.num_hidden_layers);
        if found != 0 && found != layers {
            return Err(Error::input(format!(
                "layer_types names {found} layers and num_hidden_layers is {layers}; accepted: the same"
            )));
        }
        if self.layers.iter().any(|layer| layer.sliding) && self.sliding_window.is_none() {
            return Err(Error::input(
                "sliding_window is missing or null, and layer_types names layers that have one; accepted: a number of tokens",
            ));
        }
        self.rope_scaling.validate(of.head_dim / 2)
    }
}
