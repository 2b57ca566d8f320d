//! Rows of a file against the model that they are for, before anything is trained: a row that would end the run when it is drawn,
//! hours later, is set aside at once. Tokenizer and sizes are enough; weights are not read.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::config::{Config, Task};
use crate::data::edit_pairs::{EditPair, EditPairs};
use crate::data::preferences::Preferences;
use crate::data::records::{Demonstration, Pair, PromptRecord, SetAside};
use crate::data::splits::Split;
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::model::CausalLmConfig;
use crate::pipeline::base_model::BaseModel;
use crate::pipeline::encoding::Encoder;

/// A model without its weights, and what the stages do with each split.
pub(super) struct Fit<'c> {
    config: &'c Config,
    tokenizer: Tokenizer,
    sizes: CausalLmConfig,
}

impl<'c> Fit<'c> {
    /// The model that a configuration names.
    ///
    /// # Errors
    /// Files that cannot be read; adapters that the model's family has no place for.
    pub(super) fn of(config: &'c Config) -> Result<Self> {
        let (tokenizer, sizes) = BaseModel::of(config)?.without_weights()?;
        if let Some(lora) = &config.model.lora {
            lora.check_family(sizes.family)
                .map_err(|error| error.context("model"))?;
        }
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
    pub(super) fn edit_pairs(&self, pairs: &mut EditPairs) -> Result<()> {
        for (split, rows) in &mut pairs.splits {
            let view = |pair: &EditPair| Row {
                name: pair.id.clone(),
                prompt: pair.prompt.clone(),
                responses: responses(*split, pair),
            };
            self.sift(*split, rows, view, &mut pairs.set_aside)?;
        }
        Ok(())
    }

    /// The same of preference files. A reference model's output is judged and goes through no model, so it may be of any length.
    ///
    /// # Errors
    /// As [`Fit::edit_pairs`].
    pub(super) fn preferences(&self, read: &mut Preferences) -> Result<()> {
        let set_aside = &mut read.set_aside;
        let imitated = |row: &Demonstration| Row {
            name: format!("demonstrations:{}", row.id),
            prompt: row.prompt.clone(),
            responses: vec![(row.response.clone(), true)],
        };
        self.sift(Split::Sft, &mut read.demonstrations, imitated, set_aside)?;
        for (split, rows) in &mut read.pairs {
            let compared = |pair: &Pair| Row {
                name: format!("preferences:{}", pair.id),
                prompt: pair.prompt.clone(),
                responses: vec![
                    (pair.rejected.clone(), pair.rejected_ended),
                    (pair.chosen.clone(), pair.chosen_ended),
                ],
            };
            self.sift(*split, rows, compared, set_aside)?;
        }
        let sampled_from = |table: &'static str| {
            move |row: &PromptRecord| Row {
                name: format!("{table}:{}", row.id),
                prompt: row.prompt.clone(),
                responses: Vec::new(),
            }
        };
        self.sift(
            Split::Ppo,
            &mut read.prompts,
            sampled_from("prompts"),
            set_aside,
        )?;
        let of_evaluation = sampled_from("evaluation");
        self.sift(Split::Eval, &mut read.evaluation, of_evaluation, set_aside)?;
        let left: HashSet<&str> = read.evaluation.iter().map(|row| &*row.id).collect();
        read.references.retain(|row| left.contains(&*row.id));
        Ok(())
    }

    /// Leaves the rows of a split that the model can take.
    fn sift<T>(
        &self,
        split: Split,
        rows: &mut Vec<T>,
        view: impl Fn(&T) -> Row,
        set_aside: &mut Vec<SetAside>,
    ) -> Result<()> {
        let encoder = Encoder::new(&self.tokenizer, &self.config.prompt_template, &self.sizes);
        let mut first = None;
        let mut kept = Vec::with_capacity(rows.len());
        for row in std::mem::take(rows) {
            let Row {
                name,
                prompt,
                responses,
            } = view(&row);
            let responses: Vec<(&str, bool)> = responses
                .iter()
                .map(|(text, ended)| (&**text, *ended))
                .collect();
            match encoder.refuses(&name, &prompt, &responses, sampled(self.config, split))? {
                None => kept.push(row),
                Some((reason, detail)) => {
                    let row = SetAside::new(name, reason, detail);
                    first.get_or_insert_with(|| row.clone());
                    set_aside.push(row);
                }
            }
        }
        if let (true, Some(row)) = (kept.is_empty(), first) {
            return Err(nothing_left(self.config, split, &row));
        }
        *rows = kept;
        Ok(())
    }
}

/// What is measured of a row.
struct Row {
    /// Its id, with its table in front where several files number their rows each on its own.
    name: String,
    prompt: String,
    /// Responses, and whether EOS ends them.
    responses: Vec<(String, bool)>,
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
fn responses(split: Split, pair: &EditPair) -> Vec<(String, bool)> {
    let (original, edited) = ((pair.original.clone(), true), (pair.edited.clone(), true));
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
        // Checkpoints are judged on these prompts; and pairs are sampled for them, unless a file has them.
        Split::Reward if config.task == Task::Preferences => Some(evaluation),
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
