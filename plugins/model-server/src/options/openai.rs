//! What servers with OpenAI's chat completions have of their own.

use finegrain_sdk::schemars::JsonSchema;
use finegrain_sdk::serde::{Deserialize, Serialize};

/// The field that bounds an answer's length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(crate = "finegrain_sdk::serde", rename_all = "snake_case")]
#[schemars(crate = "finegrain_sdk::schemars")]
pub enum Length {
    /// `max_completion_tokens` at OpenAI and `max_tokens` elsewhere; the other one where the server refuses it by name.
    #[default]
    Auto,
    /// `max_tokens`, the only one that Ollama and LM Studio know.
    MaxTokens,
    /// `max_completion_tokens`, the only one that OpenAI's reasoning models take.
    MaxCompletionTokens,
}

/// Whether a question's JSON schema is sent, so that the server holds the model to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(crate = "finegrain_sdk::serde", rename_all = "snake_case")]
#[schemars(crate = "finegrain_sdk::schemars")]
pub enum StructuredOutput {
    /// Sent, until the server refuses it by name.
    #[default]
    Auto,
    /// Always sent.
    On,
    /// Never sent.
    Off,
}

/// Options for servers with OpenAI's chat completions alone; to be flattened into a plugin's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(crate = "finegrain_sdk::serde", default)]
#[schemars(crate = "finegrain_sdk::schemars")]
pub struct OpenAiOptions {
    /// The server's own seed for sampling; not sent unless set.
    pub seed: Option<i64>,
    /// How hard a reasoning model works, in the server's own words (`low`, `medium`, `high`); not sent unless set.
    pub reasoning_effort: Option<String>,
    /// Which field bounds an answer's length.
    pub length_field: Length,
    /// Whether JSON schemas are sent.
    pub json_schema: StructuredOutput,
}
