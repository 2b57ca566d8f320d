//! Format `json`: an object with the whole edited response, or with `unchanged`.

use finegrain_sdk::serde::Deserialize;
use finegrain_sdk::serde::de::DeserializeOwned;
use finegrain_sdk::serde_json::{self, Value as Json, json};

use super::{Answer, Notes};
use crate::problem::{Problem, ProblemKind};
use crate::refusal;
use crate::wrappers::{Wrapper, without_fence};

/// The schema of an answer, in what all servers take of JSON schema: every key required, no others, no unions. `reason`
/// comes first, so that a model says what is wrong before it edits.
pub fn schema() -> Json {
    json!({
        "type": "object",
        "properties": {
            "reason": {"type": "string", "description": "What is wrong with the response, or why nothing is, in one sentence."},
            "unchanged": {"type": "boolean", "description": "Whether nothing is wrong with the response."},
            "edited": {"type": "string", "description": "The whole edited response; empty where unchanged is true."},
        },
        "required": ["reason", "unchanged", "edited"],
        "additionalProperties": false,
    })
}

/// An answer; what the schema requires may be left out where no server held the model to it.
#[derive(Deserialize)]
#[serde(crate = "finegrain_sdk::serde", deny_unknown_fields)]
struct Fields {
    reason: Option<String>,
    unchanged: Option<bool>,
    edited: Option<String>,
}

/// Reads an answer. `{"unchanged": true}` with no edited response (or with the response as it was) is no edit; an edited
/// response needs no `unchanged`.
pub(super) fn read(response: &str, answer: &str, notes: &mut Notes) -> Result<Answer, Problem> {
    let Some(fields) = object::<Fields>(answer, &mut notes.stripped)? else {
        return Ok(Answer::Refused(answer.to_owned()));
    };
    notes.reason = fields.reason.filter(|reason| !reason.trim().is_empty());
    let unchanged = fields.unchanged == Some(true);
    match fields.edited {
        Some(edited) if unchanged && !edited.is_empty() && edited != response => Err(Problem::new(
            ProblemKind::Contradiction,
            "`unchanged` is true, and `edited` is another text than the response",
            "You said that the response is unchanged and gave another one. Give one of the two.",
        )),
        _ if unchanged => Ok(Answer::Unchanged),
        Some(edited) => Ok(Answer::Whole(edited)),
        None => Err(Problem::new(
            ProblemKind::Json,
            "neither an edited response nor `unchanged`",
            "The JSON object must have \"edited\", or \"unchanged\": true.",
        )),
    }
}

/// An answer as JSON, in a code fence or not; `None` where it is none and refuses in prose.
pub(crate) fn object<T: DeserializeOwned>(
    answer: &str,
    stripped: &mut Vec<Wrapper>,
) -> Result<Option<T>, Problem> {
    let json = match without_fence(answer, &["", "json"]) {
        Some(inside) => {
            stripped.push(Wrapper::CodeFence);
            inside
        }
        None => answer,
    };
    match serde_json::from_str(json) {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_syntax() && refusal::refuses(answer) => Ok(None),
        Err(error) => Err(Problem::new(
            ProblemKind::Json,
            format!("not the JSON that was asked for: {error}"),
            format!("Your answer is not the JSON that was asked for ({error})."),
        )),
    }
}
