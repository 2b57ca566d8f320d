//! An editor as the host calls it.

use finegrain_sdk::abi::editor::EditorObject;
use finegrain_sdk::kinds::{EditOutcome, EditRequests, EditSink, Origin};
use finegrain_sdk::{CallContext, Forecast};

use super::sink::RowSink;
use super::{Handle, instance_accessors};
use crate::error::Result;

/// An instance of an editor.
pub struct EditorInstance {
    pub(super) handle: Handle,
    object: EditorObject,
}

instance_accessors!(EditorInstance);

/// An editor's outcome of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The outcome.
    pub outcome: EditOutcome,
    /// Where it came from, where the editor says so.
    pub origin: Option<Origin>,
}

impl EditSink for RowSink<'_, Edit> {
    fn push(&mut self, row: usize, outcome: EditOutcome) -> finegrain_sdk::Result<()> {
        let origin = None;
        RowSink::push(self, row, Edit { outcome, origin }, None)
    }

    fn push_with_origin(
        &mut self,
        row: usize,
        outcome: EditOutcome,
        origin: &Origin,
    ) -> finegrain_sdk::Result<()> {
        let origin = Some(origin.clone());
        RowSink::push(self, row, Edit { outcome, origin }, None)
    }
}

impl EditorInstance {
    pub(crate) fn new(handle: Handle, object: EditorObject) -> Self {
        Self { handle, object }
    }

    /// Edits a batch of responses. `store` gets each outcome as soon as it is there, in the plugin's order, once per row;
    /// what it has stored stays stored where the call fails later.
    ///
    /// # Errors
    /// An error of `store`; a failure of the plugin; a row that was pushed twice, never, or is not in the batch.
    pub fn edit(
        &self,
        requests: &EditRequests<'_>,
        context: &CallContext<'_>,
        store: &mut dyn FnMut(usize, Edit) -> Result<()>,
    ) -> Result<()> {
        let mut sink = RowSink::new(requests.ids.rows(), store);
        let outcome = self.handle.call(context, |context| {
            self.object.edit(requests, &mut sink, context)
        });
        sink.finish(&self.handle, context, outcome)
    }

    /// Edits a batch of responses and returns the outcomes in the order of the rows.
    ///
    /// # Errors
    /// As [`EditorInstance::edit`].
    pub fn edit_all(
        &self,
        requests: &EditRequests<'_>,
        context: &CallContext<'_>,
    ) -> Result<Vec<EditOutcome>> {
        let mut outcomes = vec![EditOutcome::Unchanged; requests.ids.rows()];
        self.edit(requests, context, &mut |row, edit| {
            outcomes[row] = edit.outcome;
            Ok(())
        })?;
        Ok(outcomes)
    }

    /// What [`EditorInstance::edit`] would ask of a server and what it would cost; `None` where the plugin tells nothing.
    ///
    /// # Errors
    /// A failure of the plugin.
    pub fn forecast(
        &self,
        requests: &EditRequests<'_>,
        context: &CallContext<'_>,
    ) -> Result<Option<Forecast>> {
        self.handle
            .call(context, |context| self.object.forecast(requests, context))
    }
}
