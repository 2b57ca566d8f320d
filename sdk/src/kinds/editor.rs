//! Editors: minimal edits that make a response better.

use crate::batch::TextBatch;
use crate::context::CallContext;
use crate::error::Result;
use crate::forecast::Forecast;
use crate::kinds::{Origin, Plugin};

/// A batch of responses to be edited.
#[derive(Clone, Copy, Debug)]
pub struct EditRequests<'a> {
    /// A name per row that stays the same from run to run.
    pub ids: TextBatch<'a>,
    /// The prompts.
    pub prompts: TextBatch<'a>,
    /// The responses as they are.
    pub responses: TextBatch<'a>,
}

/// What came of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EditOutcome {
    /// The edited response, whole.
    Edited(String),
    /// The response needs no edit.
    Unchanged,
    /// The editor declined, with its reason.
    Refused(String),
    /// The editor tried and failed, with the error: another run asks again.
    Failed(String),
    /// There is an answer, and it cannot be used as a minimal edit, with the reason: asking again brings the same. A host that
    /// is older than this outcome takes it for [`EditOutcome::Refused`].
    Rejected(String),
}

/// Takes outcomes as soon as they are there, in any order, once per row. The host stores each at once.
pub trait EditSink {
    /// The outcome of row `row`.
    ///
    /// # Errors
    /// A row that is not in the batch, or that was pushed before.
    fn push(&mut self, row: usize, outcome: EditOutcome) -> Result<()>;

    /// The outcome of row `row`, and where it came from. A host that keeps no origins takes the outcome alone.
    ///
    /// # Errors
    /// As [`EditSink::push`].
    fn push_with_origin(
        &mut self,
        row: usize,
        outcome: EditOutcome,
        origin: &Origin,
    ) -> Result<()> {
        let _ = origin;
        self.push(row, outcome)
    }
}

/// An editor.
pub trait Editor: Plugin {
    /// Edits the responses; every row is pushed exactly once.
    fn edit(
        &self,
        requests: &EditRequests<'_>,
        sink: &mut dyn EditSink,
        context: &CallContext<'_>,
    ) -> Result<()>;

    /// What [`Editor::edit`] would ask of a server and what it would cost, where the texts of `requests` may be stand-ins of
    /// about their length. Nothing is asked, and no key is needed. `None` where there is nothing to tell: no server is asked.
    ///
    /// # Errors
    /// As [`Editor::edit`], before it asks.
    fn forecast(
        &self,
        _requests: &EditRequests<'_>,
        _context: &CallContext<'_>,
    ) -> Result<Option<Forecast>> {
        Ok(None)
    }
}
