//! Judges: which of two responses to a prompt is better.

use crate::batch::TextBatch;
use crate::context::CallContext;
use crate::error::Result;
use crate::forecast::Forecast;
use crate::kinds::{Origin, Plugin};

/// A batch of comparisons. The host asks in both orders; a judge need not.
#[derive(Clone, Copy, Debug)]
pub struct Comparisons<'a> {
    /// A name per row that stays the same from run to run.
    pub ids: TextBatch<'a>,
    /// The prompts.
    pub prompts: TextBatch<'a>,
    /// The first responses.
    pub a: TextBatch<'a>,
    /// The second responses.
    pub b: TextBatch<'a>,
}

/// A judge's answer to one comparison.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// How much `b` is preferred: 0 = a is better, 1 = b is better.
    Preference(f32),
    /// Neither is better.
    Tie,
    /// The judge could not answer, with the reason.
    Failed(String),
}

/// Takes verdicts as soon as they are there, in any order, once per row.
pub trait JudgeSink {
    /// The verdict on row `row`, with the judge's reason or an empty text.
    ///
    /// # Errors
    /// A row that is not in the batch or was pushed before, or a preference outside [0, 1].
    fn push(&mut self, row: usize, verdict: Verdict, reason: &str) -> Result<()>;

    /// The verdict on row `row` with the judge's reason, and where it came from. A host that keeps no origins takes the verdict
    /// alone.
    ///
    /// # Errors
    /// As [`JudgeSink::push`].
    fn push_with_origin(
        &mut self,
        row: usize,
        verdict: Verdict,
        reason: &str,
        origin: &Origin,
    ) -> Result<()> {
        let _ = origin;
        self.push(row, verdict, reason)
    }
}

/// A judge.
pub trait Judge: Plugin {
    /// Judges the comparisons; every row is pushed exactly once.
    fn compare(
        &self,
        comparisons: &Comparisons<'_>,
        sink: &mut dyn JudgeSink,
        context: &CallContext<'_>,
    ) -> Result<()>;

    /// What [`Judge::compare`] would ask of a server and what it would cost, where the texts of `comparisons` may be stand-ins
    /// of about their length. Nothing is asked, and no key is needed. `None` where there is nothing to tell: no server is asked.
    ///
    /// # Errors
    /// As [`Judge::compare`], before it asks.
    fn forecast(
        &self,
        _comparisons: &Comparisons<'_>,
        _context: &CallContext<'_>,
    ) -> Result<Option<Forecast>> {
        Ok(None)
    }
}
