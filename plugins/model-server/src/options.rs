//! What a user may set: what both APIs share, and what each has of its own.
//!
//! A plugin takes two of them into its own options, side by side, each with `#[serde(flatten)]`: [`ServerOptions`], and
//! [`AnthropicOptions`] or [`OpenAiOptions`]. The outer struct keeps `deny_unknown_fields`. Neither may hold the other: serde
//! refuses the keys of a flattened struct within a flattened struct as unknown.

mod anthropic;
mod openai;
#[cfg(test)]
mod tests;

pub use anthropic::{AnthropicOptions, Effort, Thinking};
pub use openai::{Length, OpenAiOptions, StructuredOutput};

use finegrain_sdk::schemars::JsonSchema;
use finegrain_sdk::serde::{Deserialize, Serialize};

/// What both APIs share. The key itself is no option: it would stand in configurations, reports and stores.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(crate = "finegrain_sdk::serde", default)]
#[schemars(crate = "finegrain_sdk::schemars")]
pub struct ServerOptions {
    /// The model's name as the server knows it (required).
    pub model: String,
    /// Where the server is, without the path of the call: `http://127.0.0.1:8080/v1`. Empty for the API's own address.
    pub base_url: String,
    /// The environment variable that holds the key. Empty for the API's usual one at the API's own address, and for no key
    /// at any other: a key is not sent to a server that it was not meant for.
    pub api_key_env: String,
    /// The most tokens of an answer, thinking included. An answer that reaches it is asked once more with twice as many.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_tokens: u32,
    /// Sampling temperature; not sent unless set, for current models refuse it.
    #[schemars(range(min = 0.0, max = 2.0))]
    pub temperature: Option<f64>,
    /// The most requests under way at once; no CPU threads are meant. It is reached from 20 as the server allows.
    #[schemars(range(min = 1, max = 256))]
    pub concurrency: u32,
    /// The most requests a minute, where the account has such a limit.
    #[schemars(range(min = 1))]
    pub requests_per_minute: Option<u32>,
    /// The most tokens a minute, in and out together, where the account has such a limit.
    #[schemars(range(min = 1))]
    pub tokens_per_minute: Option<u64>,
    /// How long to wait for an answer, in seconds. One that is given up may be paid all the same.
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_seconds: u32,
    /// The most that the answers may cost, in US dollars, those included that earlier runs have paid. Needs a price.
    #[schemars(range(min = 0.0, max = 1_000_000.0))]
    pub budget_usd: Option<f64>,
    /// A TOML file of prices that go before the built-in ones.
    pub prices: Option<String>,
    /// A PEM file of root certificates instead of the built-in ones, for a company's proxy.
    pub ca_file: Option<String>,
    /// Ask nothing: an answer that is not kept is an error.
    pub replay: bool,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            model: String::new(),
            base_url: String::new(),
            api_key_env: String::new(),
            // Room for thinking, which current models do by default and which counts; 1024 starves them.
            max_tokens: 4096,
            temperature: None,
            concurrency: 64,
            requests_per_minute: None,
            tokens_per_minute: None,
            // Anthropic's own clients wait this long; a server that works for 85 s is common.
            timeout_seconds: 600,
            budget_usd: None,
            prices: None,
            ca_file: None,
            replay: false,
        }
    }
}
