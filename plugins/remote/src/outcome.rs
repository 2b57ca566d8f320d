//! Which failures of a row are answers, and which are not.

use finegrain_model_server::FailureKind;

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
