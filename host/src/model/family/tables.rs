//! The tables. Names are those of transformers 5 and of llama.cpp's `gguf-py`; defaults those of transformers' configuration
//! classes.

use super::{Architecture, Biases, Defaults, Family, Field, Gguf, Row, Width};
use crate::ops::gated::Activation;

// Rows of the tables: what a parameter is, its module inside a layer, and its name in GGUF.
const INPUT_NORM: Row = (Field::InputNorm, "input_layernorm", "attn_norm");
const QUERY: Row = (Field::Query, "self_attn.q_proj", "attn_q");
const KEY: Row = (Field::Key, "self_attn.k_proj", "attn_k");
const VALUE: Row = (Field::Value, "self_attn.v_proj", "attn_v");
const QUERY_KEY_VALUE: Row = (Field::QueryKeyValue, "self_attn.qkv_proj", "attn_qkv");
const QUERY_NORM: &str = "self_attn.q_norm";
const KEY_NORM: &str = "self_attn.k_norm";
const HEADS_QUERY_NORM: Row = (Field::QueryNorm(Width::Head), QUERY_NORM, "attn_q_norm");
const HEADS_KEY_NORM: Row = (Field::KeyNorm(Width::Head), KEY_NORM, "attn_k_norm");
const WHOLE_QUERY_NORM: Row = (Field::QueryNorm(Width::All), QUERY_NORM, "attn_q_norm");
const WHOLE_KEY_NORM: Row = (Field::KeyNorm(Width::All), KEY_NORM, "attn_k_norm");
const OUTPUT: Row = (Field::Output, "self_attn.o_proj", "attn_output");
/// A name for two things: in families with norms behind attention it is one of those.
const POST_ATTENTION: &str = "post_attention_layernorm";
const NORM_BEHIND_ATTENTION: Row = (Field::AttentionNorm, POST_ATTENTION, "post_attention_norm");
const NORM_BEFORE_FEED_FORWARD: Row = (Field::FeedForwardNorm, POST_ATTENTION, "ffn_norm");
const PRE_FEED_FORWARD: Row = (
    Field::FeedForwardNorm,
    "pre_feedforward_layernorm",
    "ffn_norm",
);
const GATE: Row = (Field::Gate, "mlp.gate_proj", "ffn_gate");
const UP: Row = (Field::Up, "mlp.up_proj", "ffn_up");
const GATE_UP: Row = (Field::GateUp, "mlp.gate_up_proj", "ffn_up");
const DOWN: Row = (Field::Down, "mlp.down_proj", "ffn_down");
const NORM_BEHIND_FEED_FORWARD: Row = (
    Field::LastNorm,
    "post_feedforward_layernorm",
    "post_ffw_norm",
);

/// LLaMA's layer, which most families have.
const PLAIN: &[Row] = &[
    INPUT_NORM,
    QUERY,
    KEY,
    VALUE,
    OUTPUT,
    NORM_BEFORE_FEED_FORWARD,
    GATE,
    UP,
    DOWN,
];

/// The same with norms of every head's queries and keys.
const HEAD_NORMS: &[Row] = &[
    INPUT_NORM,
    QUERY,
    KEY,
    VALUE,
    HEADS_QUERY_NORM,
    HEADS_KEY_NORM,
    OUTPUT,
    NORM_BEFORE_FEED_FORWARD,
    GATE,
    UP,
    DOWN,
];

/// Norms behind the blocks instead of before them, and of all queries and keys.
const NORMS_BEHIND: &[Row] = &[
    QUERY,
    KEY,
    VALUE,
    WHOLE_QUERY_NORM,
    WHOLE_KEY_NORM,
    OUTPUT,
    NORM_BEHIND_ATTENTION,
    GATE,
    UP,
    DOWN,
    NORM_BEHIND_FEED_FORWARD,
];

/// What has the same input lies in one matrix.
const FUSED: &[Row] = &[
    INPUT_NORM,
    QUERY_KEY_VALUE,
    OUTPUT,
    NORM_BEFORE_FEED_FORWARD,
    GATE_UP,
    DOWN,
];

/// Norms on both sides.
const NORMS_AROUND: &[Row] = &[
    INPUT_NORM,
    QUERY,
    KEY,
    VALUE,
    OUTPUT,
    NORM_BEHIND_ATTENTION,
    PRE_FEED_FORWARD,
    GATE,
    UP,
    DOWN,
    NORM_BEHIND_FEED_FORWARD,
];

/// Norms on both sides, and of every head's queries and keys.
const NORMS_AROUND_AND_HEADS: &[Row] = &[
    INPUT_NORM,
    QUERY,
    KEY,
    VALUE,
    HEADS_QUERY_NORM,
    HEADS_KEY_NORM,
    OUTPUT,
    NORM_BEHIND_ATTENTION,
    PRE_FEED_FORWARD,
    GATE,
    UP,
    DOWN,
    NORM_BEHIND_FEED_FORWARD,
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
