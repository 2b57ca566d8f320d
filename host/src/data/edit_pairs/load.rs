//! Reads edit pairs, sets aside what cannot be one, and splits the rest.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde_json::Value;

use crate::data::config::{DataConfig, FileConfig, WhichEdits};
use crate::data::fields::turns_left_out;
use crate::data::layouts::{self, Layout, Reader, Wanted, cut_prompt};
use crate::data::overlap::{self, Named, SharedPrompts};
use crate::data::records::{Pair, PairSource, SetAside, SetAsideReason, counted};
use crate::data::rows::Rows;
use crate::data::splits::Split;
use crate::error::{Context as _, Error, Result};

/// A response and its edit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EditPair {
    /// The row's id; with `#` and a number where a row has several edits and all are used.
    pub id: String,
    /// The prompt.
    pub prompt: String,
    /// The response before the edit.
    pub original: String,
    /// The response after it.
    pub edited: String,
}

impl EditPair {
    /// The preference that the edit expresses.
    pub fn pair(&self) -> Pair {
        Pair {
            id: self.id.clone(),
            prompt: self.prompt.clone(),
            chosen: self.edited.clone(),
            rejected: self.original.clone(),
            chosen_ended: true,
            rejected_ended: true,
            flipped: false,
            source: PairSource::Edits,
            sampled: None,
        }
    }
}

/// Edit pairs by split, and the rows that are not used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EditPairs {
    /// The pairs of each split, in the order of the file; a split without pairs is absent.
    pub splits: BTreeMap<Split, Vec<EditPair>>,
    /// Pairs whose id falls into no split.
    pub left_over: usize,
    /// Rows that make no pair.
    pub set_aside: Vec<SetAside>,
    /// How rows were laid out, where the fields do not say it.
    pub layout: Option<Layout>,
}

impl EditPairs {
    /// The pairs of a split.
    pub fn of(&self, split: Split) -> &[EditPair] {
        self.splits.get(&split).map_or(&[], Vec::as_slice)
    }

    /// The prompts of each test split that stand in a training split too.
    pub fn shared_prompts(&self) -> Vec<SharedPrompts> {
        let named = |split: Split| -> Vec<Named<'_>> {
            self.of(split)
                .iter()
                .map(|pair| (&*pair.id, &*pair.prompt))
                .collect()
        };
        let training: Vec<Named<'_>> = Split::TRAINING.into_iter().flat_map(named).collect();
        let tests = Split::TESTING.map(|split| (split, named(split)));
        overlap::shared(&training, &tests)
    }
}

/// Loads the edit pairs of a file or a folder; a relative path is meant from `base`. `several_turns` says whether prompts may be
/// conversations.
///
/// # Errors
/// A configuration that cannot be used, a file that is not read, rows in no known layout, an id that occurs twice, a file in
/// which no row makes a pair.
pub fn load(config: &DataConfig, base: &Path, several_turns: bool) -> Result<EditPairs> {
    config.check_edit_pairs().context("edit pairs")?;
    let path = base.join(&config.path);
    let rows = Rows::read(&path, config.max_rows)?;
    let mut pairs = EditPairs::default();
    let fields = FileConfig {
        max_words: config.max_words,
        ..FileConfig::default()
    };
    let mut reader = None;
    if !config.edits_are_fields() {
        let layout = layouts::of_rows(config.layout, &rows, Wanted::Pair)?;
        pairs.layout = Some(layout);
        reader = Some(Reader {
            fields: &fields,
            layout,
            wanted: Wanted::Pair,
            several_turns,
        });
    }
    let mut places_by_id: HashMap<String, String> = HashMap::new();
    for row in &rows.rows {
        let id = rows.named(row, config.id_field.as_ref(), &mut places_by_id)?;
        match config.read(&id, &row.values, reader.as_ref()) {
            Ok((group, found)) => {
                let split = config.splits.split(&group);
                for edit in found {
                    match (edit, split) {
                        (Err(set_aside), _) => pairs.set_aside.push(set_aside),
                        (Ok(pair), Some(split)) => {
                            pairs.splits.entry(split).or_default().push(pair);
                        }
                        (Ok(_), None) => pairs.left_over += 1,
                    }
                }
            }
            Err(set_aside) => pairs.set_aside.push(set_aside),
        }
    }
    pairs.set_aside.extend(rows.set_aside());
    if pairs.splits.is_empty() {
        return Err(no_pairs(&path, rows.len(), &pairs));
    }
    Ok(pairs)
}

/// The error that a file gives no pair: how often each reason was met, and the first example.
fn no_pairs(path: &Path, rows: usize, pairs: &EditPairs) -> Error {
    let mut reasons = counted(&pairs.set_aside);
    if pairs.left_over > 0 {
        let comma = if reasons.is_empty() { "" } else { ", " };
        reasons = format!("{reasons}{comma}{} in no split", pairs.left_over);
    }
    let error = Error::input(format!(
        "{}: none of {rows} rows makes an edit pair ({reasons})",
        path.display()
    ));
    match pairs.set_aside.first() {
        Some(row) => error.hint(format!("row {}: {}", row.id, row.detail)),
        None => error,
    }
}

/// What one edit of a row gives.
type Found = Result<EditPair, SetAside>;

impl DataConfig {
    /// The name by which a row is split, and its pairs.
    fn read(
        &self,
        id: &str,
        row: &Value,
        reader: Option<&Reader<'_>>,
    ) -> Result<(String, Vec<Found>), SetAside> {
        let refused = |(reason, detail)| SetAside::new(id, reason, detail);
        let missing = |detail| SetAside::new(id, SetAsideReason::MissingField, detail);
        let group = match &self.group_field {
            Some(field) => Some(field.name(row).map_err(missing)?),
            None => None,
        };
        if let Some(reader) = reader {
            let example = reader.read(row).map_err(refused)?;
            // A pair has both.
            let (chosen, rejected) = (
                example.response.unwrap_or_default(),
                example.rejected.unwrap_or_default(),
            );
            let pair = EditPair {
                id: id.to_owned(),
                prompt: example.prompt,
                original: rejected,
                edited: chosen,
            };
            let group = group.unwrap_or_else(|| pair.prompt.trim().to_owned());
            return Ok((group, vec![Ok(pair)]));
        }
        let (Some(original_field), Some(edited_field)) = (&self.original_field, &self.edited_field)
        else {
            return Err(missing("no fields are named".to_owned()));
        };
        let original = original_field.text(row).map_err(missing)?;
        let edits = edited_field.texts(row).map_err(missing)?;
        let prompt = match &self.prompt_field {
            Some(field) => Some(field.text(row).map_err(missing)?),
            None => None,
        };
        let used: Vec<_> = [original_field, edited_field]
            .into_iter()
            .chain(&self.prompt_field)
            .collect();
        if let Some(what) = turns_left_out(&used, row) {
            return Err(SetAside::new(id, SetAsideReason::MoreTurns, what));
        }
        let pairs = match self.edits {
            WhichEdits::First => vec![self.pair(id.to_owned(), prompt, original, edits[0])],
            WhichEdits::All => edits
                .iter()
                .enumerate()
                .map(|(number, edited)| {
                    self.pair(format!("{id}#{number}"), prompt, original, edited)
                })
                .collect(),
        };
        Ok((group.unwrap_or_else(|| id.to_owned()), pairs))
    }

    fn pair(&self, id: String, prompt: Option<&str>, original: &str, edited: &str) -> Found {
        let (prompt, original, edited) = match prompt {
            Some(prompt) => (prompt, original, edited),
            None => cut_prompt(original, edited, self.prompt_words.unwrap_or_default()),
        };
        let responses = [("original", original), ("edited", edited)];
        if let Err((reason, detail)) = layouts::check(prompt, &responses, self.max_words) {
            let detail = match (reason, &self.prompt_field) {
                (SetAsideReason::EmptyPrompt, None) => {
                    "original and edit begin with different words, or are one word".to_owned()
                }
                (SetAsideReason::Identical, _) => "the edit changed nothing".to_owned(),
                _ => detail,
            };
            return Err(SetAside::new(id, reason, detail));
        }
        Ok(EditPair {
            id,
            prompt: prompt.to_owned(),
            original: original.to_owned(),
            edited: edited.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests;
