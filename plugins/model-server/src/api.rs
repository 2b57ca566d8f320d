//! The two APIs behind one type: how a question looks when it is sent, and how an answer is read.
//!
//! Reading is a function of the request and the response as they were kept, so that a better reading costs nothing.

mod address;
mod anthropic;
mod openai;
#[cfg(test)]
mod tests;

pub use address::Address;

use std::fmt::Write as _;

use anthropic::Anthropic;
use finegrain_sdk::serde_json::{self, Map, Value};
use finegrain_sdk::{Error, Result};
use openai::OpenAi;

use crate::options::{AnthropicOptions, OpenAiOptions, ServerOptions};
use crate::outcome::{Reply, Usage};
use crate::question::{Question, Turn};

/// An API, with the options that are its own.
#[derive(Clone, Debug)]
pub enum Api {
    /// Anthropic's Messages API.
    Anthropic(Anthropic),
    /// OpenAI's chat completions.
    OpenAi(OpenAi),
}

/// A question as it is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Body {
    /// The JSON. Its keys are sorted, but for those of a schema: servers write an answer's fields in the schema's order.
    pub json: Value,
    /// The same as text: the bytes that are sent.
    pub text: String,
    /// Whether the question's schema is in it.
    pub structured: bool,
    /// The limit of the answer's tokens that is in it.
    pub max_tokens: u32,
}

/// An answer, read.
#[derive(Clone, Debug, PartialEq)]
pub struct Read {
    /// What it says.
    pub reply: Reply,
    /// What it took, where the server counted.
    pub usage: Option<Usage>,
    /// The model that answered; empty where the server does not say.
    pub model: String,
}

impl Api {
    /// Where OpenAI's own server is.
    pub(crate) const OPENAI_ADDRESS: &'static str = "https://api.openai.com/v1";

    /// Anthropic's API with its options.
    pub fn anthropic(options: &AnthropicOptions) -> Self {
        Self::Anthropic(Anthropic {
            effort: options.effort,
            thinking: options.thinking,
        })
    }

    /// OpenAI's API with its options, at an address.
    pub fn openai(options: &OpenAiOptions, address: &Address) -> Self {
        Self::OpenAi(OpenAi {
            seed: options.seed,
            reasoning_effort: options.reasoning_effort.clone(),
            forms: openai::forms(
                options.length_field,
                options.json_schema,
                address.as_str() == Self::OPENAI_ADDRESS,
            ),
        })
    }

    /// The API's name in keys and records.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Anthropic(_) => anthropic::NAME,
            Self::OpenAi(_) => openai::NAME,
        }
    }

    /// The API's version in keys and records: what a header of a request says; empty where there is none.
    pub fn version(&self) -> &'static str {
        match self {
            Self::Anthropic(_) => anthropic::VERSION,
            Self::OpenAi(_) => "",
        }
    }

    /// The address of the company that made the API.
    pub(crate) fn own_address(&self) -> &'static str {
        match self {
            Self::Anthropic(_) => "https://api.anthropic.com",
            Self::OpenAi(_) => Self::OPENAI_ADDRESS,
        }
    }

    /// The environment variable in which that company's key usually is.
    pub(crate) fn own_key(&self) -> &'static str {
        match self {
            Self::Anthropic(_) => "ANTHROPIC_API_KEY",
            Self::OpenAi(_) => "OPENAI_API_KEY",
        }
    }

    /// The header with the key: its name, and what stands before the key.
    pub(crate) fn key_header(&self) -> (&'static str, &'static str) {
        match self {
            Self::Anthropic(_) => ("x-api-key", ""),
            Self::OpenAi(_) => ("authorization", "Bearer "),
        }
    }

    /// Headers beside the key and the content's type.
    pub(crate) fn headers(&self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Anthropic(_) => &[("anthropic-version", anthropic::VERSION)],
            Self::OpenAi(_) => &[],
        }
    }

    /// The whole address of the call.
    pub(crate) fn url(&self, address: &Address) -> String {
        match self {
            // Both spellings of a base address are in use.
            Self::Anthropic(_) if address.as_str().ends_with("/v1") => {
                format!("{}/messages", address.as_str())
            }
            Self::Anthropic(_) => format!("{}/v1/messages", address.as_str()),
            Self::OpenAi(_) => format!("{}/chat/completions", address.as_str()),
        }
    }

    /// Where the model can be looked up for free: itself at Anthropic's API, the list of all at OpenAI's.
    pub(crate) fn models_url(&self, address: &Address, model: &str) -> String {
        match self {
            Self::Anthropic(_) => {
                let messages = self.url(address);
                let base = messages.strip_suffix("/messages").unwrap_or(&messages);
                format!("{base}/models/{}", escaped(model))
            }
            Self::OpenAi(_) => format!("{}/models", address.as_str()),
        }
    }

    /// Where batches are; `None` where the API has none.
    pub(crate) fn batches_url(&self, address: &Address) -> Option<String> {
        match self {
            Self::Anthropic(_) => Some(format!("{}/batches", self.url(address))),
            Self::OpenAi(_) => None,
        }
    }

    /// In how many forms a body can be sent; form 0 is tried first.
    pub fn forms(&self) -> usize {
        match self {
            Self::Anthropic(_) => 1,
            Self::OpenAi(api) => api.forms.len(),
        }
    }

    /// The form to go on with where the server has refused a field of form `form` by name.
    pub(crate) fn form_after(&self, form: usize, status: u16, response: &str) -> Option<usize> {
        match self {
            Self::Anthropic(_) => None,
            Self::OpenAi(api) => api.form_after(form, status, response),
        }
    }

    /// A question as it is sent, in form `form`.
    ///
    /// # Errors
    /// No system text, or turns that do not begin and end with the user in turn.
    pub fn body(&self, question: &Question, options: &ServerOptions, form: usize) -> Result<Body> {
        check(question)?;
        let max_tokens = question.max_tokens.unwrap_or(options.max_tokens);
        let (json, structured) = match self {
            Self::Anthropic(api) => api.body(question, options, max_tokens),
            Self::OpenAi(api) => api.body(question, options, max_tokens, form),
        };
        let json = Value::Object(json);
        Ok(Body {
            text: json.to_string(),
            json,
            structured,
            max_tokens,
        })
    }

    /// The response as JSON, where it is an answer of this API and whole.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn envelope(&self, response: &str) -> std::result::Result<Value, String> {
        let value: Value = serde_json::from_str(response)
            .map_err(|error| format!("the answer is no JSON ({error}): {}", shorten(response)))?;
        let lacks = match self {
            Self::Anthropic(_) => anthropic::lacks(&value),
            Self::OpenAi(_) => openai::lacks(&value),
        };
        match lacks {
            None => Ok(value),
            Some(what) => Err(format!("the answer has no {what}: {}", shorten(response))),
        }
    }

    /// Reads a response that has passed [`Api::envelope`]; `request` is the body as it was sent.
    pub fn read(&self, request: &Value, response: &Value) -> Read {
        match self {
            Self::Anthropic(_) => anthropic::read(response),
            Self::OpenAi(_) => openai::read(request, response),
        }
    }

    /// The tier of service that a response names.
    pub(crate) fn tier(response: &Value) -> Option<&str> {
        let places = [
            &response["usage"]["service_tier"],
            &response["service_tier"],
        ];
        places.into_iter().find_map(Value::as_str)
    }
}

/// Reads a response that is kept, by the name of its API.
///
/// # Errors
/// An API that is none of these, or a response that is none of its answers, in words.
pub fn read_kept(api: &str, request: &Value, response: &str) -> std::result::Result<Read, String> {
    let response: Value = serde_json::from_str(response).map_err(|error| error.to_string())?;
    match api {
        anthropic::NAME => Ok(anthropic::read(&response)),
        openai::NAME => Ok(openai::read(request, &response)),
        other => Err(format!("the API {other:?} is not known")),
    }
}

/// Refuses a question that no API takes.
fn check(question: &Question) -> Result<()> {
    let refuse = |what: &str| Err(Error::input(format!("question {:?}: {what}", question.id)));
    if question.system.trim().is_empty() {
        return refuse("the system text is empty; servers put a text of their own in its place");
    }
    let in_turn = question
        .turns
        .iter()
        .enumerate()
        .all(|(i, turn)| matches!(turn, Turn::User(_)) == (i % 2 == 0));
    if !in_turn || question.turns.len().is_multiple_of(2) {
        return refuse("the turns must begin and end with the user, who and the model take turns");
    }
    Ok(())
}

/// The turns as messages, which both APIs write alike.
fn messages(question: &Question) -> impl Iterator<Item = Value> {
    question.turns.iter().map(|turn| match turn {
        Turn::User(text) => message("user", text),
        Turn::Assistant(text) => message("assistant", text),
    })
}

fn message(role: &str, text: &str) -> Value {
    object([("content", Value::from(text)), ("role", Value::from(role))]).into()
}

/// An object with its keys as they are given, which is in order.
fn object<const N: usize>(fields: [(&str, Value); N]) -> Map<String, Value> {
    fields
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

/// A name as a part of a path: everything but letters, digits, `-`, `.`, `_` and `~` in percent signs.
fn escaped(name: &str) -> String {
    let mut path = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            path.push(byte.into());
        } else {
            // Writing into a text cannot fail.
            let _ = write!(path, "%{byte:02X}");
        }
    }
    path
}

/// The beginning of a text, for a message.
pub(crate) fn shorten(text: &str) -> String {
    const SHOWN: usize = 300;
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
