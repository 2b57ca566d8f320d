//! Rows of a file against the model that they are for, before anything is trained: a row that would end the run when it is drawn,
//! hours later, is set aside at once. Tokenizer and sizes are enough; weights are not read.

use serde_json::{Value, json};

use crate::config::Config;
use crate::data::edit_pairs::{EditPair, EditPairs, Split};
use crate::data::records::SetAside;
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::model::LlamaConfig;
use crate::pipeline::base_model::BaseModel;
use crate::pipeline::encoding::Encoder;

/// A model without its weights, and what the stages do with each split.
pub(super) struct Fit<'c> {
    config: &'c Config,
    tokenizer: Tokenizer,
    sizes: LlamaConfig,
}

impl<'c> Fit<'c> {
    /// The model that a configuration names.
    pub(super) fn of(config: &'c Config) -> Result<Self> {
        let (tokenizer, sizes) = BaseModel::of(config)?.without_weights()?;
        Ok(Self {
            config,
            tokenizer,
            sizes,
        })
    }

    /// What decides which rows fit.
    pub(super) fn key(config: &Config) -> Result<Value> {
        let room: Vec<_> = Split::ALL
            .iter()
            .map(|split| sampled(config, *split).map(|(tokens, _)| tokens))
            .collect();
        Ok(json!({
            "model": BaseModel::of(config)?.fingerprint()?,
            "template": config.prompt_template,
            "room": room,
        }))
    }

    /// Moves the pairs that the model cannot take from their splits to those set aside.
    ///
    /// # Errors
    /// A split of which nothing is left; a prompt that the template refuses.
    pub(super) fn apply(&self, pairs: &mut EditPairs) -> Result<()> {
        let encoder = Encoder::new(&self.tokenizer, &self.config.prompt_template, &self.sizes);
        for (split, rows) in &mut pairs.splits {
            let mut first = None;
            let mut kept = Vec::with_capacity(rows.len());
            for pair in std::mem::take(rows) {
                let refused = encoder.refuses(
                    &pair.id,
                    &pair.prompt,
                    &responses(*split, &pair),
                    sampled(self.config, *split),
                )?;
                match refused {
                    None => kept.push(pair),
                    Some((reason, detail)) => {
                        let row = SetAside::new(pair.id, reason, detail);
                        first.get_or_insert_with(|| row.clone());
                        pairs.set_aside.push(row);
                    }
                }
            }
            if let (true, Some(row)) = (kept.is_empty(), first) {
                return Err(nothing_left(self.config, *split, &row));
            }
            *rows = kept;
        }
        Ok(())
    }
}

fn nothing_left(config: &Config, split: Split, row: &SetAside) -> Error {
    let room = match sampled(config, split) {
        Some((_, key)) => format!("lower {key}, "),
        None => String::new(),
    };
    Error::input(format!(
        "the model can take no row of the split {split}; row {:?}: {}",
        row.id, row.detail
    ))
    .hint(format!(
        "{room}shorten the rows, give the split a larger share in data.splits, or name a model with a longer context in \
         model.path"
    ))
}

/// The responses of the data that a split is used with.
fn responses(split: Split, pair: &EditPair) -> Vec<(&str, bool)> {
    let (original, edited) = ((&*pair.original, true), (&*pair.edited, true));
    match split {
        Split::Sft => vec![original],
        Split::Reward | Split::HeldOut | Split::Judge => vec![original, edited],
        Split::Ppo | Split::Eval => Vec::new(),
    }
}

/// The most new tokens that are sampled behind the prompts of a split, and the key that asks for them.
fn sampled(config: &Config, split: Split) -> Option<(usize, &'static str)> {
    let evaluation = (
        config.evaluation.sampling.max_new_tokens,
        "evaluation.sampling.max_new_tokens",
    );
    match split {
        // Pairs are sampled for these prompts, and checkpoints are judged on them.
        Split::Reward => {
            let pairs = config.pairs.sampling.max_new_tokens;
            Some(evaluation.max((pairs, "pairs.sampling.max_new_tokens")))
        }
        Split::Ppo => Some((
            config.ppo.sampling.max_new_tokens,
            "ppo.sampling.max_new_tokens",
        )),
        Split::Eval => Some(evaluation),
        Split::Sft | Split::HeldOut | Split::Judge => None,
    }
}

#[cfg(test)]
mod tests;
