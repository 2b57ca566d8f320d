//! How large the sandbox is, how careless its annotators are, and the shape of its model.

use finegrain_rubric::Prompt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::vocabulary::LONGEST_ROW;
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::model::{CausalLmConfig, Family, Variant};

/// The sandbox: prompts, demonstrations and a fresh model. All prompts differ, within a split and between splits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SandboxConfig {
    /// Prompts with a demonstration, for SFT.
    #[schemars(range(min = 1))]
    pub n_demonstrations: usize,
    /// Prompts whose responses are compared and edited for the reward model.
    #[schemars(range(min = 1))]
    pub n_reward_prompts: usize,
    /// Prompts of PPO's rollouts.
    #[schemars(range(min = 1))]
    pub n_ppo_prompts: usize,
    /// Prompts of the evaluation.
    #[schemars(range(min = 1))]
    pub n_eval_prompts: usize,
    /// The probability that an ordinal, adjective, noun or verb of a demonstration is defective, and that its number of
    /// points is.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub defect_rate: f64,
    /// The shape of the fresh model.
    pub model: ModelShape,
}

impl Default for SandboxConfig {
    fn default() -> Self {
        Self {
            n_demonstrations: 2000,
            n_reward_prompts: 4000,
            n_ppo_prompts: 1500,
            n_eval_prompts: 400,
            defect_rate: 0.12,
            model: ModelShape::default(),
        }
    }
}

/// The shape of the sandbox's model, under the names of Hugging Face's config.json.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ModelShape {
    /// Channels of the residual stream; a multiple of `num_attention_heads` by an even number.
    #[schemars(range(min = 2))]
    pub hidden_size: usize,
    /// Channels inside the feed-forward block.
    #[schemars(range(min = 1))]
    pub intermediate_size: usize,
    /// Layers. Two are the least that can compare a word with what was said before.
    #[schemars(range(min = 1))]
    pub num_hidden_layers: usize,
    /// Query heads.
    #[schemars(range(min = 1))]
    pub num_attention_heads: usize,
    /// Key/value heads; `num_attention_heads` is a multiple of it.
    #[schemars(range(min = 1))]
    pub num_key_value_heads: usize,
    /// The longest row in tokens; prompt and response of the sandbox take up to 42.
    #[schemars(range(min = 42))]
    pub max_position_embeddings: usize,
    /// Whether the output head is the embedding table. Where it is, what a word means as the next word is there when it
    /// is read, which a reward model needs.
    pub tie_word_embeddings: bool,
}

impl Default for ModelShape {
    fn default() -> Self {
        Self {
            hidden_size: 96,
            intermediate_size: 192,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            num_key_value_heads: 4,
            max_position_embeddings: 96,
            tie_word_embeddings: true,
        }
    }
}

impl SandboxConfig {
    /// Prompts of all splits together.
    pub fn n_prompts(&self) -> usize {
        [
            self.n_demonstrations,
            self.n_reward_prompts,
            self.n_ppo_prompts,
            self.n_eval_prompts,
        ]
        .into_iter()
        .fold(0, usize::saturating_add)
    }

    /// Refuses counts that are 0 or more than there are prompts, a rate that is no probability, and a shape that is no
    /// model.
    pub fn validate(&self) -> Result<()> {
        for (key, count) in [
            ("n_demonstrations", self.n_demonstrations),
            ("n_reward_prompts", self.n_reward_prompts),
            ("n_ppo_prompts", self.n_ppo_prompts),
            ("n_eval_prompts", self.n_eval_prompts),
        ] {
            if count == 0 {
                return Err(Error::input(format!(
                    "sandbox: {key} is 0; accepted: at least 1"
                )));
            }
        }
        if self.n_prompts() > Prompt::count() {
            return Err(Error::input(format!(
                "sandbox: {} prompts are asked for in all; accepted: at most {}, as many as there are different ones",
                self.n_prompts(),
                Prompt::count()
            ))
            .hint("lower n_demonstrations, n_reward_prompts, n_ppo_prompts or n_eval_prompts"));
        }
        if !(0.0..=1.0).contains(&self.defect_rate) {
            return Err(Error::input(format!(
                "sandbox: defect_rate is {}; accepted: 0 to 1",
                self.defect_rate
            )));
        }
        self.model
            .validate()
            .map_err(|error| error.context("sandbox.model"))
    }
}

impl ModelShape {
    /// The whole configuration of a model of this shape for `tokenizer`.
    pub fn model_config(&self, tokenizer: &Tokenizer) -> CausalLmConfig {
        CausalLmConfig {
            family: Family::Llama,
            vocab_size: tokenizer.vocab_size(),
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            num_key_value_heads: self.num_key_value_heads,
            // Rounds down where the heads do not divide the channels; `validate` refuses that before.
            head_dim: self.hidden_size / self.num_attention_heads.max(1),
            max_position_embeddings: self.max_position_embeddings,
            rms_norm_eps: 1e-5,
            rope_theta: 10_000.0,
            tie_word_embeddings: self.tie_word_embeddings,
            bos_token_id: Some(tokenizer.bos()),
            eos_token_id: vec![tokenizer.eos()],
            variant: Variant::default(),
        }
    }

    /// Refuses a shape that is no model, or too short for the sandbox's rows.
    pub fn validate(&self) -> Result<()> {
        let (channels, heads) = (self.hidden_size, self.num_attention_heads);
        if heads == 0 || !channels.is_multiple_of(heads) {
            return Err(Error::input(format!(
                "hidden_size is {channels} and num_attention_heads is {heads}; accepted: a multiple"
            )));
        }
        if self.max_position_embeddings < LONGEST_ROW {
            return Err(Error::input(format!(
                "max_position_embeddings is {}; accepted: at least {LONGEST_ROW}, the sandbox's longest row",
                self.max_position_embeddings
            )));
        }
        self.model_config(&super::tokenizer()?).validate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut SandboxConfig)) -> String {
        let mut config = SandboxConfig::default();
        change(&mut config);
        let error = config.validate().unwrap_err();
        assert_eq!(error.exit_code(), 2);
        error.to_string()
    }

    #[test]
    fn the_defaults_are_accepted_and_are_what_an_empty_section_means() {
        SandboxConfig::default().validate().unwrap();
        let empty: SandboxConfig = toml::from_str("").unwrap();
        assert_eq!(empty, SandboxConfig::default());
        assert!(toml::from_str::<SandboxConfig>("n_demos = 3").is_err());
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_key() {
        assert!(refused(|config| config.n_ppo_prompts = 0).contains("n_ppo_prompts is 0"));
        assert!(refused(|config| config.n_demonstrations = 10_000).contains("at most 8064"));
        assert!(refused(|config| config.n_demonstrations = usize::MAX).contains("at most"));
        assert!(refused(|config| config.defect_rate = 1.5).contains("defect_rate is 1.5"));
        assert!(refused(|config| config.defect_rate = f64::NAN).contains("defect_rate"));
        let heads = refused(|config| config.model.num_attention_heads = 5);
        assert!(
            heads.starts_with("sandbox.model: hidden_size is 96 and"),
            "{heads}"
        );
        assert!(
            refused(|config| config.model.max_position_embeddings = 41).contains("at least 42")
        );
        assert!(refused(|config| config.model.num_hidden_layers = 0).contains("num_hidden_layers"));
    }
}
