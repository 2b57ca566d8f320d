//! The shape of a model under the names of Hugging Face's config.json, and what of that file is supported.

use std::path::Path;

use serde_json::Value;

use super::family::Family;
use crate::error::{Error, Result};

mod file;
mod keys;
mod rope;
mod variant;
mod write;

pub(super) use keys::is_off;
pub use rope::RopeScaling;
pub use variant::{LayerKind, Variant};

/// What a model says about generation beside config.json; its EOS ids count as config.json's do.
pub(super) const GENERATION: &str = "generation_config.json";

/// Sizes and constants of a model. Field names are config.json's.
#[derive(Clone, Debug, PartialEq)]
pub struct CausalLmConfig {
    /// What kind of layers it has.
    pub family: Family,
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
    /// The longest row, prompt and response together, in tokens (but see [`CausalLmConfig::longest_row`]).
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
    /// What it does beyond its sizes.
    pub variant: Variant,
}

impl CausalLmConfig {
    /// Reads config.json, and of `generation_config.json` beside it the tokens that end a response.
    ///
    /// # Errors
    /// A file that cannot be read, a key that is missing or of the wrong type, a family or a value that is not supported.
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

    /// The longest row that its positions are made for, prompt and response together, in tokens.
    ///
    /// Positions of the kind `longrope` have one set of factors for rows up to the length of the first training and another for
    /// longer ones. transformers chooses by the longest row of a call, so that a row's result depends on its neighbours, and
    /// changes in the middle of a response; here rows are as long as the first set is for.
    pub fn longest_row(&self) -> usize {
        match &self.variant.rope_scaling {
            RopeScaling::LongRope { original, .. } => self.max_position_embeddings.min(*original),
            _ => self.max_position_embeddings,
        }
    }

    /// The key of config.json that says [`CausalLmConfig::longest_row`].
    pub fn longest_row_key(&self) -> &'static str {
        if self.longest_row() < self.max_position_embeddings {
            "original_max_position_embeddings"
        } else {
            "max_position_embeddings"
        }
    }

    /// The text of config.json with the class `task` (`ForCausalLM`, `ForSequenceClassification`), readable by transformers 4
    /// and 5.
    pub fn to_json(&self, task: &str) -> String {
        write::json(self, task)
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
            ("embedding_multiplier", self.variant.embedding_multiplier),
            ("residual_multiplier", self.variant.residual_multiplier),
            ("logits_scaling", self.variant.logits_scaling),
        ] {
            if !(value.is_finite() && value > 0.0) {
                return Err(Error::input(format!(
                    "{key} is {value}; accepted: a number above 0"
                )));
            }
        }
        self.check_counts()?;
        self.variant.validate(self)?;
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

impl CausalLmConfig {
    /// Refuses sizes that no machine holds, before anything is counted or taken by them.
    fn check_counts(&self) -> Result<()> {
        if self.num_hidden_layers > MOST_LAYERS {
            return Err(Error::input(format!(
                "num_hidden_layers is {}; accepted: 1 to {MOST_LAYERS}",
                self.num_hidden_layers
            )));
        }
        let [c, f, v] =
            [self.hidden_size, self.intermediate_size, self.vocab_size].map(|it| it as u128);
        let heads = (self.num_attention_heads + self.num_key_value_heads) as u128;
        let layer = c * (2 * heads * self.head_dim as u128 + 3 * f);
        let all = 2 * v * c + self.num_hidden_layers as u128 * layer;
        if all > MOST_PARAMETERS {
            return Err(Error::input(format!(
                "the sizes make a model of {all} parameters; accepted: up to {MOST_PARAMETERS}"
            ))
            .hint("one of vocab_size, hidden_size, intermediate_size, head_dim and the numbers of heads and layers is wrong"));
        }
        Ok(())
    }
}

/// More than any model has.
pub(super) const MOST_LAYERS: usize = 100_000;
const MOST_PARAMETERS: u128 = 1 << 46;

/// The files that name the tokens which end a response, config.json and what stands beside it, and whom each names. A file that is
/// not there names none.
pub(super) fn named_ends(path: &Path) -> Result<[(&'static str, Vec<u32>); 2]> {
    let text = std::fs::read(path).map_err(|error| Error::io("read", path, &error))?;
    let own = CausalLmConfig::from_json(&text).map_err(|error| error.context(path.display()))?;
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
