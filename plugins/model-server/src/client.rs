//! Asking: every row's questions until its end, several at once, each answer kept before it is read.

use std::path::Path;

use finegrain_sdk::{CallContext, Result};

use crate::outcome::{Answer, Settled, Step};
use crate::question::Question;
use crate::server::Server;
use crate::summary::Summary;

/// Asks about `rows` rows and pushes each row's end as soon as it is there, in any order.
///
/// `first(row)` is the first question about a row; `next(row, tries)` says what follows an answer with a text, where `tries`
/// are the row's answers so far, the newest last. Both may run on several threads, and more than once for a row. `push` runs
/// on the calling thread. `answers` is the folder of kept answers; without one nothing is kept, and a warning says so.
/// The summary also goes to the log.
///
/// # Errors
/// The run was interrupted ([`finegrain_sdk::ErrorCode::CANCELLED`]), the budget does not reach, the server refuses the key
/// or the model, `push` failed, an answer could not be stored, or with `replay` an answer is not there. What is there was
/// pushed before; rows that were not asked to their end are pushed by no call.
pub fn ask(
    server: &Server,
    rows: usize,
    first: impl Fn(usize) -> Result<Question> + Sync,
    next: impl Fn(usize, &[Answer]) -> Step + Sync,
    push: &mut dyn FnMut(usize, Settled) -> Result<()>,
    context: &CallContext<'_>,
    answers: Option<&Path>,
) -> Result<Summary>;
