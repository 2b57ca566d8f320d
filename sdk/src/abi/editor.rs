//! Editors across the boundary. Outcomes go back one by one through the host's sink, so that each is stored at once.
#![expect(
    clippy::cast_ptr_alignment,
    reason = "generated for calls behind the last of the first version; the table of calls is aligned"
)]

use abi_stable::sabi_types::RMut;
use abi_stable::std_types::{RBox, RNone, ROption, RResult, RStr, RString};
use abi_stable::type_level::downcasting::TD_Opaque;
use abi_stable::{StableAbi, sabi_trait};

use crate::abi::batch::{TextAbi, same_len};
use crate::abi::context::{self, ContextAbi};
use crate::abi::entry::{EntryAbi, Instance};
use crate::abi::error::{ErrorAbi, ResultAbi, received};
use crate::abi::guard::guarded;
use crate::abi::origin;
use crate::context::CallContext;
use crate::descriptor::Descriptor;
use crate::error::{Error, ErrorCode, Result};
use crate::forecast::Forecast;
use crate::info::Capabilities;
use crate::kinds::{EditOutcome, EditRequests, EditSink, Editor, Origin};
use crate::options;

/// [`EditRequests`].
#[repr(C)]
#[derive(StableAbi)]
pub struct EditRequestsAbi<'a> {
    ids: TextAbi<'a>,
    prompts: TextAbi<'a>,
    responses: TextAbi<'a>,
}

impl<'a> From<&EditRequests<'a>> for EditRequestsAbi<'a> {
    fn from(requests: &EditRequests<'a>) -> Self {
        Self {
            ids: requests.ids.into(),
            prompts: requests.prompts.into(),
            responses: requests.responses.into(),
        }
    }
}

impl<'a> EditRequestsAbi<'a> {
    /// The requests, their batches checked.
    fn receive(self) -> Result<EditRequests<'a>> {
        let requests = EditRequests {
            ids: self.ids.receive()?,
            prompts: self.prompts.receive()?,
            responses: self.responses.receive()?,
        };
        let rows = requests.ids.rows();
        same_len("the batch of prompts", requests.prompts.rows(), rows)?;
        same_len("the batch of responses", requests.responses.rows(), rows)?;
        Ok(requests)
    }
}

/// Which [`EditOutcome`]; the host refuses a number that it does not know.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, StableAbi)]
pub struct OutcomeAbi(pub u32);

impl OutcomeAbi {
    const EDITED: Self = Self(0);
    const UNCHANGED: Self = Self(1);
    const REFUSED: Self = Self(2);
    const FAILED: Self = Self(3);
    /// Crosses by [`EditSinkAbi::push_with_origin`] alone, whose default body says it to older hosts in a way that they know.
    const REJECTED: Self = Self(4);
}

/// The host's sink. New calls are appended here, with a default body.
#[sabi_trait]
pub trait EditSinkAbi {
    /// The outcome of a row: `text` is the response, the reason or the error.
    #[sabi(last_prefix_field)]
    fn push(&mut self, row: u64, outcome: OutcomeAbi, text: RStr<'_>) -> RResult<(), ErrorAbi>;

    /// The same, with an [`Origin`] as JSON; an empty text where there is none.
    fn push_with_origin(
        &mut self,
        row: u64,
        outcome: OutcomeAbi,
        text: RStr<'_>,
        origin: RStr<'_>,
    ) -> RResult<(), ErrorAbi> {
        let _ = origin;
        let outcome = if outcome == OutcomeAbi::REJECTED {
            OutcomeAbi::REFUSED
        } else {
            outcome
        };
        self.push(row, outcome, text)
    }
}

/// An [`Editor`].
#[sabi_trait]
pub trait EditorAbi: Send + Sync {
    /// [`Capabilities`] of this instance as JSON.
    fn capabilities(&self) -> RResult<RString, ErrorAbi>;

    /// Pushes one outcome per row into the sink.
    #[sabi(last_prefix_field)]
    fn edit(
        &self,
        requests: EditRequestsAbi<'_>,
        sink: EditSinkAbi_TO<'_, RMut<'_, ()>>,
        context: ContextAbi<'_>,
    ) -> RResult<(), ErrorAbi>;

    /// The call's forecast as JSON; none where there is nothing to tell.
    fn forecast(
        &self,
        requests: EditRequestsAbi<'_>,
        context: ContextAbi<'_>,
    ) -> RResult<ROption<RString>, ErrorAbi> {
        let _ = (requests, context);
        RResult::ROk(RNone)
    }
}

/// The trait object that crosses.
pub type EditorBox = EditorAbi_TO<'static, RBox<()>>;

/// Plugin side: the host's sink as the author sees it.
struct RemoteSink<'a, 'b>(EditSinkAbi_TO<'a, RMut<'b, ()>>);

impl EditSink for RemoteSink<'_, '_> {
    fn push(&mut self, row: usize, outcome: EditOutcome) -> Result<()> {
        let (code, text) = crossing(outcome);
        let (row, text) = (row as u64, text.as_str().into());
        received(if code == OutcomeAbi::REJECTED {
            self.0.push_with_origin(row, code, text, RStr::empty())
        } else {
            self.0.push(row, code, text)
        })
    }

    fn push_with_origin(
        &mut self,
        row: usize,
        outcome: EditOutcome,
        origin: &Origin,
    ) -> Result<()> {
        let (code, text) = crossing(outcome);
        let origin = origin::sent(origin)?;
        received(
            self.0
                .push_with_origin(row as u64, code, text.as_str().into(), origin.as_rstr()),
        )
    }
}

/// An outcome as it crosses.
fn crossing(outcome: EditOutcome) -> (OutcomeAbi, String) {
    match outcome {
        EditOutcome::Edited(text) => (OutcomeAbi::EDITED, text),
        EditOutcome::Unchanged => (OutcomeAbi::UNCHANGED, String::new()),
        EditOutcome::Refused(text) => (OutcomeAbi::REFUSED, text),
        EditOutcome::Failed(text) => (OutcomeAbi::FAILED, text),
        EditOutcome::Rejected(text) => (OutcomeAbi::REJECTED, text),
    }
}

/// An outcome that came across.
fn crossed(outcome: OutcomeAbi, text: RStr<'_>) -> Result<EditOutcome> {
    let text = text.to_string();
    Ok(match outcome {
        OutcomeAbi::EDITED => EditOutcome::Edited(text),
        OutcomeAbi::UNCHANGED => EditOutcome::Unchanged,
        OutcomeAbi::REFUSED => EditOutcome::Refused(text),
        OutcomeAbi::FAILED => EditOutcome::Failed(text),
        OutcomeAbi::REJECTED => EditOutcome::Rejected(text),
        OutcomeAbi(code) => {
            let message = format!("pushed an outcome with the unknown code {code}");
            return Err(Error::new(ErrorCode::INVALID_OUTPUT, message));
        }
    })
}

/// Host side: a sink of the host as it crosses.
struct LocalSink<'a>(&'a mut dyn EditSink);

impl EditSinkAbi for LocalSink<'_> {
    fn push(&mut self, row: u64, outcome: OutcomeAbi, text: RStr<'_>) -> RResult<(), ErrorAbi> {
        guarded(|| self.0.push(row as usize, crossed(outcome, text)?))
    }

    fn push_with_origin(
        &mut self,
        row: u64,
        outcome: OutcomeAbi,
        text: RStr<'_>,
        origin: RStr<'_>,
    ) -> RResult<(), ErrorAbi> {
        guarded(|| {
            let (row, outcome) = (row as usize, crossed(outcome, text)?);
            match origin::received(origin)? {
                Some(origin) => self.0.push_with_origin(row, outcome, &origin),
                None => self.0.push(row, outcome),
            }
        })
    }
}

/// Plugin side.
struct Adapter<T>(Instance<T>);

impl<T: Editor> EditorAbi for Adapter<T> {
    fn capabilities(&self) -> RResult<RString, ErrorAbi> {
        guarded(|| options::to_json(&self.0.capabilities()))
    }

    fn edit(
        &self,
        requests: EditRequestsAbi<'_>,
        sink: EditSinkAbi_TO<'_, RMut<'_, ()>>,
        context: ContextAbi<'_>,
    ) -> RResult<(), ErrorAbi> {
        guarded(|| {
            let requests = requests.receive()?;
            context::receive(&context, |context| {
                self.0.edit(&requests, &mut RemoteSink(sink), context)
            })
        })
    }

    fn forecast(
        &self,
        requests: EditRequestsAbi<'_>,
        context: ContextAbi<'_>,
    ) -> RResult<ROption<RString>, ErrorAbi> {
        guarded(|| {
            let requests = requests.receive()?;
            let forecast =
                context::receive(&context, |context| self.0.forecast(&requests, context))?;
            Ok(forecast.as_ref().map(options::to_json).transpose()?.into())
        })
    }
}

extern "C" fn construct<T: Editor>(options: RStr<'_>) -> ResultAbi<EditorBox> {
    guarded(|| {
        let instance = Instance::new(T::new(options::parse(options.as_str())?)?);
        Ok(EditorBox::from_value(Adapter(instance), TD_Opaque))
    })
}

/// Plugin side: the entry of `T`.
pub(crate) fn entry<T: Editor>(descriptor: &Descriptor) -> Result<EntryAbi<EditorBox>> {
    EntryAbi::new(descriptor, construct::<T>)
}

/// Host side: an instance of an editor, called with the author's types.
pub struct EditorObject(pub EditorBox);

impl EditorObject {
    /// [`crate::Plugin::capabilities`].
    pub fn capabilities(&self) -> Result<Capabilities> {
        options::from_json(&received(self.0.capabilities())?)
    }

    /// [`Editor::edit`].
    pub fn edit(
        &self,
        requests: &EditRequests<'_>,
        sink: &mut dyn EditSink,
        context: &CallContext<'_>,
    ) -> Result<()> {
        let mut sink = LocalSink(sink);
        received(context::send(context, |context| {
            let sink = EditSinkAbi_TO::from_ptr(RMut::new(&mut sink), TD_Opaque);
            self.0.edit(requests.into(), sink, context)
        }))
    }

    /// [`Editor::forecast`]; `None` where the plugin was built before there were forecasts.
    pub fn forecast(
        &self,
        requests: &EditRequests<'_>,
        context: &CallContext<'_>,
    ) -> Result<Option<Forecast>> {
        let json: Option<RString> = received(context::send(context, |context| {
            self.0.forecast(requests.into(), context)
        }))?
        .into();
        json.map(|json| options::from_json(&json)).transpose()
    }
}

#[cfg(test)]
mod tests;
