//! What an HTTP reply means for the row, for everyone and for the call. The tables are those of the APIs' documentation;
//! what servers beside them do is matched on status, code and words together.

use std::time::{Duration, SystemTime};

use finegrain_sdk::serde_json::Value;
use ureq::http::HeaderMap;

use crate::api::Api;
use crate::error_body::ErrorBody;
use crate::outcome::{Failure, FailureKind};
use crate::retry_after::{text, wait};

/// A wait longer than this ends the call: nobody sits in front of it.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_hours(1);

/// What a reply means.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// An answer, whole: to be kept, then read.
    Answer(Value),
    /// The row fails; nothing was paid.
    Row(Failure),
    /// The call ends; nothing was paid.
    Stop(String),
    /// Everyone waits, this long where the server says so; nothing was paid.
    PauseAll(Option<Duration>, String),
    /// This row is asked again later.
    Retry {
        /// How long the server says to wait.
        after: Option<Duration>,
        /// Whether the answer that was lost may be paid.
        paid: bool,
        /// Whether the body was an answer that cannot be read, and not an error.
        unreadable: bool,
        /// What was seen.
        seen: String,
    },
}

/// What a reply with `status`, `headers` and `body` from `url` means, seen at `now`.
pub(crate) fn verdict(
    api: &Api,
    url: &str,
    status: u16,
    headers: &HeaderMap,
    body: &str,
    now: SystemTime,
) -> Verdict {
    if status == 200 {
        return match api.envelope(body) {
            Ok(value) => Verdict::Answer(value),
            Err(seen) => Verdict::Retry {
                after: None,
                paid: true,
                unreadable: true,
                seen,
            },
        };
    }
    let error = ErrorBody::parse(body);
    let said = words(status, headers, &error);
    let retry = |paid| Verdict::Retry {
        after: wait(headers, now),
        paid,
        unreadable: false,
        seen: said.clone(),
    };
    let row = |kind| Verdict::Row(Failure::new(kind, said.clone()));
    if spent(&error) {
        return Verdict::Stop(format!("the account has no money left: {said}"));
    }
    match text(headers, "x-should-retry") {
        Some("true") if matches!(status, 400 | 408 | 409 | 422 | 500..) => {
            return retry(gave_up(status));
        }
        Some("false") if matches!(status, 408 | 409 | 500..) => return row(FailureKind::Rejected),
        _ => {}
    }
    match status {
        300..400 => Verdict::Stop(format!(
            "{url} answers {status} and points elsewhere ({}), which is not followed, for the key would travel along; put the \
             right address into base_url",
            text(headers, "location").unwrap_or("no location")
        )),
        400 | 422 if cut_upload(&error) => retry(false),
        400 | 422 if overflow(&error) => row(FailureKind::TooLong),
        401 | 403 => Verdict::Stop(format!("{url} refuses the key: {said}")),
        402 => Verdict::Stop(format!("{url} asks for payment: {said}")),
        404 => Verdict::Stop(format!("{url} knows no such model or no such path: {said}")),
        413 => row(FailureKind::TooLarge),
        429 if over_limit(&error) => row(FailureKind::OverLimit),
        429 => match wait(headers, now) {
            Some(wait) if wait > LONGEST_WAIT => Verdict::Stop(format!(
                "{url} says to wait {} minutes: {said}",
                wait.as_secs() / 60
            )),
            wait => Verdict::PauseAll(wait, said),
        },
        408 | 409 | 500.. => retry(gave_up(status)),
        _ => row(FailureKind::Rejected),
    }
}

/// Status and words, as they came.
fn words(status: u16, headers: &HeaderMap, error: &ErrorBody) -> String {
    let mut said = format!("HTTP {status}");
    for part in [&error.kind, &error.code, &error.message] {
        if !part.is_empty() {
            said += " · ";
            said += part;
        }
    }
    let id = text(headers, "request-id")
        .or_else(|| text(headers, "x-request-id"))
        .or(error.request_id.as_deref());
    if let Some(id) = id {
        said += " (request ";
        said += id;
        said += ")";
    }
    said
}

/// Whoever gave up waiting may have left a model at work behind it.
fn gave_up(status: u16) -> bool {
    matches!(status, 408 | 502 | 504 | 522 | 524)
}

/// No money, in the words of both APIs; under 400 as under 429, where waiting cures nothing.
fn spent(error: &ErrorBody) -> bool {
    matches!(
        &*error.code,
        "enforced_spend_limit_reached" | "insufficient_quota" | "billing_hard_limit_reached"
    ) || error.kind == "insufficient_quota"
        || error.says(&["credit balance is too low", "spend limit", "spending limit"])
}

/// The question does not fit the context.
fn overflow(error: &ErrorBody) -> bool {
    error.code == "context_length_exceeded"
        || error.kind == "exceed_context_size_error"
        || error.says(&[
            "prompt is too long",
            "input is too long",
            "exceed context limit",
            "maximum context length",
            "max_tokens must be at least 1, got -",
        ])
}

/// The body was cut on its way to the server.
fn cut_upload(error: &ErrorBody) -> bool {
    error.says(&["not valid json"]) && error.says(&["unexpected end of data"])
}

/// The row alone is more than a minute's limit: waiting does not help it.
fn over_limit(error: &ErrorBody) -> bool {
    error.says(&["request too large"]) && error.says(&["tokens per min", "requested"])
}

#[cfg(test)]
mod tests;
