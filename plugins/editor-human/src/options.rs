//! Where the edits are, what their fields are called, and what to do with several edits of one response.

use finegrain_sdk::schemars::JsonSchema;
use finegrain_sdk::serde::{Deserialize, Serialize};

/// How a line of the file finds its request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(crate = "finegrain_sdk::serde", rename_all = "kebab-case")]
#[schemars(crate = "finegrain_sdk::schemars")]
pub enum MatchBy {
    /// By the id of the request. Where a line also has a response, it must be the request's.
    #[default]
    Id,
    /// By prompt and response, byte for byte.
    Text,
}

/// What to do where several lines edit the same response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(crate = "finegrain_sdk::serde", rename_all = "kebab-case")]
#[schemars(crate = "finegrain_sdk::schemars")]
pub enum Repeats {
    /// Refuse the file, naming the lines.
    #[default]
    Refuse,
    /// The first line in the file.
    First,
    /// The last line in the file.
    Last,
    /// One of them, drawn from the seed and the id of the request: the same one however requests are grouped.
    Random,
}

/// Options of `human`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(crate = "finegrain_sdk::serde", deny_unknown_fields, default)]
#[schemars(crate = "finegrain_sdk::schemars")]
pub struct Options {
    /// The JSONL file (required); a relative path starts at the working directory.
    pub path: String,
    /// How a line finds its request: `id`, or `text` for prompt and response.
    pub match_by: MatchBy,
    /// What to do where several lines edit the same response.
    pub repeats: Repeats,
    /// The field with the id of the request; a text or a whole number.
    pub id_field: String,
    /// The field with the prompt.
    pub prompt_field: String,
    /// The field with the response as it was.
    pub response_field: String,
    /// The field with the edited response; null where the annotator skipped it.
    pub edited_field: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            path: String::new(),
            match_by: MatchBy::Id,
            repeats: Repeats::Refuse,
            id_field: "id".to_owned(),
            prompt_field: "prompt".to_owned(),
            response_field: "response".to_owned(),
            edited_field: "edited".to_owned(),
        }
    }
}
