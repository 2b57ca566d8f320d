//! Keys of config.json beyond those that are read: which of them say something about the arithmetic.
//!
//! Folders carry keys of every tool that they went through, and most change nothing. But a model that calls itself a LLaMA and
//! has a `residual_multiplier` computes something else, and would talk nonsense without a complaint. What each family reads beyond
//! the others stands in its table. So a key that is known to have no effect passes; one whose name is about the arithmetic is refused
//! unless it is off; what is left is a note.

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::model::family::Family;

/// Keys that are read of every family, in `file`.
const READ: [&str; 17] = [
    "model_type",
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_theta",
    "rope_parameters",
    "rope_scaling",
    "tie_word_embeddings",
    "bos_token_id",
    "eos_token_id",
    "hidden_act",
];

/// Words of names that are about dropout, which is off where nothing is trained with it.
const DROPOUT: [&str; 3] = ["dropout", "pdrop", "dropouts"];

/// Keys without effect here whose names have one of [`WORDS`] in them: what is returned beside the result, how a kernel is
/// chosen, and limits of other tools.
const WITHOUT_EFFECT: [&str; 9] = [
    "output_attentions",
    "attn_implementation",
    "use_flash_attention",
    "use_flash_attention_2",
    "use_flash_attn",
    "use_sdpa_attention",
    "use_sliding_window",
    "original_max_position_embeddings",
    "n_positions",
];

/// Words of names that are about the arithmetic. A name is cut at `_`; plurals count.
const WORDS: [&str; 58] = [
    "multiplier",
    "scale",
    "scaled",
    "scaling",
    "softcap",
    "softcapping",
    "cap",
    "capping",
    "clip",
    "clamp",
    "window",
    "sliding",
    "rope",
    "rotary",
    "nope",
    "alibi",
    "yarn",
    "position",
    "embedding",
    "bias",
    "biases",
    "expert",
    "moe",
    "router",
    "routed",
    "mixture",
    "norm",
    "layernorm",
    "rmsnorm",
    "ln",
    "eps",
    "act",
    "activation",
    "attention",
    "attn",
    "head",
    "qk",
    "qkv",
    "kv",
    "mla",
    "lora",
    "rank",
    "layer",
    "conv",
    "ssm",
    "mamba",
    "residual",
    "logit",
    "logits",
    "mlp",
    "ffn",
    "gate",
    "gated",
    "gating",
    "sink",
    "sparse",
    "pruned",
    "mup",
];

/// Other families' names of keys that are read: they may say the same once more.
const OTHER_NAMES: [(&str, &str); 16] = [
    ("num_layers", "num_hidden_layers"),
    ("n_layer", "num_hidden_layers"),
    ("n_layers", "num_hidden_layers"),
    ("num_heads", "num_attention_heads"),
    ("n_head", "num_attention_heads"),
    ("n_heads", "num_attention_heads"),
    ("n_kv_heads", "num_key_value_heads"),
    ("num_kv_heads", "num_key_value_heads"),
    ("attention_head_size", "head_dim"),
    ("kv_channels", "head_dim"),
    ("norm_eps", "rms_norm_eps"),
    ("layer_norm_eps", "rms_norm_eps"),
    ("layer_norm_epsilon", "rms_norm_eps"),
    ("layernorm_epsilon", "rms_norm_eps"),
    ("rotary_emb_base", "rope_theta"),
    ("rope_base", "rope_theta"),
];

/// Values of keys about the arithmetic that say what a model without them does anyway.
fn says_the_usual(key: &str, value: &Value, keys: &Map<String, Value>) -> bool {
    if let Some((_, read)) = OTHER_NAMES.iter().find(|(other, _)| *other == key) {
        let number = |value: &Value| value.as_f64();
        return number(value).is_some() && number(value) == keys.get(*read).and_then(number);
    }
    let one_of = |accepted: &[&str]| value.as_str().is_some_and(|text| accepted.contains(&text));
    match key {
        "partial_rotary_factor"
        | "rotary_pct"
        | "rope_ratio"
        | "rope_scaling_factor"
        | "embedding_multiplier"
        | "residual_multiplier"
        | "logits_scaling"
        | "logit_scale" => value.as_f64() == Some(1.0),
        "num_experts" | "num_local_experts" | "n_routed_experts" => value.as_u64() == Some(0),
        "layer_types" => value
            .as_array()
            .is_some_and(|kinds| kinds.iter().all(|kind| kind == "full_attention")),
        // A window that is switched off.
        "sliding_window" | "max_window_layers" => {
            keys.get("use_sliding_window") == Some(&Value::Bool(false))
        }
        "position_embedding_type" => one_of(&["rope", "rotary"]),
        "hidden_activation" | "activation_function" | "act_fn" | "mlp_hidden_act" => {
            one_of(&["silu", "swish", "swiglu"])
        }
        "norm_type" | "layer_norm_type" => one_of(&["rms", "rmsnorm", "rms_norm"]),
        "scale_attn_weights" | "use_rope" | "use_rms_norm" => value == &Value::Bool(true),
        _ => false,
    }
}

/// Keys about the arithmetic that transformers' class for the family does not look at.
pub(super) fn of_no_effect(family: Family) -> &'static [&'static str] {
    match family {
        Family::Mistral => &["attention_bias", "mlp_bias"],
        // Chunks of attention begin behind the rows that are read here.
        Family::Qwen2 => &["attention_bias", "dual_chunk_attention_config"],
        Family::SmolLm3 => &["max_window_layers"],
        Family::Gemma2 => &["sliding_window_pattern", "cache_implementation"],
        Family::Gemma3 => &["_sliding_window_pattern", "cache_implementation"],
        Family::Phi3 => &[
            "attention_bias",
            "mlp_bias",
            "embd_pdrop",
            "full_attn_mod",
            "interpolate_factor",
        ],
        Family::Llama | Family::Qwen3 | Family::Olmo2 | Family::Granite => &[],
    }
}

/// Whether a key is left at what means off.
pub(in crate::model) fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

/// Refuses keys that make another model of the family: the first is named with its value.
pub(super) fn check(keys: &Map<String, Value>, family: Family) -> Result<()> {
    check_quantised(keys)?;
    // transformers looks at it in every family, and its "off" is the unusual.
    if keys.get("is_causal") == Some(&Value::Bool(false)) {
        return Err(Error::input(
            "is_causal is false; accepted: true, or no such key, because a response is written from left to right",
        ));
    }
    for (key, value) in keys {
        let passes = is_off(value)
            || READ.contains(&key.as_str())
            || family.architecture().keys.contains(&key.as_str())
            || WITHOUT_EFFECT.contains(&key.as_str())
            // Notes of the tools themselves.
            || key.starts_with('_')
            || !is_about_the_arithmetic(key)
            || says_the_usual(key, value, keys)
            || of_no_effect(family).contains(&key.as_str());
        if !passes {
            return Err(Error::input(format!(
                "{key} is {value}; accepted: no such key, or off, because a model of the family {family} has nothing of the kind"
            ))
            .hint("if the key changes nothing in this model, take it out of config.json"));
        }
    }
    Ok(())
}

/// Quantised weights are integers and scales under other names; to read them as numbers would make noise.
fn check_quantised(keys: &Map<String, Value>) -> Result<()> {
    for key in ["quantization_config", "compression_config"] {
        let Some(config) = keys.get(key).filter(|value| !is_off(value)) else {
            continue;
        };
        let bits = ["load_in_4bit", "load_in_8bit"];
        let method = match config["quant_method"].as_str() {
            Some(method) => method,
            None if bits.iter().any(|key| config[*key] == true) => "bitsandbytes",
            None => "a method that it does not name",
        };
        return Err(Error::input(format!(
            "{key}: the weights are quantised with {method}; accepted: weights in f32, f16 or bf16"
        ))
        .hint("take the folder of the model before it was quantised, or a GGUF of it"));
    }
    Ok(())
}

fn is_about_the_arithmetic(key: &str) -> bool {
    let lower = key.to_ascii_lowercase();
    if lower.split('_').any(|word| DROPOUT.contains(&word)) {
        return false;
    }
    lower.split('_').any(|word| {
        let one = word.strip_suffix('s').unwrap_or(word);
        WORDS.contains(&word) || WORDS.contains(&one)
    })
}
