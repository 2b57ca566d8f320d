//! The shape of a LLaMA model under the names of Hugging Face's config.json, and what of that file is supported.

use std::path::Path;

use serde_json::{Value, json};

use crate::error::{Error, Result};

mod file;
mod keys;

pub(super) use keys::is_off;

/// What a model says about generation beside config.json; its EOS ids count as config.json's do.
pub(super) const GENERATION: &str = "generation_config.json";

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
    /// The tokens that end a response, as config.json and `generation_config.json` name them: each gives none, one or a list.
    pub eos_token_id: Vec<u32>,
}

impl LlamaConfig {
    /// Reads config.json, and of `generation_config.json` beside it the tokens that end a response.
    ///
    /// # Errors
    /// A file that cannot be read, a key that is missing or of the wrong type, a model that is not a plain LLaMA.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).map_err(|error| Error::io("read", path, &error))?;
        let mut config = Self::from_json(&text).map_err(|error| error.context(path.display()))?;
        for id in generation_eos(path)? {
            if !config.eos_token_id.contains(&id) {
                config.eos_token_id.push(id);
            }
        }
        let beside = path.with_file_name(GENERATION);
        config
            .validate()
            .map_err(|error| error.context(beside.display()))?;
        Ok(config)
    }

    /// Parses and validates the text of a config.json.
    pub fn from_json(text: &[u8]) -> Result<Self> {
        file::read(text)
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

/// The files that name the tokens which end a response, config.json and what stands beside it, and whom each names. A file that is
/// not there names none.
pub(super) fn named_ends(path: &Path) -> Result<[(&'static str, Vec<u32>); 2]> {
    let text = std::fs::read(path).map_err(|error| Error::io("read", path, &error))?;
    let own = LlamaConfig::from_json(&text).map_err(|error| error.context(path.display()))?;
    Ok([
        ("config.json", own.eos_token_id),
        (GENERATION, generation_eos(path)?),
    ])
}

/// What `generation_config.json` beside a config.json says about the end of a response.
fn generation_eos(path: &Path) -> Result<Vec<u32>> {
    let path = path.with_file_name(GENERATION);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("read", &path, &error)),
    };
    let refused = |error: Error| error.context(path.display());
    let value: Value =
        serde_json::from_slice(&text).map_err(|error| refused(Error::input(error.to_string())))?;
    file::eos_ids(&value["eos_token_id"]).map_err(refused)
}

#[cfg(test)]
mod tests;
