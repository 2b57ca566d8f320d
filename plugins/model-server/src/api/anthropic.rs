//! Anthropic's Messages API.

use finegrain_sdk::serde_json::{Map, Value};

use super::{Read, messages, object};
use crate::options::{Effort, ServerOptions, Thinking};
use crate::outcome::{Failure, FailureKind, Reply, Usage};
use crate::question::Question;

/// Its name in keys and records.
pub(super) const NAME: &str = "anthropic-messages";
/// The header `anthropic-version`.
pub(super) const VERSION: &str = "2023-06-01";

/// What is this API's own.
#[derive(Clone, Debug)]
pub struct Anthropic {
    pub(super) effort: Option<Effort>,
    pub(super) thinking: Option<Thinking>,
}

impl Anthropic {
    /// The body, and whether it holds a schema. Nothing is in it that was not set: current models refuse a temperature,
    /// and a turn of the assistant at the end.
    pub(super) fn body(
        &self,
        question: &Question,
        options: &ServerOptions,
        max_tokens: u32,
    ) -> (Map<String, Value>, bool) {
        let mut body = object([
            ("max_tokens", Value::from(max_tokens)),
            ("messages", messages(question).collect()),
            ("model", Value::from(options.model.as_str())),
        ]);
        let mut config = Map::new();
        if let Some(effort) = self.effort {
            config.insert("effort".to_owned(), Value::from(effort_name(effort)));
        }
        if let Some(schema) = &question.schema {
            let format = object([
                ("schema", schema.schema.clone()),
                ("type", Value::from("json_schema")),
            ]);
            config.insert("format".to_owned(), format.into());
        }
        if !config.is_empty() {
            body.insert("output_config".to_owned(), config.into());
        }
        body.insert("system".to_owned(), Value::from(question.system.as_str()));
        if let Some(temperature) = options.temperature {
            body.insert("temperature".to_owned(), Value::from(temperature));
        }
        if let Some(thinking) = self.thinking {
            let kind = object([("type", Value::from(thinking_name(thinking)))]);
            body.insert("thinking".to_owned(), kind.into());
        }
        (body, question.schema.is_some())
    }
}

fn effort_name(effort: Effort) -> &'static str {
    match effort {
        Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::High => "high",
        Effort::Xhigh => "xhigh",
        Effort::Max => "max",
    }
}

fn thinking_name(thinking: Thinking) -> &'static str {
    match thinking {
        Thinking::Adaptive => "adaptive",
        Thinking::Disabled => "disabled",
        Thinking::BetweenTools => "between_tools",
    }
}

/// What a response lacks to be a whole answer.
pub(super) fn lacks(response: &Value) -> Option<&'static str> {
    if !response["content"].is_array() {
        return Some("list `content`");
    }
    if usage(response).is_none() {
        return Some("`usage` with input_tokens and output_tokens");
    }
    None
}

/// Reads an answer. The text is all text blocks joined: thinking comes first, and there may be several.
pub(super) fn read(response: &Value) -> Read {
    let text: String = response["content"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|block| block["type"] == "text")
        .filter_map(|block| block["text"].as_str())
        .collect();
    let unusable = |kind, detail: &str| Reply::Unusable(Failure::new(kind, detail));
    let reply = match response["stop_reason"].as_str() {
        Some("end_turn" | "stop_sequence") if text.trim().is_empty() => {
            unusable(FailureKind::Empty, "")
        }
        Some("end_turn" | "stop_sequence") => Reply::Text(text),
        Some("max_tokens") => unusable(FailureKind::CutOff, ""),
        Some("refusal") => {
            let details = &response["stop_details"];
            let said = |key: &str| details[key].as_str().filter(|text| !text.is_empty());
            Reply::Refused {
                category: said("category").unwrap_or("unnamed").to_owned(),
                explanation: said("explanation").unwrap_or_default().to_owned(),
            }
        }
        Some("model_context_window_exceeded") => unusable(FailureKind::ContextFull, ""),
        Some(other) => unusable(
            FailureKind::UnknownStop,
            &format!("stop_reason = {other:?}"),
        ),
        None => unusable(FailureKind::UnknownStop, "no stop_reason"),
    };
    Read {
        reply,
        usage: usage(response),
        model: response["model"].as_str().unwrap_or_default().to_owned(),
    }
}

/// Tokens; those of the cache count as input.
fn usage(response: &Value) -> Option<Usage> {
    let usage = &response["usage"];
    let count = |key: &str| usage[key].as_u64();
    let (cache_read, cache_write) = (
        count("cache_read_input_tokens").unwrap_or(0),
        count("cache_creation_input_tokens").unwrap_or(0),
    );
    Some(Usage {
        input: count("input_tokens")?
            .saturating_add(cache_read)
            .saturating_add(cache_write),
        cache_read,
        cache_write,
        output: count("output_tokens")?,
    })
}
