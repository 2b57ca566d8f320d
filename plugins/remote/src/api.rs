//! The two APIs, as far as they tell plugins apart: names, options of their own, and what is said of them.

use std::fmt;

use finegrain_model_server::Server;
use finegrain_model_server::options::{AnthropicOptions, OpenAiOptions, ServerOptions};
use finegrain_sdk::Result;
use finegrain_sdk::schemars::JsonSchema;
use finegrain_sdk::serde::Serialize;
use finegrain_sdk::serde::de::DeserializeOwned;

/// An API behind which an editor or a judge may be.
pub trait Api: fmt::Debug + Send + Sync + 'static {
    /// The name of its plugins in a configuration.
    const NAME: &'static str;

    /// Who answers, for a plugin's summary: "by …".
    const MODEL: &'static str;

    /// Where the account's key comes from, in a sentence.
    const KEY: &'static str;

    /// Options that make an example, as TOML.
    const EXAMPLE: &'static str;

    /// What it has of its own.
    type Options: fmt::Debug
        + Clone
        + PartialEq
        + Default
        + DeserializeOwned
        + Serialize
        + JsonSchema;

    /// A server behind it; `plugin` is the asking plugin's name, for records.
    ///
    /// # Errors
    /// Options that cannot be used.
    fn server(plugin: &str, shared: &ServerOptions, own: &Self::Options) -> Result<Server>;
}

/// Anthropic's Messages API.
#[derive(Debug)]
pub struct Anthropic;

impl Api for Anthropic {
    const NAME: &'static str = "claude";
    const MODEL: &'static str = "a Claude model, over Anthropic's Messages API";
    const KEY: &'static str = "The key comes from the environment (ANTHROPIC_API_KEY, or the variable that api_key_env names), never from a configuration.";
    const EXAMPLE: &'static str = "{ model = \"claude-haiku-5-5\", budget_usd = 5.0 }";

    type Options = AnthropicOptions;

    fn server(plugin: &str, shared: &ServerOptions, own: &AnthropicOptions) -> Result<Server> {
        Server::anthropic(plugin, shared, own)
    }
}

/// OpenAI's chat completions.
#[derive(Debug)]
pub struct OpenAi;

impl Api for OpenAi {
    const NAME: &'static str = "openai";
    const MODEL: &'static str =
        "a model behind OpenAI's chat completions: OpenAI, vLLM, llama.cpp, Ollama, LM Studio";
    const KEY: &'static str = "At a server of your own no key is sent unless api_key_env names a variable; at OpenAI it is OPENAI_API_KEY.";
    const EXAMPLE: &'static str =
        "{ model = \"qwen3-8b\", base_url = \"http://127.0.0.1:8080/v1\" }";

    type Options = OpenAiOptions;

    fn server(plugin: &str, shared: &ServerOptions, own: &OpenAiOptions) -> Result<Server> {
        Server::openai(plugin, shared, own)
    }
}
