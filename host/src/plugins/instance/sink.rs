//! What editors and judges push into: each row once, each answer handed on at once, every fault remembered even where the
//! plugin ignores it.

use finegrain_sdk::{CallContext, ErrorCode};

use crate::error::{Error, Result};
use crate::plugins::instance::Handle;

/// Takes answers of type `T` for the rows of one call.
pub(super) struct RowSink<'a, T> {
    store: &'a mut dyn FnMut(usize, T) -> Result<()>,
    seen: Vec<bool>,
    /// The first fault of the plugin: its row and what it did.
    fault: Option<(usize, String)>,
    /// The first error of the host's own `store`.
    store_error: Option<Error>,
}

impl<'a, T> RowSink<'a, T> {
    pub(super) fn new(rows: usize, store: &'a mut dyn FnMut(usize, T) -> Result<()>) -> Self {
        Self {
            store,
            seen: vec![false; rows],
            fault: None,
            store_error: None,
        }
    }

    /// Takes the answer of a row, or `fault` where the answer itself breaks the contract.
    pub(super) fn push(
        &mut self,
        row: usize,
        answer: T,
        fault: Option<String>,
    ) -> finegrain_sdk::Result<()> {
        if self.store_error.is_some() {
            return Err(could_not_store());
        }
        let fault = match self.seen.get(row) {
            None => Some(format!(
                "pushed a row that is not in its batch of {} rows",
                self.seen.len()
            )),
            Some(true) => Some("pushed the row a second time".to_owned()),
            Some(false) => fault,
        };
        if let Some(fault) = fault {
            let error =
                finegrain_sdk::Error::new(ErrorCode::INVALID_OUTPUT, fault.clone()).at_row(row);
            self.fault.get_or_insert((row, fault));
            return Err(error);
        }
        self.seen[row] = true;
        (self.store)(row, answer).map_err(|error| {
            self.store_error = Some(error);
            could_not_store()
        })
    }

    /// The call's result: the host's own error first, then the plugin's faults, then what the call returned, then a row that
    /// was never pushed.
    pub(super) fn finish(
        self,
        handle: &Handle,
        context: &CallContext<'_>,
        outcome: Result<()>,
    ) -> Result<()> {
        if let Some(error) = self.store_error {
            return Err(error);
        }
        if let Some((row, fault)) = self.fault {
            return Err(handle.broken(context, Some(row), &fault));
        }
        outcome?;
        match self.seen.iter().position(|seen| !seen) {
            None => Ok(()),
            Some(row) => {
                let left = self.seen.iter().filter(|seen| !**seen).count();
                let fault = format!("{left} of {} rows were never pushed", self.seen.len());
                Err(handle.broken(context, Some(row), &fault))
            }
        }
    }
}

fn could_not_store() -> finegrain_sdk::Error {
    finegrain_sdk::Error::plugin("the host could not store the row")
}
