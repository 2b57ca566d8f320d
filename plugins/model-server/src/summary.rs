//! What came of a call.

use std::collections::BTreeMap;
use std::fmt;

use crate::outcome::{Answer, End, Settled, Usage};
use crate::usd::Usd;

/// Counts of one call; kept answers are counted apart from those that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Rows of the call.
    pub rows: u64,
    /// Rows with an end; the others were not asked, or not to their end.
    pub settled: u64,
    /// Rows that ended with a text.
    pub texts: u64,
    /// Rows that the model declined, by the server's category.
    pub refused: BTreeMap<String, u64>,
    /// Rows that failed, by kind.
    pub failed: BTreeMap<&'static str, u64>,
    /// Answers that were asked for and kept.
    pub asked: u64,
    /// Answers that were there already.
    pub kept: u64,
    /// Requests that were sent again.
    pub retries: u64,
    /// Requests that brought no answer and may be paid all the same.
    pub possibly_paid: u64,
    /// What the answers that were asked for cost; `None` where a price is not known.
    pub usd: Option<Usd>,
    /// What the possibly paid requests cost at most; `None` where a price is not known.
    pub possibly_usd: Option<Usd>,
    /// Tokens of the answers that were asked for.
    pub usage: Usage,
    /// How many answers each model gave, kept ones included.
    pub models: BTreeMap<String, u64>,
}

impl Summary {
    /// An empty count of a call of `rows` rows, whose price is known or not.
    pub(crate) fn new(rows: usize, priced: bool) -> Self {
        Self {
            rows: rows as u64,
            usd: priced.then_some(Usd::ZERO),
            possibly_usd: priced.then_some(Usd::ZERO),
            ..Self::default()
        }
    }

    /// Counts one answer.
    pub(crate) fn add_answer(&mut self, answer: &Answer) {
        *self.models.entry(answer.model.clone()).or_default() += 1;
        if answer.kept {
            self.kept += 1;
            return;
        }
        self.asked += 1;
        self.usage = self.usage.plus(answer.usage.unwrap_or_default());
        self.usd = self.usd.and_then(|sum| answer.usd.map(|usd| sum.plus(usd)));
    }

    /// Counts the end of a row, and not its answers.
    pub(crate) fn add_end(&mut self, settled: &Settled) {
        self.settled += 1;
        match &settled.end {
            End::Text(_) => self.texts += 1,
            End::Refused { category, .. } => {
                *self.refused.entry(category.clone()).or_default() += 1;
            }
            End::Failed(failure) => *self.failed.entry(failure.kind.name()).or_default() += 1,
        }
    }
}

/// One line for the log.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} rows, {} answers asked for and {} kept from before",
            self.settled, self.rows, self.asked, self.kept
        )?;
        for (category, count) in &self.refused {
            write!(f, "; {count} refused ({category})")?;
        }
        for (kind, count) in &self.failed {
            write!(f, "; {count} failed ({kind})")?;
        }
        if self.retries > 0 {
            write!(f, "; {} sent again", self.retries)?;
        }
        write!(
            f,
            "; {} tokens in, {} out",
            self.usage.input, self.usage.output
        )?;
        match self.usd {
            Some(usd) => write!(f, "; {usd}")?,
            None => f.write_str("; price not known")?,
        }
        if self.possibly_paid > 0 {
            write!(f, "; {} without an answer may be paid", self.possibly_paid)?;
            if let Some(usd) = self.possibly_usd {
                write!(f, ", at most {usd}")?;
            }
        }
        let models: Vec<&str> = self.models.keys().map(String::as_str).collect();
        if !models.is_empty() {
            write!(f, "; answered by {}", models.join(", "))?;
        }
        Ok(())
    }
}
