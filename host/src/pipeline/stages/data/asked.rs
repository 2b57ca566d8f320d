//! The rows that later stages would ask editors and judges about, read or made without writing anything.

use finegrain_sdk::rng::Stream;

use super::{edit_pairs, preferences};
use crate::config::{Config, Task};
use crate::data::edit_pairs::EditPair;
use crate::data::records::{Pair, PromptRecord};
use crate::data::splits::Split;
use crate::error::Result;
use crate::sandbox;

/// What a data stage gives to those who ask.
#[derive(Clone, Debug, Default)]
pub struct AskedRows {
    /// The prompts of the reward stage.
    pub reward_prompts: Vec<PromptRecord>,
    /// The prompts of the final evaluation.
    pub eval_prompts: Vec<PromptRecord>,
    /// The outputs that policies are compared with, one for each of these prompts; none where they are the SFT model's.
    pub references: Vec<String>,
    /// The pairs whose rejected responses are edited: to train on, and held out. None where they are sampled.
    pub pairs: [Vec<Pair>; 2],
}

impl AskedRows {
    /// The rows of a configuration.
    ///
    /// # Errors
    /// Those of the data stage.
    pub fn of(config: &Config) -> Result<Self> {
        Ok(match config.task {
            Task::Sandbox => {
                // The stream of the data stage.
                let stream = Stream::new(config.seed).child("data");
                let corpus = sandbox::generate(&config.sandbox, &stream)?;
                Self {
                    reward_prompts: corpus.reward_prompts,
                    eval_prompts: corpus.eval_prompts,
                    ..Self::default()
                }
            }
            Task::EditPairs => {
                let pairs = edit_pairs::usable(config, config.files()?)?;
                let prompts = |split| pairs.of(split).iter().map(prompt).collect();
                Self {
                    reward_prompts: prompts(Split::Reward),
                    eval_prompts: prompts(Split::Eval),
                    ..Self::default()
                }
            }
            Task::Preferences => {
                let read = preferences::usable(config, config.files()?)?;
                Self {
                    pairs: [Split::Reward, Split::HeldOut]
                        .map(|split| read.pairs_of(split).to_vec()),
                    reward_prompts: read.reward_prompts(),
                    eval_prompts: read.evaluation,
                    references: read
                        .references
                        .into_iter()
                        .map(|row| row.response)
                        .collect(),
                }
            }
        })
    }
}

fn prompt(pair: &EditPair) -> PromptRecord {
    PromptRecord {
        id: pair.id.clone(),
        prompt: pair.prompt.clone(),
    }
}
