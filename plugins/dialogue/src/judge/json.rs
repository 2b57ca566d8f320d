//! A verdict as JSON: `{"reason": "…", "verdict": "A" | "B" | "tie"}`.

use finegrain_sdk::serde::Deserialize;
use finegrain_sdk::serde_json::{Value as Json, json};

use super::Choice;
use crate::edit::json::object;
use crate::problem::Problem;
use crate::wrappers::Wrapper;

/// The schema of an answer, in what all servers take of JSON schema. `reason` comes first, so that a model says why before
/// it chooses.
pub fn schema() -> Json {
    json!({
        "type": "object",
        "properties": {
            "reason": {"type": "string", "description": "The difference that decides, in at most three sentences."},
            "verdict": {"type": "string", "enum": Choice::ALL.map(Choice::name)},
        },
        "required": ["reason", "verdict"],
        "additionalProperties": false,
    })
}

#[derive(Deserialize)]
#[serde(crate = "finegrain_sdk::serde", deny_unknown_fields)]
struct Fields {
    #[serde(default)]
    reason: String,
    verdict: Choice,
}

/// A choice and its reason; `None` for a refusal in prose.
pub(super) fn read(
    answer: &str,
    stripped: &mut Vec<Wrapper>,
) -> Result<Option<(Choice, String)>, Problem> {
    let fields = object::<Fields>(answer, stripped)?;
    Ok(fields.map(|fields| (fields.verdict, fields.reason.trim().to_owned())))
}

pub(super) fn answer(choice: Choice, reason: &str) -> String {
    json!({"reason": reason, "verdict": choice.name()}).to_string()
}
