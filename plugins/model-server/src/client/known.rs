//! The rows whose end is kept: read before anything is sent, so that with all of them there nothing is.

use finegrain_sdk::{Error, Result};

use super::form::{Accounted, Form, find_kept};
use super::row::{Next, Row, guarded};
use super::{Call, Sink, interrupted};
use crate::outcome::{End, Settled};

/// The rows that have to be asked, and what the budget knows of.
pub(crate) struct Pending {
    /// The rows.
    pub(crate) rows: Vec<Open>,
    /// The questions whose earlier cost is counted.
    pub(crate) accounted: Accounted,
}

/// A row that has to be asked.
pub(crate) enum Open {
    /// From its first question on, which is made again rather than held.
    Fresh(usize),
    /// From a later question on.
    Later(Box<Row>),
}

impl Open {
    /// The row's number.
    pub(crate) fn number(&self) -> usize {
        match self {
            Self::Fresh(row) => *row,
            Self::Later(row) => row.number,
        }
    }
}

impl Pending {
    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// Pushes the rows that end in what is kept and returns the others.
///
/// # Errors
/// The caller's, a folder that cannot be read, or the call was interrupted.
pub(crate) fn walk(call: &Call<'_>, rows: usize, sink: &mut Sink<'_>) -> Result<Pending> {
    let accounted = Accounted::default();
    if call.layer.is_none() {
        return Ok(Pending {
            rows: (0..rows).map(Open::Fresh).collect(),
            accounted,
        });
    }
    let mut pending = Vec::new();
    for row in 0..rows {
        interrupted(call)?;
        match guarded(|| walk_row(call, &accounted, row)) {
            Ok(Ok(Next::Open(state))) if state.is_fresh() => pending.push(Open::Fresh(row)),
            Ok(Ok(Next::Open(state))) => pending.push(Open::Later(Box::new(state))),
            Ok(Ok(Next::End(settled))) => sink.settle(row, settled)?,
            Ok(Err(error)) => return Err(error),
            Err(failure) => sink.settle(
                row,
                Settled {
                    end: End::Failed(failure),
                    tries: Vec::new(),
                },
            )?,
        }
    }
    Ok(Pending {
        rows: pending,
        accounted,
    })
}

/// One row, as far as its answers are kept.
fn walk_row(call: &Call<'_>, accounted: &Accounted, row: usize) -> Result<Next> {
    go_on(call, accounted, Row::begin(call, row)?)
}

/// A row from its open question on, as far as its answers are kept.
///
/// # Errors
/// A question that no API takes, or a folder that cannot be read.
pub(crate) fn go_on(call: &Call<'_>, accounted: &Accounted, mut state: Row) -> Result<Next> {
    while let Some(answer) =
        find_kept(call, accounted, &state.question).map_err(|error| error.at_row(state.number))?
    {
        match state.take(call, answer) {
            Next::Open(next) => state = next,
            end @ Next::End(_) => return Ok(end),
        }
    }
    Ok(Next::Open(state))
}

/// The error of a replay without all answers.
pub(crate) fn missing(call: &Call<'_>, pending: &Pending) -> Error {
    let row = match pending.rows.first() {
        Some(Open::Fresh(row)) => Row::begin(call, *row),
        Some(Open::Later(row)) => return missing_at(call, row, pending.rows.len()),
        None => return Error::plugin("replay: an answer is not kept"),
    };
    match row {
        Ok(row) => missing_at(call, &row, pending.rows.len()),
        Err(error) => error,
    }
}

fn missing_at(call: &Call<'_>, row: &Row, rows: usize) -> Error {
    match Form::new(call, &row.question, 0) {
        Ok(Form { key, .. }) => Error::plugin(format!(
            "replay: {rows} rows need an answer that is not kept; the first is {:?}, with the key {key}; set replay = false \
             to ask for them",
            row.question.id
        ))
        .at_row(row.number),
        Err(error) => error,
    }
}
