//! What is asked: a configuration, a model's sizes, a machine, and what is known of rows and plugins.

use super::activations::Passes;
use super::machine::Machine;
use super::rows::{Limits, Row};
use super::sizes::Sizes;
use crate::config::{Config, Task};
use crate::data::records::PairSource;
use crate::error::{Error, Result};
use crate::model::CausalLmConfig;
use crate::sandbox::{LONGEST_PROMPT, LONGEST_RESPONSE, tokenizer};

/// What plugins ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Whether the advantage estimator needs a critic.
    pub critic: bool,
    /// Whether each reward scheme of the configuration needs a reward model.
    pub reward_models: Vec<bool>,
}

/// A run that is planned.
#[derive(Clone, Debug)]
pub struct Question {
    /// What is run.
    pub config: Config,
    /// The sizes of the model that SFT starts from.
    pub model: CausalLmConfig,
    /// What plugins ask for.
    pub needs: Needs,
    /// Where it is run.
    pub machine: Machine,
    /// The longest rows of the data, where they are known.
    pub limits: Limits,
}

/// No figure of a plan may come near this many bytes: sums of them fit u64.
const BEYOND: f64 = 1e17;

impl Question {
    /// A question whose limits, where nothing is said of them, are those of the task: the sandbox's rows are bounded by its
    /// language; those of files by the model alone.
    ///
    /// # Errors
    /// A prompt template that the sandbox's tokenizer cannot encode; adapters that the model's family has no place for.
    pub fn new(
        config: Config,
        model: CausalLmConfig,
        needs: Needs,
        machine: Machine,
        given: Limits,
    ) -> Result<Self> {
        if let Some(lora) = &config.model.lora {
            lora.check_family(model.family)
                .map_err(|error| error.context("model"))?;
        }
        let known = match (config.task, &config.model.path) {
            (Task::Sandbox, None) => sandbox_limits(&config)?,
            _ => Limits::default(),
        };
        Ok(Self {
            config,
            model,
            needs,
            machine,
            limits: Limits {
                prompt: given.prompt.or(known.prompt),
                response: given.response.or(known.response),
            },
        })
    }

    pub(super) fn sizes(&self) -> Sizes {
        Sizes::new(&self.model, self.config.model.lora.as_ref())
    }

    pub(super) fn passes<'a>(&'a self, sizes: &'a Sizes) -> Passes<'a> {
        Passes {
            sizes,
            machine: &self.machine,
            recompute: self.config.model.recompute,
        }
    }

    fn positions(&self) -> u64 {
        self.model.longest_row() as u64
    }

    /// The longest row out of the data.
    pub(super) fn data_row(&self) -> Row {
        self.limits.of_data(self.positions())
    }

    /// The longest row that is sampled with so many new tokens.
    pub(super) fn sampled_row(&self, new: usize) -> Row {
        self.limits.of_samples(new as u64, self.positions())
    }

    /// The longest row of a reward model's training.
    pub(super) fn preference_row(&self) -> Row {
        let sampled = self.sampled_row(self.config.pairs.sampling.max_new_tokens);
        match (self.config.preferences, self.config.task) {
            (_, Task::Preferences) | (PairSource::Edits, Task::EditPairs) => self.data_row(),
            (PairSource::Pairs, Task::Sandbox | Task::EditPairs) => sampled,
            // An edited sample: as long as the sample, or as long as the language allows.
            (PairSource::Edits, Task::Sandbox) => {
                let data = self.data_row();
                let longer = data.response.max(sampled.response);
                self.limits.of_samples(longer, self.positions())
            }
        }
    }

    /// Refuses what no machine holds, so that no sum overflows.
    ///
    /// # Errors
    /// Rows, tokens or sizes that are too many.
    pub(super) fn check_sizes(&self) -> Result<()> {
        let sizes = self.sizes();
        let config = &self.config;
        let rows = [
            config.sft.batch_rows,
            2 * config.reward_model.batch_pairs.min(usize::MAX / 2),
            config.ppo.rollout_rows,
            config.sft.micro_batch_tokens,
            config.reward_model.micro_batch_tokens,
            config.ppo.micro_batch_tokens,
        ];
        let rows = rows.into_iter().max().unwrap_or(1) as f64;
        let widest = [
            sizes.query_width,
            sizes.key_value_width,
            sizes.channels,
            sizes.feed_forward,
            sizes.ranks(),
        ];
        let widest: f64 = widest.iter().map(|&width| width as f64).sum();
        let of_token = 16.0 * sizes.layers as f64 * widest + sizes.vocabulary as f64;
        let models = 8.0 + self.needs.reward_models.len() as f64;
        let of_model = sizes.layers as f64 * sizes.channels as f64 * 8.0 * widest
            + 2.0 * sizes.vocabulary as f64 * sizes.channels as f64;
        let bytes = rows * self.positions() as f64 * of_token * 8.0 + models * 18.0 * of_model;
        if bytes < BEYOND {
            return Ok(());
        }
        Err(Error::input(format!(
            "up to {rows:.0} rows or tokens at once of a model with {of_model:.1e} values are beyond any machine"
        ))
        .hint("look at sft.batch_rows, reward_model.batch_pairs, ppo.rollout_rows and the model's config.json"))
    }
}

/// What the sandbox's language and the template allow.
fn sandbox_limits(config: &Config) -> Result<Limits> {
    // BOS, the word, and what the template adds.
    let around = config.prompt_template.encode(&tokenizer()?, "x")?.len();
    Ok(Limits {
        prompt: Some((LONGEST_PROMPT + around - 2) as u64),
        response: Some(LONGEST_RESPONSE as u64),
    })
}
