//! How responses are sampled, as a configuration says it; which tokens end a response is the tokenizer's business.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::{Sampling, SamplingWeights};

/// Sampling of responses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SamplingConfig {
    /// Divides the logits; 0 takes the likeliest token. AlpacaFarm: 1 in PPO, 0.7 in evaluation; TRL's PPO: 0.7.
    #[schemars(range(min = 0.0))]
    pub temperature: f64,
    /// Draws among this many likeliest tokens; 0 means all.
    pub top_k: usize,
    /// Draws among the smallest set of likeliest tokens with at least this probability, in (0, 1]. AlpacaFarm's
    /// evaluation: 0.9.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub top_p: f64,
    /// Tokens after which a response is cut, EOS included. AlpacaFarm: 300; TRL's PPO: 53.
    #[schemars(range(min = 1))]
    pub max_new_tokens: usize,
    /// In which format the weights are kept while sampling: `f32`, `bf16` or `q8` (8-bit integers, one f32 scale for 32 inputs
    /// of an output). The last two take less memory and, where memory is what is waited for, less time; they round, so that
    /// what is sampled is not quite the model's distribution. Everything else stays f32. In PPO, `sampling/...` says how far
    /// (docs/metrics.md).
    pub weights: SamplingWeights,
}

impl Default for SamplingConfig {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            max_new_tokens: 64,
            weights: SamplingWeights::F32,
        }
    }
}

impl SamplingConfig {
    /// Refuses values outside their ranges; `section` is where they stand in the configuration.
    pub fn validate(&self, section: &str) -> Result<()> {
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return Err(Error::input(format!(
                "{section}.temperature: {} is not accepted; 0 (the likeliest token) or a finite number above 0 is",
                self.temperature
            )));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(Error::input(format!(
                "{section}.top_p: {} is not accepted; a number above 0 and at most 1 is",
                self.top_p
            )));
        }
        if self.max_new_tokens == 0 {
            return Err(Error::input(format!(
                "{section}.max_new_tokens: 0 is not accepted; at least 1 is"
            )));
        }
        Ok(())
    }

    /// The sampler's settings, with the tokens that end a response.
    pub fn with_eos(&self, eos: &[u32]) -> Sampling {
        Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            max_new_tokens: self.max_new_tokens,
            eos: eos.to_vec(),
            weights: self.weights,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_f32_unless_said_and_survive_the_round_trip() {
        let read = |text: &str| toml::from_str::<SamplingConfig>(text);
        assert_eq!(read("").unwrap().weights, SamplingWeights::F32);
        for weights in ["f32", "bf16", "q8"] {
            let config = read(&format!("weights = \"{weights}\"")).unwrap();
            assert_eq!(config.weights.as_str(), weights);
            assert_eq!(config.with_eos(&[2]).weights, config.weights);
            let text = toml::to_string(&config).unwrap();
            assert_eq!(read(&text).unwrap(), config);
        }
    }

    #[test]
    fn refuses_what_cannot_be_sampled_by_key() {
        let refused = |config: SamplingConfig, words: &str| {
            let error = config.validate("ppo.sampling").unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        };
        let legal = SamplingConfig::default();
        legal.validate("ppo.sampling").unwrap();
        refused(
            SamplingConfig {
                temperature: -1.0,
                ..legal.clone()
            },
            "ppo.sampling.temperature: -1",
        );
        refused(
            SamplingConfig {
                top_p: 0.0,
                ..legal.clone()
            },
            "ppo.sampling.top_p: 0",
        );
        refused(
            SamplingConfig {
                max_new_tokens: 0,
                ..legal
            },
            "ppo.sampling.max_new_tokens: 0",
        );
    }
}
