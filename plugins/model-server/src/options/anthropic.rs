//! What Anthropic's Messages API has of its own.

use finegrain_sdk::schemars::JsonSchema;
use finegrain_sdk::serde::{Deserialize, Serialize};

/// How much work a model puts into an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(crate = "finegrain_sdk::serde", rename_all = "lowercase")]
#[schemars(crate = "finegrain_sdk::schemars")]
pub enum Effort {
    /// The least.
    Low,
    /// Between low and high.
    Medium,
    /// The default of most models.
    High,
    /// More than high.
    Xhigh,
    /// All there is.
    Max,
}

/// Whether a model thinks before it answers. Thinking is billed as output and counts toward `max_tokens`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(crate = "finegrain_sdk::serde", rename_all = "snake_case")]
#[schemars(crate = "finegrain_sdk::schemars")]
pub enum Thinking {
    /// As much as the question asks for.
    Adaptive,
    /// Not at all; some models refuse this.
    Disabled,
    /// Only between calls of tools, which is never here: off, for the models that refuse `disabled`.
    BetweenTools,
}

/// Options for Anthropic's Messages API alone; to be flattened into a plugin's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(crate = "finegrain_sdk::serde", default)]
#[schemars(crate = "finegrain_sdk::schemars")]
pub struct AnthropicOptions {
    /// How much work the model puts into an answer; not sent unless set.
    pub effort: Option<Effort>,
    /// Whether the model thinks first; not sent unless set.
    pub thinking: Option<Thinking>,
    /// Whether questions go in batches, for half the price: most are answered within the hour, all within a day. A call that is
    /// interrupted leaves its batch at work, and the same command takes its answers.
    pub batch: bool,
    /// The most seconds between two looks at a batch.
    #[schemars(range(min = 1, max = 3600))]
    pub batch_poll_seconds: u32,
}

impl Default for AnthropicOptions {
    fn default() -> Self {
        Self {
            effort: None,
            thinking: None,
            batch: false,
            batch_poll_seconds: 60,
        }
    }
}
