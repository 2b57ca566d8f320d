//! The paper's own kind of data: demonstrations, preference pairs, PPO prompts and evaluation prompts with a reference model's
//! outputs, each from a file of its own or, where there is none, a share of the pairs.
//!
//! Pairs are split by their prompts, so that no prompt is in two splits. What is set aside has the name of its table in front
//! of its id, because the files number their rows each on its own.

pub mod known;
mod source;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};

use crate::data::config::DataConfig;
use crate::data::layouts::Wanted;
use crate::data::overlap::{self, Named, SharedPrompts};
use crate::data::records::{Demonstration, Pair, PromptRecord, SetAside, SetAsideReason, counted};
use crate::data::splits::{Split, SplitFractions};
use crate::error::{Error, Result};
use source::{Source, TableRow};

/// What the files of a configuration hold, by use.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Preferences {
    /// What SFT imitates.
    pub demonstrations: Vec<Demonstration>,
    /// The pairs of the splits `reward`, `judge` and `held-out`.
    pub pairs: BTreeMap<Split, Vec<Pair>>,
    /// The prompts of PPO.
    pub prompts: Vec<PromptRecord>,
    /// The prompts of the final evaluation.
    pub evaluation: Vec<PromptRecord>,
    /// The reference model's outputs, one for each prompt of the evaluation; none where the file has none.
    pub references: Vec<Demonstration>,
    /// Pairs that fall into no split.
    pub left_over: usize,
    /// Rows that are not used.
    pub set_aside: Vec<SetAside>,
    /// What each file was taken for: a sentence each.
    pub said: Vec<String>,
}

impl Preferences {
    /// The pairs of a split.
    pub fn pairs_of(&self, split: Split) -> &[Pair] {
        self.pairs.get(&split).map_or(&[], Vec::as_slice)
    }

    /// The prompts of the pairs that the reward model is trained on, each once.
    pub fn reward_prompts(&self) -> Vec<PromptRecord> {
        let mut met = HashSet::new();
        let pairs = self.pairs_of(Split::Reward).iter();
        let first = pairs.filter(|pair| met.insert(&*pair.prompt));
        first
            .map(|pair| PromptRecord {
                id: pair.id.clone(),
                prompt: pair.prompt.clone(),
            })
            .collect()
    }

    /// The prompts of each test split that stand in a training split too; files of their own may repeat prompts.
    pub fn shared_prompts(&self) -> Vec<SharedPrompts> {
        let pairs = |split: Split| -> Vec<Named<'_>> {
            let pairs = self.pairs_of(split).iter();
            pairs.map(|pair| (&*pair.id, &*pair.prompt)).collect()
        };
        let mut training = pairs(Split::Reward);
        training.extend(
            self.demonstrations
                .iter()
                .map(|row| (&*row.id, &*row.prompt)),
        );
        training.extend(self.prompts.iter().map(|row| (&*row.id, &*row.prompt)));
        let evaluation = self.evaluation.iter().map(|row| (&*row.id, &*row.prompt));
        let tests = [
            (Split::Eval, evaluation.collect()),
            (Split::HeldOut, pairs(Split::HeldOut)),
            (Split::Judge, pairs(Split::Judge)),
        ];
        overlap::shared(&training, &tests)
    }
}

/// Loads the files of a configuration. `several_turns` says whether prompts may be conversations.
///
/// # Errors
/// A configuration that cannot be used, a file that is not read, rows in no known layout, an id that occurs twice, a split or
/// a file of which no row is left.
pub fn load(config: &DataConfig, several_turns: bool) -> Result<Preferences> {
    config.check_preferences()?;
    let mut loaded = Preferences::default();
    let mut rows_of = |table, file, wanted| {
        let source = Source {
            table,
            file,
            wanted,
            group_field: config
                .group_field
                .as_ref()
                .filter(|_| wanted == Wanted::Pair),
            several_turns,
        };
        source.read_where_there(&mut loaded.said, &mut loaded.set_aside)
    };
    let demonstrations = rows_of("demonstrations", &config.demonstrations, Wanted::Response)?;
    let pairs = rows_of("preferences", &config.preferences, Wanted::Pair)?;
    let prompts = rows_of("prompts", &config.prompts, Wanted::Prompt)?;
    let evaluation = rows_of("evaluation", &config.evaluation, Wanted::Reference)?;
    let own = [&demonstrations, &prompts, &evaluation].map(Option::is_some);
    loaded.share_out(pairs.unwrap_or_default(), &shares(&config.splits, own));
    if let Some(rows) = demonstrations {
        loaded.demonstrations = rows.into_iter().map(TableRow::demonstration).collect();
    }
    if let Some(rows) = prompts {
        loaded.prompts = rows.into_iter().map(TableRow::prompt).collect();
    }
    if let Some(rows) = evaluation {
        loaded.evaluate_on(rows);
    }
    loaded.check()?;
    Ok(loaded)
}

/// The shares of the pairs: those of splits that have a file of their own go to the reward model.
fn shares(named: &SplitFractions, [sft, ppo, eval]: [bool; 3]) -> SplitFractions {
    let mut shares = *named;
    let mut freed = 0.0;
    for (own, share) in [
        (sft, &mut shares.sft),
        (ppo, &mut shares.ppo),
        (eval, &mut shares.eval),
    ] {
        if own {
            freed += std::mem::take(share);
        }
    }
    shares.reward += freed;
    shares
}

impl Preferences {
    /// Gives each pair to the split of its prompt.
    fn share_out(&mut self, rows: Vec<TableRow>, shares: &SplitFractions) {
        // The stages that take prompts, and SFT, have each prompt once, whatever number of pairs it has.
        let mut met = HashSet::new();
        for row in rows {
            let Some(split) = shares.split(&row.group) else {
                self.left_over += 1;
                continue;
            };
            let fresh = met.insert(row.example.prompt.clone());
            match split {
                Split::Reward | Split::Judge | Split::HeldOut => {
                    self.pairs.entry(split).or_default().push(row.pair());
                }
                _ if !fresh => {}
                Split::Sft => self.demonstrations.push(row.demonstration()),
                Split::Ppo => self.prompts.push(row.prompt()),
                Split::Eval => self.evaluation.push(row.prompt()),
            }
        }
    }

    /// Takes the prompts of the evaluation, and the outputs where there are any: rows without one are set aside then.
    fn evaluate_on(&mut self, rows: Vec<TableRow>) {
        let outputs = rows.iter().any(|row| row.example.response.is_some());
        for row in rows {
            if outputs && row.example.response.is_none() {
                let id = format!("evaluation:{}", row.id);
                let why = "no output of the reference model, which other rows have";
                self.set_aside
                    .push(SetAside::new(id, SetAsideReason::MissingField, why));
                continue;
            }
            if outputs {
                self.references.push(row.clone().demonstration());
            }
            self.evaluation.push(row.prompt());
        }
    }

    /// Refuses what leaves a stage without rows.
    ///
    /// # Errors
    /// The first use without rows, with what was set aside.
    pub fn check(&self) -> Result<()> {
        let sizes = [
            (
                self.demonstrations.len(),
                "SFT",
                "data.demonstrations.path or data.splits.sft",
            ),
            (
                self.pairs_of(Split::Reward).len(),
                "the reward model",
                "data.splits.reward",
            ),
            (
                self.pairs_of(Split::HeldOut).len(),
                "the reward model's test",
                "data.splits.held_out",
            ),
            (
                self.prompts.len(),
                "PPO",
                "data.prompts.path or data.splits.ppo",
            ),
            (
                self.evaluation.len(),
                "the evaluation",
                "data.evaluation.path or data.splits.eval",
            ),
        ];
        let Some((_, stage, keys)) = sizes.into_iter().find(|(rows, ..)| *rows == 0) else {
            return Ok(());
        };
        let reasons = counted(&self.set_aside);
        let reasons = if reasons.is_empty() {
            String::new()
        } else {
            format!(" ({reasons})")
        };
        let error = Error::input(format!(
            "no rows are left for {stage}; {} were set aside{reasons}",
            self.set_aside.len()
        ));
        Err(error.hint(match self.set_aside.first() {
            Some(row) => format!("look at {keys}; row {}: {}", row.id, row.detail),
            None => format!("look at {keys}"),
        }))
    }
}
