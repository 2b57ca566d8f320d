//! The shape of a LLaMA model under the names of Hugging Face's config.json, and what of that file is supported.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::{Error, Result};

/// Sizes and constants of a LLaMA model. Field names are config.json's.
#[derive(Clone, Debug, PartialEq)]
pub struct LlamaConfig {
    /// V: tokens of the vocabulary.
    pub vocab_size: usize,
    /// C: channels of the residual stream.
    pub hidden_size: usize,
    /// F: channels inside the feed-forward block.
    pub intermediate_size: usize,
    /// L: layers.
    pub num_hidden_layers: usize,
    /// H: query heads; a multiple of K.
    pub num_attention_heads: usize,
    /// K: key/value heads.
    pub num_key_value_heads: usize,
    /// D: channels of a head, even because rotary embeddings turn pairs.
    pub head_dim: usize,
    /// The longest row, prompt and response together, in tokens.
    pub max_position_embeddings: usize,
    /// ε of the RMS norms, above 0.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies, above 0.
    pub rope_theta: f64,
    /// Whether the output head is the embedding table.
    pub tie_word_embeddings: bool,
    /// The token that starts a row.
    pub bos_token_id: Option<u32>,
    /// The tokens that end a response; config.json gives none, one or a list.
    pub eos_token_id: Vec<u32>,
}

/// config.json as it is written; what is left out has the default of transformers' `LlamaConfig`.
#[derive(Deserialize)]
struct ConfigFile {
    model_type: String,
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
    rope_parameters: Option<RopeFile>,
    rope_scaling: Option<RopeFile>,
    #[serde(default)]
    tie_word_embeddings: bool,
    bos_token_id: Option<u32>,
    eos_token_id: Option<Value>,
    hidden_act: Option<String>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
}

/// `rope_scaling` (transformers 4) and `rope_parameters` (transformers 5), of which only the default kind is supported.
#[derive(Deserialize)]
struct RopeFile {
    rope_theta: Option<f64>,
    #[serde(alias = "type")]
    rope_type: Option<String>,
}

fn default_positions() -> usize {
    2048
}

fn default_eps() -> f64 {
    1e-6
}

impl LlamaConfig {
    /// Reads config.json.
    ///
    /// # Errors
    /// A file that cannot be read, a key that is missing or of the wrong type, a model that is not a plain LLaMA.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).map_err(|error| Error::io("read", path, &error))?;
        Self::from_json(&text).map_err(|error| error.context(path.display()))
    }

    /// Parses and validates the text of a config.json.
    pub fn from_json(text: &[u8]) -> Result<Self> {
        let mut json = serde_json::Deserializer::from_slice(text);
        let file: ConfigFile = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let place = error.path().to_string();
            match place.as_str() {
                "." => Error::input(error.inner().to_string()),
                key => Error::input(format!("{key}: {}", error.inner())),
            }
        })?;
        file.into_config()
    }

    /// The text of config.json with `architecture` (such as `LlamaForCausalLM`), readable by transformers 4 and 5.
    pub fn to_json(&self, architecture: &str) -> String {
        let eos = match self.eos_token_id.as_slice() {
            [] => Value::Null,
            [one] => json!(one),
            many => json!(many),
        };
        let mut value = json!({
            "architectures": [architecture],
            "model_type": "llama",
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "max_position_embeddings": self.max_position_embeddings,
            "rms_norm_eps": self.rms_norm_eps,
            // transformers 4 reads the first, transformers 5 the second.
            "rope_theta": self.rope_theta,
            "rope_parameters": { "rope_theta": self.rope_theta, "rope_type": "default" },
            "tie_word_embeddings": self.tie_word_embeddings,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": eos,
            "hidden_act": "silu",
            "attention_bias": false,
            "mlp_bias": false,
            "torch_dtype": "float32",
        });
        if architecture.ends_with("ForSequenceClassification") {
            // transformers derives the number of labels from the names of the labels.
            value["id2label"] = json!({ "0": "score" });
            value["label2id"] = json!({ "score": 0 });
        }
        format!("{value:#}\n")
    }

    /// Checks that the sizes fit together; the first that does not is named with what is accepted.
    pub fn validate(&self) -> Result<()> {
        for (key, size) in [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("head_dim", self.head_dim),
            ("max_position_embeddings", self.max_position_embeddings),
        ] {
            // Ids and positions are u32 in a batch.
            if size == 0 || u32::try_from(size).is_err() {
                let most = u32::MAX;
                return Err(Error::input(format!(
                    "{key} is {size}; accepted: 1 to {most}"
                )));
            }
        }
        if !self
            .num_attention_heads
            .is_multiple_of(self.num_key_value_heads)
        {
            return Err(Error::input(format!(
                "num_attention_heads is {} and num_key_value_heads is {}; accepted: a multiple",
                self.num_attention_heads, self.num_key_value_heads
            )));
        }
        if !self.head_dim.is_multiple_of(2) {
            let found = self.head_dim;
            return Err(Error::input(format!(
                "head_dim is {found}; accepted: an even number, because rotary embeddings turn pairs of channels"
            )));
        }
        for (key, value) in [
            ("rms_norm_eps", self.rms_norm_eps),
            ("rope_theta", self.rope_theta),
        ] {
            if !(value.is_finite() && value > 0.0) {
                return Err(Error::input(format!(
                    "{key} is {value}; accepted: a number above 0"
                )));
            }
        }
        let named = self.bos_token_id.iter().map(|id| ("bos_token_id", *id));
        let named = named.chain(self.eos_token_id.iter().map(|id| ("eos_token_id", *id)));
        for (key, id) in named {
            if id as usize >= self.vocab_size {
                return Err(Error::input(format!(
                    "{key} is {id}; accepted: below vocab_size, which is {}",
                    self.vocab_size
                )));
            }
        }
        Ok(())
    }
}

impl ConfigFile {
    fn into_config(self) -> Result<LlamaConfig> {
        if self.model_type != "llama" {
            return Err(Error::input(format!(
                "model_type is {:?}; accepted: \"llama\"",
                self.model_type
            )));
        }
        if let Some(activation) = self.hidden_act.filter(|name| name != "silu") {
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
        for (key, rope) in [
            ("rope_scaling", &self.rope_scaling),
            ("rope_parameters", &self.rope_parameters),
        ] {
            let kind = rope.as_ref().and_then(|rope| rope.rope_type.as_deref());
            if let Some(kind) = kind.filter(|kind| *kind != "default") {
                return Err(Error::input(format!(
                    "{key} is of the type {kind:?}; accepted: null or the type \"default\""
                ))
                .hint("stretched rotary positions are not supported; use a model without rope scaling"));
            }
        }
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
            rope_theta: self
                .rope_parameters
                .and_then(|rope| rope.rope_theta)
                .or(self.rope_theta)
                .unwrap_or(10_000.0),
            tie_word_embeddings: self.tie_word_embeddings,
            bos_token_id: self.bos_token_id,
            eos_token_id: eos_ids(self.eos_token_id)?,
        };
        config.validate()?;
        Ok(config)
    }
}

/// None, one id or a list of ids.
fn eos_ids(value: Option<Value>) -> Result<Vec<u32>> {
    let Some(value) = value else {
        return Ok(Vec::new());
    };
    let items = match &value {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn minimal() -> Value {
        json!({
            "model_type": "llama", "vocab_size": 32, "hidden_size": 16, "intermediate_size": 24,
            "num_hidden_layers": 2, "num_attention_heads": 4, "unknown_key": {"nested": true}
        })
    }

    fn parse(change: impl FnOnce(&mut Value)) -> Result<LlamaConfig> {
        let mut value = minimal();
        change(&mut value);
        LlamaConfig::from_json(value.to_string().as_bytes())
    }

    #[test]
    fn what_is_left_out_has_the_default_of_transformers() -> Result<()> {
        let config = parse(|_| {})?;
        assert_eq!((config.num_key_value_heads, config.head_dim), (4, 4));
        assert_eq!((config.rms_norm_eps, config.rope_theta), (1e-6, 10_000.0));
        assert_eq!(config.max_position_embeddings, 2048);
        assert!(!config.tie_word_embeddings && config.eos_token_id.is_empty());
        Ok(())
    }

    #[test]
    fn the_end_of_a_response_is_none_one_or_a_list() -> Result<()> {
        assert_eq!(parse(|v| v["eos_token_id"] = json!(2))?.eos_token_id, [2]);
        assert_eq!(
            parse(|v| v["eos_token_id"] = json!([2, 7]))?.eos_token_id,
            [2, 7]
        );
        assert!(
            parse(|v| v["eos_token_id"] = Value::Null)?
                .eos_token_id
                .is_empty()
        );
        Ok(())
    }

    #[test]
    fn the_newer_nested_rope_parameters_are_read() -> Result<()> {
        let nested = json!({"rope_theta": 500_000.0, "rope_type": "default"});
        assert_eq!(
            parse(|v| v["rope_parameters"] = nested)?.rope_theta,
            500_000.0
        );
        Ok(())
    }

    #[test]
    fn what_is_written_is_read_back() -> Result<()> {
        let config = LlamaConfig {
            eos_token_id: vec![2, 3],
            bos_token_id: Some(1),
            num_key_value_heads: 2,
            rope_theta: 5e5,
            head_dim: 6,
            ..parse(|_| {})?
        };
        for architecture in ["LlamaForCausalLM", "LlamaForSequenceClassification"] {
            let text = config.to_json(architecture);
            assert_eq!(LlamaConfig::from_json(text.as_bytes())?, config);
        }
        Ok(())
    }

    #[test]
    fn an_error_names_the_key_what_was_found_and_what_is_accepted() {
        type Change = fn(&mut Value);
        let cases: [(Change, &str); 11] = [
            (
                |v| drop(v.as_object_mut().expect("an object").remove("hidden_size")),
                "missing field `hidden_size`",
            ),
            (
                |v| v["vocab_size"] = json!("many"),
                "vocab_size: invalid type: string \"many\"",
            ),
            (
                |v| v["model_type"] = json!("gpt2"),
                "model_type is \"gpt2\"; accepted: \"llama\"",
            ),
            (
                |v| v["num_key_value_heads"] = json!(3),
                "num_key_value_heads is 3",
            ),
            (|v| v["hidden_size"] = json!(18), "hidden_size is 18"),
            (|v| v["head_dim"] = json!(3), "head_dim is 3"),
            (
                |v| v["num_attention_heads"] = json!(0),
                "num_attention_heads is 0",
            ),
            (
                |v| v["rope_scaling"] = json!({"rope_type": "llama3", "factor": 8.0}),
                "\"llama3\"",
            ),
            (
                |v| v["rope_scaling"] = json!({"type": "linear", "factor": 2.0}),
                "\"linear\"",
            ),
            (
                |v| v["eos_token_id"] = json!(32),
                "below vocab_size, which is 32",
            ),
            (
                |v| v["attention_bias"] = json!(true),
                "attention_bias is true",
            ),
        ];
        for (change, expected) in cases {
            let error = parse(change).expect_err(expected);
            assert_eq!(error.exit_code(), 2, "{error}");
            assert!(
                error.to_string().contains(expected),
                "{error} does not say {expected}"
            );
        }
    }
}
