//! One row on the way to its end: its answers so far, and the question that is open.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};

use finegrain_sdk::Result;

use super::Call;
use crate::outcome::{Answer, End, Failure, FailureKind, Reply, Settled, Step};
use crate::question::Question;

/// The largest limit of an answer that the client asks for by itself.
const MOST_TOKENS: u32 = 1_000_000;

/// A row that has no end yet.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// Which.
    pub(crate) number: usize,
    /// The question that is open.
    pub(crate) question: Question,
    tries: Vec<Answer>,
    /// Whether the open question has twice the limit because the answer was cut off.
    grown: bool,
    /// Whether it is asked once more because the answer was empty.
    repeated: bool,
}

/// What an answer leads to.
#[derive(Debug)]
pub(crate) enum Next {
    /// Another question is open.
    Open(Row),
    /// The row's end.
    End(Settled),
}

impl Row {
    /// A row with its first question.
    ///
    /// # Errors
    /// The caller has no question.
    pub(crate) fn begin(call: &Call<'_>, row: usize) -> Result<Self> {
        let question = (call.caller.first)(row).map_err(|error| error.at_row(row))?;
        Ok(Self {
            number: row,
            question,
            tries: Vec::new(),
            grown: false,
            repeated: false,
        })
    }

    /// Whether nothing was answered yet.
    pub(crate) fn is_fresh(&self) -> bool {
        self.tries.is_empty()
    }

    /// Takes an answer to the open question.
    pub(crate) fn take(mut self, call: &Call<'_>, answer: Answer) -> Next {
        let reply = answer.reply.clone();
        let asked_before = self.tries.iter().any(|before| before.key == answer.key);
        self.tries.push(answer);
        if asked_before {
            return self.fail(Failure::new(FailureKind::AskedTwice, ""));
        }
        match reply {
            Reply::Text(text) => match (call.caller.next)(self.number, &self.tries) {
                Step::Done => self.end(End::Text(text)),
                Step::Ask(question) => {
                    self.question = question;
                    (self.grown, self.repeated) = (false, false);
                    Next::Open(self)
                }
            },
            Reply::Refused {
                category,
                explanation,
            } => self.end(End::Refused {
                category,
                explanation,
            }),
            Reply::Unusable(failure) => match failure.kind {
                FailureKind::CutOff if !self.grown => {
                    let limit = self
                        .question
                        .max_tokens
                        .unwrap_or(call.server.options.max_tokens);
                    self.question.max_tokens = Some(limit.saturating_mul(2).min(MOST_TOKENS));
                    self.grown = true;
                    Next::Open(self)
                }
                FailureKind::Empty if !self.repeated => {
                    self.question.attempt += 1;
                    self.repeated = true;
                    Next::Open(self)
                }
                _ => self.fail(failure),
            },
        }
    }

    /// The row fails.
    pub(crate) fn fail(self, failure: Failure) -> Next {
        self.end(End::Failed(failure))
    }

    fn end(self, end: End) -> Next {
        Next::End(Settled {
            end,
            tries: self.tries,
        })
    }
}

/// Runs what concerns one row; a panic in it is the row's failure.
pub(crate) fn guarded<T>(what: impl FnOnce() -> T) -> std::result::Result<T, Failure> {
    panic::catch_unwind(AssertUnwindSafe(what))
        .map_err(|panic| Failure::new(FailureKind::Panicked, words(&*panic)))
}

/// What a panic says.
fn words(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default()
}
