//! config.json as it is written, and which of its values a plain LLaMA may have.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::LlamaConfig;
use super::keys::{self, is_off};
use crate::error::{Error, Result};

/// The keys that are read; what is left out has the default of transformers' `LlamaConfig`.
#[derive(Deserialize)]
struct ConfigFile {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    #[serde(default = "default_positions")]
    max_position_embeddings: usize,
    #[serde(default = "default_eps")]
    rms_norm_eps: f64,
    rope_theta: Option<f64>,
    rope_parameters: Option<Map<String, Value>>,
    rope_scaling: Option<Map<String, Value>>,
    #[serde(default)]
    tie_word_embeddings: bool,
    bos_token_id: Option<u32>,
    #[serde(default)]
    eos_token_id: Value,
    hidden_act: Option<String>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
}

fn default_positions() -> usize {
    2048
}

fn default_eps() -> f64 {
    1e-6
}

/// Parses and validates a config.json.
pub(super) fn read(text: &[u8]) -> Result<LlamaConfig> {
    // As in Python, the last of two equal keys counts.
    let keys: Map<String, Value> =
        serde_json::from_slice(text).map_err(|error| Error::input(error.to_string()))?;
    let model_type = &keys.get("model_type").unwrap_or(&Value::Null);
    if *model_type != "llama" {
        return Err(Error::input(format!(
            "model_type is {model_type}; accepted: \"llama\""
        )));
    }
    keys::check(&keys)?;
    // Some writers say null for what they leave out.
    let keys: Map<String, Value> = keys.into_iter().filter(|(_, it)| !it.is_null()).collect();
    let file: ConfigFile =
        serde_path_to_error::deserialize(Value::Object(keys)).map_err(|error| {
            let place = error.path().to_string();
            match place.as_str() {
                "." => Error::input(error.inner().to_string()),
                key => Error::input(format!("{key}: {}", error.inner())),
            }
        })?;
    file.into_config()
}

impl ConfigFile {
    fn into_config(self) -> Result<LlamaConfig> {
        // transformers has two names for it.
        if let Some(activation) = self
            .hidden_act
            .filter(|name| name != "silu" && name != "swish")
        {
            return Err(Error::input(format!(
                "hidden_act is {activation:?}; accepted: \"silu\""
            )));
        }
        for (key, set) in [
            ("attention_bias", self.attention_bias),
            ("mlp_bias", self.mlp_bias),
        ] {
            if set {
                return Err(Error::input(format!("{key} is true; accepted: false")));
            }
        }
        let scaling = rope("rope_scaling", self.rope_scaling.as_ref())?;
        let parameters = rope("rope_parameters", self.rope_parameters.as_ref())?;
        if self.head_dim.is_none()
            && (self.num_attention_heads == 0
                || !self.hidden_size.is_multiple_of(self.num_attention_heads))
        {
            return Err(Error::input(format!(
                "hidden_size is {} and num_attention_heads is {}; accepted: a multiple, or head_dim beside them",
                self.hidden_size, self.num_attention_heads
            )));
        }
        let config = LlamaConfig {
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            num_key_value_heads: self.num_key_value_heads.unwrap_or(self.num_attention_heads),
            head_dim: match self.head_dim {
                Some(size) => size,
                None => self.hidden_size / self.num_attention_heads,
            },
            max_position_embeddings: self.max_position_embeddings,
            rms_norm_eps: self.rms_norm_eps,
            rope_theta: parameters
                .or(scaling)
                .or(self.rope_theta)
                .unwrap_or(10_000.0),
            tie_word_embeddings: self.tie_word_embeddings,
            bos_token_id: self.bos_token_id,
            eos_token_id: eos_ids(&self.eos_token_id)?,
        };
        config.validate()?;
        Ok(config)
    }
}

/// The base of the frequencies that `rope_scaling` (transformers 4) or `rope_parameters` (transformers 5) gives. Only the default
/// kind is supported; `rope_type` and the older `type` may stand side by side.
fn rope(name: &str, keys: Option<&Map<String, Value>>) -> Result<Option<f64>> {
    let Some(keys) = keys else {
        return Ok(None);
    };
    let mut kinds = Vec::new();
    for key in ["rope_type", "type"] {
        match keys.get(key) {
            None | Some(Value::Null) => {}
            Some(Value::String(kind)) => kinds.push(kind),
            Some(other) => {
                return Err(Error::input(format!(
                    "{name}.{key} is {other}; accepted: a text, or null"
                )));
            }
        }
    }
    if let [first, second] = kinds[..]
        && first != second
    {
        return Err(Error::input(format!(
            "{name}.rope_type is {first:?} and {name}.type is {second:?}; accepted: the same"
        )));
    }
    if let Some(kind) = kinds.first().filter(|kind| **kind != "default") {
        return Err(Error::input(format!(
            "{name} is of the type {kind:?}; accepted: null or the type \"default\""
        ))
        .hint("stretched rotary positions are not supported; use a model without rope scaling"));
    }
    for (key, value) in keys {
        let refused = match key.as_str() {
            "rope_theta" | "rope_type" | "type" => false,
            "partial_rotary_factor" => value.as_f64() != Some(1.0) && !is_off(value),
            // The default kind reads none of them; without a kind, nobody can say what they are for.
            key if STRETCH.contains(&key) => kinds.is_empty() && !is_off(value),
            _ => !is_off(value),
        };
        if refused {
            return Err(Error::input(format!(
                "{name}.{key} is {value}; accepted: positions that are not scaled (the type \"default\")"
            )));
        }
    }
    match keys.get("rope_theta") {
        None | Some(Value::Null) => Ok(None),
        Some(theta) => theta.as_f64().map(Some).ok_or_else(|| {
            Error::input(format!("{name}.rope_theta is {theta}; accepted: a number"))
        }),
    }
}

/// What the kinds of stretched positions read.
const STRETCH: [&str; 12] = [
    "factor",
    "original_max_position_embeddings",
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "short_factor",
    "long_factor",
    "low_freq_factor",
    "high_freq_factor",
    "mscale",
    "mscale_all_dim",
    "truncate",
];

/// None, one id or a list of ids.
pub(super) fn eos_ids(value: &Value) -> Result<Vec<u32>> {
    let items = match value {
        Value::Null => &[],
        Value::Array(items) => items.as_slice(),
        single => std::slice::from_ref(single),
    };
    items
        .iter()
        .map(|item| item.as_u64().and_then(|id| u32::try_from(id).ok()))
        .collect::<Option<Vec<u32>>>()
        .ok_or_else(|| {
            Error::input(format!(
                "eos_token_id is {value}; accepted: a token id, a list of token ids, or null"
            ))
        })
}
