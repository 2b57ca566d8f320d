//! Judges across the boundary. Verdicts go back one by one through the host's sink, so that each is stored at once.
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
use crate::kinds::{Comparisons, Judge, JudgeSink, Origin, Verdict};
use crate::options;

/// [`Comparisons`].
#[repr(C)]
#[derive(StableAbi)]
pub struct ComparisonsAbi<'a> {
    ids: TextAbi<'a>,
    prompts: TextAbi<'a>,
    a: TextAbi<'a>,
    b: TextAbi<'a>,
}

impl<'a> From<&Comparisons<'a>> for ComparisonsAbi<'a> {
    fn from(comparisons: &Comparisons<'a>) -> Self {
        Self {
            ids: comparisons.ids.into(),
            prompts: comparisons.prompts.into(),
            a: comparisons.a.into(),
            b: comparisons.b.into(),
        }
    }
}

impl<'a> ComparisonsAbi<'a> {
    /// The comparisons, their batches checked.
    fn receive(self) -> Result<Comparisons<'a>> {
        let comparisons = Comparisons {
            ids: self.ids.receive()?,
            prompts: self.prompts.receive()?,
            a: self.a.receive()?,
            b: self.b.receive()?,
        };
        let rows = comparisons.ids.rows();
        same_len("the batch of prompts", comparisons.prompts.rows(), rows)?;
        same_len("the batch of first responses", comparisons.a.rows(), rows)?;
        same_len("the batch of second responses", comparisons.b.rows(), rows)?;
        Ok(comparisons)
    }
}

/// Which [`Verdict`]; the host refuses a number that it does not know.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, StableAbi)]
pub struct VerdictAbi(pub u32);

impl VerdictAbi {
    const PREFERENCE: Self = Self(0);
    const TIE: Self = Self(1);
    const FAILED: Self = Self(2);
}

/// The host's sink. New calls are appended here, with a default body.
#[sabi_trait]
pub trait JudgeSinkAbi {
    /// The verdict on a row. `preference` is read for a preference only, `failure` for a failure only.
    #[sabi(last_prefix_field)]
    fn push(
        &mut self,
        row: u64,
        verdict: VerdictAbi,
        preference: f32,
        failure: RStr<'_>,
        reason: RStr<'_>,
    ) -> RResult<(), ErrorAbi>;

    /// The same, with an [`Origin`] as JSON; an empty text where there is none.
    fn push_with_origin(
        &mut self,
        row: u64,
        verdict: VerdictAbi,
        preference: f32,
        failure: RStr<'_>,
        reason: RStr<'_>,
        origin: RStr<'_>,
    ) -> RResult<(), ErrorAbi> {
        let _ = origin;
        self.push(row, verdict, preference, failure, reason)
    }
}

/// A [`Judge`].
#[sabi_trait]
pub trait JudgeAbi: Send + Sync {
    /// [`Capabilities`] of this instance as JSON.
    fn capabilities(&self) -> RResult<RString, ErrorAbi>;

    /// Pushes one verdict per row into the sink.
    #[sabi(last_prefix_field)]
    fn compare(
        &self,
        comparisons: ComparisonsAbi<'_>,
        sink: JudgeSinkAbi_TO<'_, RMut<'_, ()>>,
        context: ContextAbi<'_>,
    ) -> RResult<(), ErrorAbi>;

    /// The call's forecast as JSON; none where there is nothing to tell.
    fn forecast(
        &self,
        comparisons: ComparisonsAbi<'_>,
        context: ContextAbi<'_>,
    ) -> RResult<ROption<RString>, ErrorAbi> {
        let _ = (comparisons, context);
        RResult::ROk(RNone)
    }
}

/// The trait object that crosses.
pub type JudgeBox = JudgeAbi_TO<'static, RBox<()>>;

/// Plugin side: the host's sink as the author sees it.
struct RemoteSink<'a, 'b>(JudgeSinkAbi_TO<'a, RMut<'b, ()>>);

impl JudgeSink for RemoteSink<'_, '_> {
    fn push(&mut self, row: usize, verdict: Verdict, reason: &str) -> Result<()> {
        let (code, preference, failure) = crossing(&verdict);
        received(
            self.0
                .push(row as u64, code, preference, failure, reason.into()),
        )
    }

    fn push_with_origin(
        &mut self,
        row: usize,
        verdict: Verdict,
        reason: &str,
        origin: &Origin,
    ) -> Result<()> {
        let (code, preference, failure) = crossing(&verdict);
        let origin = origin::sent(origin)?;
        received(self.0.push_with_origin(
            row as u64,
            code,
            preference,
            failure,
            reason.into(),
            origin.as_rstr(),
        ))
    }
}

/// A verdict as it crosses: which, the preference, the failure.
fn crossing(verdict: &Verdict) -> (VerdictAbi, f32, RStr<'_>) {
    match verdict {
        Verdict::Preference(preference) => (VerdictAbi::PREFERENCE, *preference, RStr::empty()),
        Verdict::Tie => (VerdictAbi::TIE, 0.5, RStr::empty()),
        Verdict::Failed(failure) => (VerdictAbi::FAILED, 0.5, failure.as_str().into()),
    }
}

/// A verdict that came across.
fn crossed(verdict: VerdictAbi, preference: f32, failure: RStr<'_>) -> Result<Verdict> {
    Ok(match verdict {
        VerdictAbi::PREFERENCE => Verdict::Preference(preference),
        VerdictAbi::TIE => Verdict::Tie,
        VerdictAbi::FAILED => Verdict::Failed(failure.to_string()),
        VerdictAbi(code) => {
            let message = format!("pushed a verdict with the unknown code {code}");
            return Err(Error::new(ErrorCode::INVALID_OUTPUT, message));
        }
    })
}

/// Host side: a sink of the host as it crosses.
struct LocalSink<'a>(&'a mut dyn JudgeSink);

impl JudgeSinkAbi for LocalSink<'_> {
    fn push(
        &mut self,
        row: u64,
        verdict: VerdictAbi,
        preference: f32,
        failure: RStr<'_>,
        reason: RStr<'_>,
    ) -> RResult<(), ErrorAbi> {
        guarded(|| {
            let verdict = crossed(verdict, preference, failure)?;
            self.0.push(row as usize, verdict, reason.as_str())
        })
    }

    fn push_with_origin(
        &mut self,
        row: u64,
        verdict: VerdictAbi,
        preference: f32,
        failure: RStr<'_>,
        reason: RStr<'_>,
        origin: RStr<'_>,
    ) -> RResult<(), ErrorAbi> {
        guarded(|| {
            let (row, reason) = (row as usize, reason.as_str());
            let verdict = crossed(verdict, preference, failure)?;
            match origin::received(origin)? {
                Some(origin) => self.0.push_with_origin(row, verdict, reason, &origin),
                None => self.0.push(row, verdict, reason),
            }
        })
    }
}

/// Plugin side.
struct Adapter<T>(Instance<T>);

impl<T: Judge> JudgeAbi for Adapter<T> {
    fn capabilities(&self) -> RResult<RString, ErrorAbi> {
        guarded(|| options::to_json(&self.0.capabilities()))
    }

    fn compare(
        &self,
        comparisons: ComparisonsAbi<'_>,
        sink: JudgeSinkAbi_TO<'_, RMut<'_, ()>>,
        context: ContextAbi<'_>,
    ) -> RResult<(), ErrorAbi> {
        guarded(|| {
            let comparisons = comparisons.receive()?;
            context::receive(&context, |context| {
                self.0.compare(&comparisons, &mut RemoteSink(sink), context)
            })
        })
    }

    fn forecast(
        &self,
        comparisons: ComparisonsAbi<'_>,
        context: ContextAbi<'_>,
    ) -> RResult<ROption<RString>, ErrorAbi> {
        guarded(|| {
            let comparisons = comparisons.receive()?;
            let forecast =
                context::receive(&context, |context| self.0.forecast(&comparisons, context))?;
            Ok(forecast.as_ref().map(options::to_json).transpose()?.into())
        })
    }
}

extern "C" fn construct<T: Judge>(options: RStr<'_>) -> ResultAbi<JudgeBox> {
    guarded(|| {
        let instance = Instance::new(T::new(options::parse(options.as_str())?)?);
        Ok(JudgeBox::from_value(Adapter(instance), TD_Opaque))
    })
}

/// Plugin side: the entry of `T`.
pub(crate) fn entry<T: Judge>(descriptor: &Descriptor) -> Result<EntryAbi<JudgeBox>> {
    EntryAbi::new(descriptor, construct::<T>)
}

/// Host side: an instance of a judge, called with the author's types.
pub struct JudgeObject(pub JudgeBox);

impl JudgeObject {
    /// [`crate::Plugin::capabilities`].
    pub fn capabilities(&self) -> Result<Capabilities> {
        options::from_json(&received(self.0.capabilities())?)
    }

    /// [`Judge::compare`].
    pub fn compare(
        &self,
        comparisons: &Comparisons<'_>,
        sink: &mut dyn JudgeSink,
        context: &CallContext<'_>,
    ) -> Result<()> {
        let mut sink = LocalSink(sink);
        received(context::send(context, |context| {
            let sink = JudgeSinkAbi_TO::from_ptr(RMut::new(&mut sink), TD_Opaque);
            self.0.compare(comparisons.into(), sink, context)
        }))
    }

    /// [`Judge::forecast`]; `None` where the plugin was built before there were forecasts.
    pub fn forecast(
        &self,
        comparisons: &Comparisons<'_>,
        context: &CallContext<'_>,
    ) -> Result<Option<Forecast>> {
        let json: Option<RString> = received(context::send(context, |context| {
            self.0.forecast(comparisons.into(), context)
        }))?
        .into();
        json.map(|json| options::from_json(&json)).transpose()
    }
}

#[cfg(test)]
mod tests;
