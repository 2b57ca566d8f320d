//! config.json as it is written.

use serde_json::{Map, Value, json};

use super::CausalLmConfig;
use crate::model::family::{Biases, Family};
use crate::ops::gated::Activation;

/// The text of config.json with the class `task` (`ForCausalLM`, `ForSequenceClassification`), readable by transformers 4 and 5.
pub(super) fn json(of: &CausalLmConfig, task: &str) -> String {
    let architecture = of.family.architecture();
    let eos = match of.eos_token_id.as_slice() {
        [] => Value::Null,
        [one] => json!(one),
        many => json!(many),
    };
    // transformers calls Gemma 3's classifier of texts otherwise than its language model.
    let class = match (of.family, task) {
        (Family::Gemma3, "ForSequenceClassification") => "Gemma3Text",
        _ => architecture.class,
    };
    let mut keys = json!({
        "architectures": [format!("{class}{task}")],
        "model_type": architecture.model_type,
        "vocab_size": of.vocab_size,
        "hidden_size": of.hidden_size,
        "intermediate_size": of.intermediate_size,
        "num_hidden_layers": of.num_hidden_layers,
        "num_attention_heads": of.num_attention_heads,
        "num_key_value_heads": of.num_key_value_heads,
        "head_dim": of.head_dim,
        "max_position_embeddings": of.max_position_embeddings,
        "rms_norm_eps": of.rms_norm_eps,
        "tie_word_embeddings": of.tie_word_embeddings,
        "bos_token_id": of.bos_token_id,
        "eos_token_id": eos,
        "torch_dtype": "float32",
    });
    let more = positions(of)
        .into_iter()
        .chain(layers(of))
        .chain(numbers(of))
        .chain(maps(of))
        .chain(pad(of));
    if let Value::Object(keys) = &mut keys {
        keys.extend(more.map(|(key, value)| (key.to_owned(), value)));
    }
    if task == "ForSequenceClassification" {
        // transformers derives the number of labels from the names of the labels.
        keys["id2label"] = json!({ "0": "score" });
        keys["label2id"] = json!({ "score": 0 });
    }
    format!("{keys:#}\n")
}

type Keys = Vec<(&'static str, Value)>;

/// Rotary positions: transformers 4 reads `rope_theta` and `rope_scaling`, transformers 5 `rope_parameters`, unless there is a
/// `rope_scaling`.
fn positions(of: &CausalLmConfig) -> Keys {
    let scaling = of.variant.rope_scaling.keys(of.max_position_embeddings);
    let with_theta = |scaling: Option<Value>, theta: f64| {
        let mut keys = match scaling {
            Some(Value::Object(keys)) => keys,
            _ => Map::from_iter([("rope_type".to_owned(), json!("default"))]),
        };
        keys.insert("rope_theta".to_owned(), json!(theta));
        Value::Object(keys)
    };
    let mut keys = vec![("rope_theta", json!(of.rope_theta))];
    if of.family == Family::Gemma3 {
        let local = of.variant.rope_local_base_freq.unwrap_or(of.rope_theta);
        keys.push(("rope_local_base_freq", json!(local)));
        keys.push((
            "rope_parameters",
            json!({
                "full_attention": with_theta(scaling.clone(), of.rope_theta),
                "sliding_attention": with_theta(None, local),
            }),
        ));
        keys.extend(scaling.map(|scaling| ("rope_scaling", scaling)));
        return keys;
    }
    match scaling {
        // It goes before `rope_parameters`, and has no base there.
        Some(scaling) => keys.push(("rope_scaling", scaling)),
        None => keys.push(("rope_parameters", with_theta(None, of.rope_theta))),
    }
    if let super::RopeScaling::LongRope { original, .. } = of.variant.rope_scaling {
        keys.push(("original_max_position_embeddings", json!(original)));
    }
    keys
}

/// What differs from layer to layer.
fn layers(of: &CausalLmConfig) -> Keys {
    let reads = |key: &str| of.family.architecture().keys.contains(&key);
    let variant = &of.variant;
    let slides = variant.layers.iter().any(|layer| layer.sliding);
    let mut keys = Vec::new();
    if reads("sliding_window") {
        keys.push(("sliding_window", json!(variant.sliding_window)));
    }
    if reads("use_sliding_window") {
        keys.push(("use_sliding_window", json!(slides)));
    }
    let all = || (0..of.num_hidden_layers).map(|index| variant.layer(index));
    // Mistral has the window in all layers or in none, and no such key.
    if reads("layer_types") && of.family != Family::Mistral {
        let kinds = all().map(|layer| {
            if layer.sliding {
                "sliding_attention"
            } else {
                "full_attention"
            }
        });
        keys.push(("layer_types", kinds.collect()));
    }
    if reads("no_rope_layers") {
        // 1 says that the layer does rotate.
        let rotates = all().map(|layer| u8::from(layer.rotates));
        keys.push(("no_rope_layers", rotates.collect()));
    }
    keys
}

/// Multipliers and caps.
fn numbers(of: &CausalLmConfig) -> Keys {
    let variant = &of.variant;
    let scale = variant.score_scale(of.head_dim);
    let all = [
        (
            "query_pre_attn_scalar",
            whole(variant.query_pre_attn_scalar.unwrap_or(of.head_dim as f64)),
        ),
        (
            "attn_logit_softcapping",
            json!(variant.attn_logit_softcapping),
        ),
        (
            "final_logit_softcapping",
            json!(variant.final_logit_softcapping),
        ),
        ("attention_multiplier", json!(scale)),
        ("embedding_multiplier", json!(variant.embedding_multiplier)),
        ("residual_multiplier", json!(variant.residual_multiplier)),
        ("logits_scaling", json!(variant.logits_scaling)),
    ];
    let read = of.family.architecture().keys;
    let all = all.into_iter();
    all.filter(|(key, _)| read.contains(key)).collect()
}

/// A number as an integer where it is one: transformers 5 takes no other for what it declares as such.
fn whole(number: f64) -> Value {
    let rounded = number as u64;
    if rounded as f64 == number {
        json!(rounded)
    } else {
        json!(number)
    }
}

/// Activation and biases.
fn maps(of: &CausalLmConfig) -> Keys {
    let architecture = of.family.architecture();
    let mut keys = match architecture.activation {
        Activation::Silu => vec![("hidden_act", json!("silu"))],
        Activation::GeluTanh => vec![("hidden_activation", json!("gelu_pytorch_tanh"))],
    };
    if matches!(
        architecture.biases,
        Biases::Asked | Biases::AskedOfAttention
    ) {
        keys.push(("attention_bias", json!(of.variant.attention_bias)));
    }
    if architecture.biases == Biases::Asked {
        keys.push(("mlp_bias", json!(of.variant.mlp_bias)));
    }
    keys
}

/// Some families' configurations in transformers name a padding token that a smaller vocabulary does not have, and refuse it then.
fn pad(of: &CausalLmConfig) -> Keys {
    if of.family == Family::Llama {
        return Vec::new();
    }
    vec![("pad_token_id", Value::Null)]
}
