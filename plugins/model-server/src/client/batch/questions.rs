//! The open questions of rows, each once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use finegrain_sdk::Result;

use super::super::Call;
use super::super::form::Form;
use super::super::known::Open;
use super::super::row::Row;

/// Open questions, by key and in the order of the rows. The texts are made again where they are needed, rather than held.
pub(super) struct Questions {
    at: HashMap<String, usize>,
    order: Vec<String>,
}

impl Questions {
    /// The open questions of rows; rows with the same question have one.
    ///
    /// # Errors
    /// A question that no API takes.
    pub(super) fn of(call: &Call<'_>, rows: &[Open]) -> Result<Self> {
        let (mut at, mut order) = (HashMap::new(), Vec::new());
        for (position, open) in rows.iter().enumerate() {
            let form = match open {
                Open::Fresh(row) => Form::new(call, &Row::begin(call, *row)?.question, 0),
                Open::Later(row) => Form::new(call, &row.question, 0),
            };
            let key = form.map_err(|error| error.at_row(open.number()))?.key;
            if let Entry::Vacant(free) = at.entry(key) {
                order.push(free.key().clone());
                free.insert(position);
            }
        }
        Ok(Self { at, order })
    }

    /// Whether a question is open.
    pub(super) fn has(&self, key: &str) -> bool {
        self.at.contains_key(key)
    }

    /// The position of the first row with a question.
    pub(super) fn position(&self, key: &str) -> Option<usize> {
        self.at.get(key).copied()
    }

    /// All of them with the positions of their rows, in order.
    pub(super) fn positions(&self) -> impl Iterator<Item = (&str, usize)> {
        let place = |key: &String| self.at.get(key).copied();
        self.order
            .iter()
            .filter_map(move |key| Some((key.as_str(), place(key)?)))
    }
}
