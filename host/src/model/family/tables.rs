//! The tables. Names are those of transformers 5 and of llama.cpp's `gguf-py`; defaults those of transformers' configuration
//! classes.

use super::{Architecture, Biases, Defaults, Family, Field, Gguf, Row, Width};
use crate::ops::gated::Activation;

/// LLaMA's layer, which most families have.
const PLAIN: &[Row] = &[
    (Field::InputNorm, "input_layernorm", "attn_norm"),
    (Field::Query, "self_attn.q_proj", "attn_q"),
    (Field::Key, "self_attn.k_proj", "attn_k"),
    (Field::Value, "self_attn.v_proj", "attn_v"),
    (Field::Output, "self_attn.o_proj", "attn_output"),
    (
        Field::FeedForwardNorm,
        "post_attention_layernorm",
        "ffn_norm",
    ),
    (Field::Gate, "mlp.gate_proj", "ffn_gate"),
    (Field::Up, "mlp.up_proj", "ffn_up"),
    (Field::Down, "mlp.down_proj", "ffn_down"),
];

/// The same with norms of every head's queries and keys.
const HEAD_NORMS: &[Row] = &[
    (Field::InputNorm, "input_layernorm", "attn_norm"),
    (Field::Query, "self_attn.q_proj", "attn_q"),
    (Field::Key, "self_attn.k_proj", "attn_k"),
    (Field::Value, "self_attn.v_proj", "attn_v"),
    (
        Field::QueryNorm(Width::Head),
        "self_attn.q_norm",
        "attn_q_norm",
    ),
    (
        Field::KeyNorm(Width::Head),
        "self_attn.k_norm",
        "attn_k_norm",
    ),
    (Field::Output, "self_attn.o_proj", "attn_output"),
    (
        Field::FeedForwardNorm,
        "post_attention_layernorm",
        "ffn_norm",
    ),
    (Field::Gate, "mlp.gate_proj", "ffn_gate"),
    (Field::Up, "mlp.up_proj", "ffn_up"),
    (Field::Down, "mlp.down_proj", "ffn_down"),
];

/// Norms behind the blocks instead of before them, and of all queries and keys.
const NORMS_BEHIND: &[Row] = &[
    (Field::Query, "self_attn.q_proj", "attn_q"),
    (Field::Key, "self_attn.k_proj", "attn_k"),
    (Field::Value, "self_attn.v_proj", "attn_v"),
    (
        Field::QueryNorm(Width::All),
        "self_attn.q_norm",
        "attn_q_norm",
    ),
    (
        Field::KeyNorm(Width::All),
        "self_attn.k_norm",
        "attn_k_norm",
    ),
    (Field::Output, "self_attn.o_proj", "attn_output"),
    (
        Field::AttentionNorm,
        "post_attention_layernorm",
        "post_attention_norm",
    ),
    (Field::Gate, "mlp.gate_proj", "ffn_gate"),
    (Field::Up, "mlp.up_proj", "ffn_up"),
    (Field::Down, "mlp.down_proj", "ffn_down"),
    (
        Field::LastNorm,
        "post_feedforward_layernorm",
        "post_ffw_norm",
    ),
];

/// What has the same input lies in one matrix.
const FUSED: &[Row] = &[
    (Field::InputNorm, "input_layernorm", "attn_norm"),
    (Field::QueryKeyValue, "self_attn.qkv_proj", "attn_qkv"),
    (Field::Output, "self_attn.o_proj", "attn_output"),
    (
        Field::FeedForwardNorm,
        "post_attention_layernorm",
        "ffn_norm",
    ),
    (Field::GateUp, "mlp.gate_up_proj", "ffn_up"),
    (Field::Down, "mlp.down_proj", "ffn_down"),
];

/// Norms on both sides.
const NORMS_AROUND: &[Row] = &[
    (Field::InputNorm, "input_layernorm", "attn_norm"),
    (Field::Query, "self_attn.q_proj", "attn_q"),
    (Field::Key, "self_attn.k_proj", "attn_k"),
    (Field::Value, "self_attn.v_proj", "attn_v"),
    (Field::Output, "self_attn.o_proj", "attn_output"),
    (
        Field::AttentionNorm,
        "post_attention_layernorm",
        "post_attention_norm",
    ),
    (
        Field::FeedForwardNorm,
        "pre_feedforward_layernorm",
        "ffn_norm",
    ),
    (Field::Gate, "mlp.gate_proj", "ffn_gate"),
    (Field::Up, "mlp.up_proj", "ffn_up"),
    (Field::Down, "mlp.down_proj", "ffn_down"),
    (
        Field::LastNorm,
        "post_feedforward_layernorm",
        "post_ffw_norm",
    ),
];

/// Norms on both sides, and of every head's queries and keys.
const NORMS_AROUND_AND_HEADS: &[Row] = &[
    (Field::InputNorm, "input_layernorm", "attn_norm"),
    (Field::Query, "self_attn.q_proj", "attn_q"),
    (Field::Key, "self_attn.k_proj", "attn_k"),
    (Field::Value, "self_attn.v_proj", "attn_v"),
    (
        Field::QueryNorm(Width::Head),
        "self_attn.q_norm",
        "attn_q_norm",
    ),
    (
        Field::KeyNorm(Width::Head),
        "self_attn.k_norm",
        "attn_k_norm",
    ),
    (Field::Output, "self_attn.o_proj", "attn_output"),
    (
        Field::AttentionNorm,
        "post_attention_layernorm",
        "post_attention_norm",
    ),
    (
        Field::FeedForwardNorm,
        "pre_feedforward_layernorm",
        "ffn_norm",
    ),
    (Field::Gate, "mlp.gate_proj", "ffn_gate"),
    (Field::Up, "mlp.up_proj", "ffn_up"),
    (Field::Down, "mlp.down_proj", "ffn_down"),
    (
        Field::LastNorm,
        "post_feedforward_layernorm",
        "post_ffw_norm",
    ),
];

const DEFAULTS: Defaults = Defaults {
    num_key_value_heads: None,
    head_dim: None,
    max_position_embeddings: 2048,
    rms_norm_eps: 1e-6,
    rope_theta: 10_000.0,
    tie_word_embeddings: false,
    sliding_window: None,
};

const LLAMA: Architecture = Architecture {
    model_type: "llama",
    class: "Llama",
    layer: PLAIN,
    norm_offset: 0.0,
    activation: Activation::Silu,
    biases: Biases::Asked,
    scaled_embedding: false,
    defaults: DEFAULTS,
    keys: &["attention_bias", "mlp_bias"],
    gguf: Gguf {
        architecture: "llama",
        interleaved: true,
    },
};

const MISTRAL: Architecture = Architecture {
    model_type: "mistral",
    class: "Mistral",
    biases: Biases::Never,
    defaults: Defaults {
        num_key_value_heads: Some(8),
        max_position_embeddings: 131_072,
        sliding_window: Some(4096),
        ..DEFAULTS
    },
    keys: &["sliding_window", "layer_types"],
    ..LLAMA
};

const QWEN2: Architecture = Architecture {
    model_type: "qwen2",
    class: "Qwen2",
    biases: Biases::QueryKeyValue,
    defaults: Defaults {
        num_key_value_heads: Some(32),
        max_position_embeddings: 32_768,
        sliding_window: Some(4096),
        ..DEFAULTS
    },
    keys: &[
        "sliding_window",
        "use_sliding_window",
        "max_window_layers",
        "layer_types",
    ],
    gguf: Gguf {
        architecture: "qwen2",
        interleaved: false,
    },
    ..LLAMA
};

const QWEN3: Architecture = Architecture {
    model_type: "qwen3",
    class: "Qwen3",
    layer: HEAD_NORMS,
    biases: Biases::AskedOfAttention,
    defaults: Defaults {
        head_dim: Some(128),
        ..QWEN2.defaults
    },
    keys: &[
        "attention_bias",
        "sliding_window",
        "use_sliding_window",
        "max_window_layers",
        "layer_types",
    ],
    gguf: Gguf {
        architecture: "qwen3",
        interleaved: false,
    },
    ..LLAMA
};

const SMOLLM3: Architecture = Architecture {
    model_type: "smollm3",
    class: "SmolLM3",
    biases: Biases::Asked,
    defaults: Defaults {
        num_key_value_heads: Some(4),
        max_position_embeddings: 32_768,
        rope_theta: 2_000_000.0,
        tie_word_embeddings: true,
        ..DEFAULTS
    },
    keys: &[
        "attention_bias",
        "mlp_bias",
        "sliding_window",
        "use_sliding_window",
        "layer_types",
        "no_rope_layers",
        "no_rope_layer_interval",
    ],
    gguf: Gguf {
        architecture: "smollm3",
        interleaved: true,
    },
    ..LLAMA
};

const OLMO2: Architecture = Architecture {
    model_type: "olmo2",
    class: "Olmo2",
    layer: NORMS_BEHIND,
    biases: Biases::AskedOfAttention,
    defaults: Defaults {
        rms_norm_eps: 1e-5,
        ..DEFAULTS
    },
    keys: &["attention_bias"],
    gguf: Gguf {
        architecture: "olmo2",
        interleaved: false,
    },
    ..LLAMA
};

const PHI3: Architecture = Architecture {
    model_type: "phi3",
    class: "Phi3",
    layer: FUSED,
    biases: Biases::Never,
    defaults: Defaults {
        max_position_embeddings: 4096,
        rms_norm_eps: 1e-5,
        ..DEFAULTS
    },
    keys: &["sliding_window", "original_max_position_embeddings"],
    gguf: Gguf {
        architecture: "phi3",
        interleaved: false,
    },
    ..LLAMA
};

const GEMMA2: Architecture = Architecture {
    model_type: "gemma2",
    class: "Gemma2",
    layer: NORMS_AROUND,
    norm_offset: 1.0,
    activation: Activation::GeluTanh,
    biases: Biases::AskedOfAttention,
    scaled_embedding: true,
    defaults: Defaults {
        num_key_value_heads: Some(4),
        head_dim: Some(256),
        max_position_embeddings: 8192,
        tie_word_embeddings: true,
        sliding_window: Some(4096),
        ..DEFAULTS
    },
    keys: &[
        "attention_bias",
        "hidden_activation",
        "sliding_window",
        "layer_types",
        "query_pre_attn_scalar",
        "attn_logit_softcapping",
        "final_logit_softcapping",
    ],
    gguf: Gguf {
        architecture: "gemma2",
        interleaved: false,
    },
};

const GEMMA3: Architecture = Architecture {
    model_type: "gemma3_text",
    class: "Gemma3",
    layer: NORMS_AROUND_AND_HEADS,
    defaults: Defaults {
        max_position_embeddings: 131_072,
        rope_theta: 1_000_000.0,
        ..GEMMA2.defaults
    },
    keys: &[
        "attention_bias",
        "hidden_activation",
        "sliding_window",
        "sliding_window_pattern",
        "layer_types",
        "query_pre_attn_scalar",
        "attn_logit_softcapping",
        "final_logit_softcapping",
        "rope_local_base_freq",
    ],
    gguf: Gguf {
        architecture: "gemma3",
        interleaved: false,
    },
    ..GEMMA2
};

const GRANITE: Architecture = Architecture {
    model_type: "granite",
    class: "Granite",
    biases: Biases::Asked,
    keys: &[
        "attention_bias",
        "mlp_bias",
        "embedding_multiplier",
        "attention_multiplier",
        "residual_multiplier",
        "logits_scaling",
    ],
    gguf: Gguf {
        architecture: "granite",
        interleaved: true,
    },
    ..LLAMA
};

impl Family {
    /// Its table.
    pub(crate) fn architecture(self) -> &'static Architecture {
        match self {
            Self::Llama => &LLAMA,
            Self::Mistral => &MISTRAL,
            Self::Qwen2 => &QWEN2,
            Self::Qwen3 => &QWEN3,
            Self::SmolLm3 => &SMOLLM3,
            Self::Olmo2 => &OLMO2,
            Self::Phi3 => &PHI3,
            Self::Gemma2 => &GEMMA2,
            Self::Gemma3 => &GEMMA3,
            Self::Granite => &GRANITE,
        }
    }
}
