//! The rows at which a number was not finite: carried by the error, saved where a failed stage leaves its files.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Value, json};

use crate::data::ragged::TokenBatch;
use crate::error::{Error, Result};
use crate::pipeline::atomic::write_atomic;

/// A row of a batch, with the figures that were found there.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct NotFiniteRow {
    /// Its number in the material of the stage: demonstration, pair, or row of the rollout.
    pub row: usize,
    /// Its number in the batch that was looked at; what belongs to it is added by [`NotFinite::add_tokens`].
    #[serde(skip)]
    pub at: usize,
    /// The figure at every response token, NaN and infinities as text; empty where the figure belongs to the whole batch.
    pub figures: Vec<Value>,
    /// The prompt's tokens.
    pub prompt_ids: Vec<u32>,
    /// The response's tokens.
    pub response_ids: Vec<u32>,
    /// The prompt in words, where the stage can decode it.
    pub prompt: Option<String>,
    /// The response in words.
    pub response: Option<String>,
}

/// What was not finite, and where.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NotFinite {
    /// The figure in words.
    pub what: String,
    /// The rows at fault; those of the whole batch where the figure is one of the batch.
    pub rows: Vec<NotFiniteRow>,
}

impl NotFinite {
    /// A figure with a value at every response token; `rows` gives the name of each row of `offsets`. Rows whose values are
    /// finite are left out.
    pub fn tokens(what: &str, values: &[f32], offsets: &[u64], rows: &[usize]) -> Self {
        let ends = offsets.windows(2).zip(rows).enumerate();
        let rows = ends.filter_map(|(at, (ends, &row))| {
            let values = &values[ends[0] as usize..ends[1] as usize];
            values
                .iter()
                .any(|value| !value.is_finite())
                .then(|| NotFiniteRow {
                    row,
                    at,
                    figures: values.iter().map(|&value| figure(value)).collect(),
                    ..NotFiniteRow::default()
                })
        });
        Self {
            what: what.to_owned(),
            rows: rows.collect(),
        }
    }

    /// A figure of a whole batch, whose rows are named.
    pub fn batch(what: &str, rows: &[usize]) -> Self {
        let rows = rows.iter().enumerate().map(|(at, &row)| NotFiniteRow {
            row,
            at,
            ..NotFiniteRow::default()
        });
        Self {
            what: what.to_owned(),
            rows: rows.collect(),
        }
    }

    /// Adds each row's tokens out of a batch; `place` says where in the batch a row lies. Rows that have tokens keep them.
    pub fn add_tokens(&mut self, batch: &TokenBatch, place: impl Fn(&NotFiniteRow) -> usize) {
        for row in &mut self.rows {
            let at = place(row);
            if row.prompt_ids.is_empty() && at < batch.rows() {
                row.prompt_ids = batch.prompt(at).to_vec();
                row.response_ids = batch.response(at).to_vec();
            }
        }
    }

    /// Adds the words. What does not decode stays without.
    pub fn add_words(&mut self, decode: impl Fn(&[u32], &[u32]) -> Result<String>) {
        for row in &mut self.rows {
            row.prompt = row
                .prompt
                .take()
                .or_else(|| decode(&[], &row.prompt_ids).ok());
            row.response = row
                .response
                .take()
                .or_else(|| decode(&row.prompt_ids, &row.response_ids).ok());
        }
    }

    /// Saves it in `dir` under a name of its own, and returns that.
    pub fn save(&self, dir: &Path, stage: &str, message: &str) -> Result<PathBuf> {
        let path = (1..=u32::MAX)
            .map(|number| dir.join(format!("{stage}-{number}.json")))
            .find(|path| !path.exists())
            .ok_or_else(|| Error::internal(format!("no name is left in {}", dir.display())))?;
        let text = serde_json::to_vec(&json!({
            "stage": stage,
            "error": message,
            "what": self.what,
            "rows": self.rows,
        }))
        .map_err(|error| Error::internal(format!("a batch does not serialise: {error}")))?;
        write_atomic(&path, &text)?;
        Ok(path)
    }
}

/// JSON has no NaN and no infinity.
fn figure(value: f32) -> Value {
    if value.is_finite() {
        json!(value)
    } else {
        json!(value.to_string())
    }
}

/// Adds what belongs to the rows of an error; leaves alone what is no such error.
pub trait OffendingRows: Sized {
    /// An error about a figure of a whole batch, whose rows are named; one that has its rows keeps them.
    #[must_use]
    fn of_batch(self, what: &str, rows: &[usize]) -> Self;

    /// The tokens of the rows out of a batch; `place` says where in the batch a row lies.
    #[must_use]
    fn rows_named_in(self, batch: &TokenBatch, place: impl Fn(&NotFiniteRow) -> usize) -> Self;

    /// The tokens of the rows out of the batch that was looked at.
    #[must_use]
    fn rows_of(self, batch: &TokenBatch) -> Self {
        self.rows_named_in(batch, |row| row.at)
    }

    /// The same, where the batch is made only for this.
    #[must_use]
    fn rows_of_all(self, batch: impl FnOnce() -> TokenBatch) -> Self;

    /// The words of rows whose tokens are there.
    #[must_use]
    fn in_words(self, decode: impl Fn(&[u32], &[u32]) -> Result<String>) -> Self;
}

impl<T> OffendingRows for Result<T> {
    fn of_batch(self, what: &str, rows: &[usize]) -> Self {
        self.map_err(|error| match error.not_finite() {
            Some(found) if found.rows.is_empty() => {
                error.with_not_finite(NotFinite::batch(what, rows))
            }
            _ => error,
        })
    }

    fn rows_named_in(mut self, batch: &TokenBatch, place: impl Fn(&NotFiniteRow) -> usize) -> Self {
        if let Err(error) = &mut self
            && let Some(found) = error.not_finite_mut()
        {
            found.add_tokens(batch, place);
        }
        self
    }

    fn rows_of_all(self, batch: impl FnOnce() -> TokenBatch) -> Self {
        match self {
            Err(error) if error.not_finite().is_some() => Err(error).rows_of(&batch()),
            other => other,
        }
    }

    fn in_words(mut self, decode: impl Fn(&[u32], &[u32]) -> Result<String>) -> Self {
        if let Err(error) = &mut self
            && let Some(found) = error.not_finite_mut()
        {
            found.add_words(decode);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_at_fault_are_saved_with_tokens_words_and_figures() {
        let mut batch = TokenBatch::new();
        batch.push(&[1, 2], &[3]);
        batch.push(&[4], &[5, 6]);
        let found = NotFinite::tokens("the value", &[0.5, 1.0, f32::NAN], &[0, 1, 3], &[7, 9]);
        let error = Error::internal("row 9 is bad").with_not_finite(found);
        let result: Result<()> = Err(error);
        let decode = |_: &[u32], ids: &[u32]| Ok(format!("{ids:?}"));
        let error = result.rows_of(&batch).in_words(decode).unwrap_err();
        let dir = tempfile::tempdir().unwrap();
        let found = error.not_finite().unwrap();
        let path = found
            .save(dir.path(), "ppo-ab", &error.to_string())
            .unwrap();
        assert_eq!(path, dir.path().join("ppo-ab-1.json"));
        let read: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(
            read,
            json!({
                "stage": "ppo-ab",
                "error": "row 9 is bad",
                "what": "the value",
                "rows": [{
                    "row": 9,
                    "figures": [1.0, "NaN"],
                    "prompt_ids": [4],
                    "response_ids": [5, 6],
                    "prompt": "[4]",
                    "response": "[5, 6]",
                }],
            })
        );
        let second = found.save(dir.path(), "ppo-ab", "again").unwrap();
        assert_eq!(second, dir.path().join("ppo-ab-2.json"));
    }
}
