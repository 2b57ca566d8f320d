//! What the host is told of a row beside its outcome: where that came from, and which failures are answers.

use finegrain_model_server::{Answer, FailureKind, Reply, Settled, Usd};
use finegrain_sdk::kinds::Origin;

/// Where the end of a row came from; `None` where nothing was answered. `problem` says why a text cannot be used, where it
/// cannot.
pub(crate) fn origin(
    settled: &Settled,
    problem: impl Fn(&str) -> Option<String>,
) -> Option<Origin> {
    let tries = &settled.tries;
    let last = tries.last()?;
    let sum = |of: fn(&Answer) -> Option<u64>| {
        tries
            .iter()
            .try_fold(0_u64, |sum, answer| Some(sum.saturating_add(of(answer)?)))
    };
    let rejected = |answer: &Answer| match &answer.reply {
        Reply::Text(text) => problem(text),
        Reply::Unusable(failure) => Some(failure.to_string()),
        Reply::Refused { .. } => None,
    };
    Some(Origin {
        model: last.model.clone(),
        requests: tries
            .iter()
            .filter_map(|answer| answer.request_id.clone())
            .collect(),
        input_tokens: sum(|answer| answer.usage.map(|usage| usage.input)),
        output_tokens: sum(|answer| answer.usage.map(|usage| usage.output)),
        picodollars: sum(|answer| answer.usd.map(Usd::pico)),
        tries: u32::try_from(tries.len()).unwrap_or(u32::MAX),
        rejected: tries.iter().filter_map(rejected).collect(),
    })
}

/// Whether the server answered, though with nothing that can be used: such an answer is kept, and asking again would bring the
/// same one. Everything else failed on the way and is asked again by the next run.
pub(crate) fn is_answer(kind: FailureKind) -> bool {
    match kind {
        FailureKind::CutOff
        | FailureKind::Empty
        | FailureKind::ContextFull
        | FailureKind::UnknownStop
        | FailureKind::QuestionCut
        | FailureKind::ThinkingInText
        | FailureKind::NoText
        | FailureKind::AskedTwice => true,
        FailureKind::Rejected
        | FailureKind::TooLong
        | FailureKind::TooLarge
        | FailureKind::OverLimit
        | FailureKind::Unreadable
        | FailureKind::Unavailable
        | FailureKind::RateLimited
        | FailureKind::Panicked => false,
    }
}
