//! How responses are sampled: the settings of `generate`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sampling_weights::SamplingWeights;
use crate::error::{Error, Result};

/// How responses are sampled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// Divides the logits; 0 takes the likeliest token.
    #[schemars(range(min = 0.0))]
    pub temperature: f64,
    /// Draws among this many likeliest tokens; 0 means all.
    pub top_k: usize,
    /// Draws among the smallest set of likeliest tokens with at least this probability, in (0, 1]; 1 means all.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub top_p: f64,
    /// Tokens after which a response is cut, EOS included.
    pub max_new_tokens: usize,
    /// Token ids that end a response; with none, those of the model's config.json.
    pub eos: Vec<u32>,
    /// In which format the weights are kept while sampling: `f32`, `bf16` or `q8`.
    pub weights: SamplingWeights,
}

impl Default for Sampling {
    /// The model's own distribution, 64 tokens at most.
    fn default() -> Self {
        Self::at_temperature(1.0, 64, Vec::new())
    }
}

impl Sampling {
    /// The likeliest token at every step.
    pub fn greedy(max_new_tokens: usize, eos: Vec<u32>) -> Self {
        Self {
            temperature: 0.0,
            ..Self::at_temperature(1.0, max_new_tokens, eos)
        }
    }

    /// The model's own distribution at a temperature, nothing cut off.
    pub fn at_temperature(temperature: f64, max_new_tokens: usize, eos: Vec<u32>) -> Self {
        Self {
            temperature,
            top_k: 0,
            top_p: 1.0,
            max_new_tokens,
            eos,
            weights: SamplingWeights::F32,
        }
    }

    /// Refuses settings outside their ranges; `key` is where they were set, such as `ppo.sampling`.
    pub fn validate(&self, key: &str) -> Result<()> {
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return Err(Error::input(format!(
                "{key}.temperature is {}; accepted: 0 (the likeliest token) or a number above 0",
                self.temperature
            )));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(Error::input(format!(
                "{key}.top_p is {}; accepted: above 0 and at most 1",
                self.top_p
            )));
        }
        Ok(())
    }

    /// Whether neither `top_k` nor `top_p` leaves out a token of a vocabulary.
    pub(super) fn keeps_all(&self, vocabulary: usize) -> bool {
        self.top_p >= 1.0 && (self.top_k == 0 || self.top_k >= vocabulary)
    }
}
