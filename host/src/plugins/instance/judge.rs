//! A judge as the host calls it.

use finegrain_sdk::abi::judge::JudgeObject;
use finegrain_sdk::kinds::{Comparisons, JudgeSink, Origin, Verdict};
use finegrain_sdk::{CallContext, Forecast};

use super::sink::RowSink;
use super::{Handle, instance_accessors};
use crate::error::Result;

/// An instance of a judge.
pub struct JudgeInstance {
    pub(super) handle: Handle,
    object: JudgeObject,
}

instance_accessors!(JudgeInstance);

/// A judge's answer to one comparison, in the order in which it was asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// The verdict; a preference lies in [0, 1].
    pub verdict: Verdict,
    /// The judge's reason, or an empty text.
    pub reason: String,
    /// Where it came from, where the judge says so.
    pub origin: Option<Origin>,
}

impl JudgeSink for RowSink<'_, Judgement> {
    fn push(&mut self, row: usize, verdict: Verdict, reason: &str) -> finegrain_sdk::Result<()> {
        self.take(row, verdict, reason, None)
    }

    fn push_with_origin(
        &mut self,
        row: usize,
        verdict: Verdict,
        reason: &str,
        origin: &Origin,
    ) -> finegrain_sdk::Result<()> {
        self.take(row, verdict, reason, Some(origin.clone()))
    }
}

impl RowSink<'_, Judgement> {
    fn take(
        &mut self,
        row: usize,
        verdict: Verdict,
        reason: &str,
        origin: Option<Origin>,
    ) -> finegrain_sdk::Result<()> {
        let fault = match verdict {
            Verdict::Preference(preference) if !(0.0..=1.0).contains(&preference) => Some(format!(
                "pushed the preference {preference}, which is not in [0, 1]"
            )),
            _ => None,
        };
        let judgement = Judgement {
            verdict,
            reason: reason.to_owned(),
            origin,
        };
        self.push(row, judgement, fault)
    }
}

impl JudgeInstance {
    pub(crate) fn new(handle: Handle, object: JudgeObject) -> Self {
        Self { handle, object }
    }

    /// Judges a batch of comparisons, in the one order given. `store` gets each judgement as soon as it is there, in the
    /// plugin's order, once per row; what it has stored stays stored where the call fails later.
    ///
    /// # Errors
    /// An error of `store`; a failure of the plugin; a row that was pushed twice, never, or is not in the batch; a
    /// preference outside [0, 1].
    pub fn compare(
        &self,
        comparisons: &Comparisons<'_>,
        context: &CallContext<'_>,
        store: &mut dyn FnMut(usize, Judgement) -> Result<()>,
    ) -> Result<()> {
        let mut sink = RowSink::new(comparisons.ids.rows(), store);
        let outcome = self.handle.call(context, |context| {
            self.object.compare(comparisons, &mut sink, context)
        });
        sink.finish(&self.handle, context, outcome)
    }

    /// Judges a batch of comparisons and returns the judgements in the order of the rows.
    ///
    /// # Errors
    /// As [`JudgeInstance::compare`].
    pub fn compare_all(
        &self,
        comparisons: &Comparisons<'_>,
        context: &CallContext<'_>,
    ) -> Result<Vec<Judgement>> {
        let absent = Judgement {
            verdict: Verdict::Tie,
            reason: String::new(),
            origin: None,
        };
        let mut judgements = vec![absent; comparisons.ids.rows()];
        self.compare(comparisons, context, &mut |row, judgement| {
            judgements[row] = judgement;
            Ok(())
        })?;
        Ok(judgements)
    }

    /// What [`JudgeInstance::compare`] would ask of a server and what it would cost; `None` where the plugin tells nothing.
    ///
    /// # Errors
    /// A failure of the plugin.
    pub fn forecast(
        &self,
        comparisons: &Comparisons<'_>,
        context: &CallContext<'_>,
    ) -> Result<Option<Forecast>> {
        self.handle.call(context, |context| {
            self.object.forecast(comparisons, context)
        })
    }
}
