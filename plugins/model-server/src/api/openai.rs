//! OpenAI's chat completions, as OpenAI, vLLM, llama.cpp, Ollama and LM Studio serve them.

use finegrain_sdk::serde_json::{Map, Value};

use super::{Read, message, messages, object};
use crate::error_body::ErrorBody;
use crate::estimate;
use crate::options::{Length, ServerOptions, StructuredOutput};
use crate::outcome::{Failure, FailureKind, Reply, Usage};
use crate::question::Question;

/// Its name in keys and records.
pub(super) const NAME: &str = "openai-chat";

/// A question whose tokens a server counts below this share of our estimate was cut. Ollama does so without a word.
const CUT_SHARE: f64 = 0.7;
/// Questions with fewer tokens than this, by estimate, are not looked at: no server has a context so small.
const CUT_FROM: u64 = 1000;

/// One way to write a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    /// `max_completion_tokens`, and not `max_tokens`.
    completion: bool,
    /// A schema is sent where the question has one.
    schema: bool,
}

/// What is this API's own.
#[derive(Clone, Debug)]
pub struct OpenAi {
    pub(super) seed: Option<i64>,
    pub(super) reasoning_effort: Option<String>,
    pub(super) forms: Vec<Form>,
}

/// The forms that the options allow, the likeliest first.
pub(super) fn forms(length: Length, schema: StructuredOutput, at_openai: bool) -> Vec<Form> {
    let completion: &[bool] = match length {
        Length::Auto if at_openai => &[true, false],
        Length::Auto => &[false, true],
        Length::MaxTokens => &[false],
        Length::MaxCompletionTokens => &[true],
    };
    let schema: &[bool] = match schema {
        StructuredOutput::Auto => &[true, false],
        StructuredOutput::On => &[true],
        StructuredOutput::Off => &[false],
    };
    schema
        .iter()
        .flat_map(|&schema| {
            completion
                .iter()
                .map(move |&completion| Form { completion, schema })
        })
        .collect()
}

impl OpenAi {
    /// The body in a form, and whether it holds a schema.
    pub(super) fn body(
        &self,
        question: &Question,
        options: &ServerOptions,
        max_tokens: u32,
        form: usize,
    ) -> (Map<String, Value>, bool) {
        let form = self.forms[form];
        let length = if form.completion {
            "max_completion_tokens"
        } else {
            "max_tokens"
        };
        let system = std::iter::once(message("system", &question.system));
        let mut body = object([
            (length, Value::from(max_tokens)),
            ("messages", system.chain(messages(question)).collect()),
            ("model", Value::from(options.model.as_str())),
        ]);
        if let Some(effort) = &self.reasoning_effort {
            body.insert("reasoning_effort".to_owned(), Value::from(effort.as_str()));
        }
        let schema = question.schema.as_ref().filter(|_| form.schema);
        if let Some(schema) = schema {
            let inner = object([
                ("name", Value::from(schema.name.as_str())),
                ("schema", schema.schema.clone()),
                ("strict", Value::from(true)),
            ]);
            let format = object([
                ("json_schema", inner.into()),
                ("type", Value::from("json_schema")),
            ]);
            body.insert("response_format".to_owned(), format.into());
        }
        if let Some(seed) = self.seed {
            // With one seed for all of them, samples would be the same.
            let seed = seed.wrapping_add(question.sample.into());
            body.insert("seed".to_owned(), Value::from(seed));
        }
        if let Some(temperature) = options.temperature {
            body.insert("temperature".to_owned(), Value::from(temperature));
        }
        (body, schema.is_some())
    }

    /// The form to go on with after a refusal, where it names a field that another form does without.
    pub(super) fn form_after(&self, form: usize, status: u16, response: &str) -> Option<usize> {
        if !matches!(status, 400 | 422) {
            return None;
        }
        let now = self.forms[form];
        let error = ErrorBody::parse(response);
        let names = |field: &str| error.param == field || error.message.contains(field);
        let next = if names("response_format") || names("json_schema") {
            Form {
                schema: false,
                ..now
            }
        } else if names("max_tokens") || names("max_completion_tokens") {
            // A complaint about the limit's value names the field too, and no other form cures it.
            let unknown = error.code == "unsupported_parameter"
                || ["unsupported", "not supported", "unknown", "unrecognized"]
                    .iter()
                    .any(|word| error.message.to_lowercase().contains(word));
            if !unknown {
                return None;
            }
            Form {
                completion: !now.completion,
                ..now
            }
        } else {
            return None;
        };
        // Only onward: a server that refuses both forms is not asked in a circle.
        self.forms[form + 1..]
            .iter()
            .position(|&other| other == next)
            .map(|further| form + 1 + further)
    }
}

/// What a response lacks to be a whole answer.
pub(super) fn lacks(response: &Value) -> Option<&'static str> {
    let choice = &response["choices"][0];
    if !choice["message"].is_object() {
        return Some("`choices` with a message");
    }
    None
}

/// Reads an answer.
pub(super) fn read(request: &Value, response: &Value) -> Read {
    let choice = &response["choices"][0];
    let usage = usage(response);
    Read {
        reply: cut(request, usage).unwrap_or_else(|| reply(choice)),
        usage,
        model: response["model"].as_str().unwrap_or_default().to_owned(),
    }
}

fn reply(choice: &Value) -> Reply {
    let message = &choice["message"];
    if let Some(refusal) = message["refusal"].as_str().filter(|text| !text.is_empty()) {
        return Reply::Refused {
            category: "refusal".to_owned(),
            explanation: refusal.to_owned(),
        };
    }
    match choice["finish_reason"].as_str() {
        Some("stop") => text(&content(message)),
        Some("length") => Reply::Unusable(Failure::new(FailureKind::CutOff, "")),
        Some("content_filter") => Reply::Refused {
            category: "content_filter".to_owned(),
            explanation: String::new(),
        },
        Some(other) => Reply::Unusable(Failure::new(
            FailureKind::UnknownStop,
            format!("finish_reason = {other:?}"),
        )),
        None => Reply::Unusable(Failure::new(FailureKind::UnknownStop, "no finish_reason")),
    }
}

/// The text of a message: a text, or a list of parts.
fn content(message: &Value) -> String {
    match &message["content"] {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts
            .iter()
            .filter_map(|part| part["text"].as_str())
            .collect(),
        _ => String::new(),
    }
}

/// A text without the thinking at its beginning, which reasoning servers write into it.
fn text(content: &str) -> Reply {
    const OPEN: &str = "<think>";
    const CLOSE: &str = "</think>";
    let failed = |what: &str| Reply::Unusable(Failure::new(FailureKind::ThinkingInText, what));
    let text = match content.trim_start().strip_prefix(OPEN) {
        None => content,
        Some(thinking) => match thinking.split_once(CLOSE) {
            // The line breaks after the block are the template's and not the answer's.
            Some((_, rest)) => rest.trim_start_matches(['\r', '\n']),
            None => return failed("a <think> that is not closed"),
        },
    };
    if text.contains(OPEN) || text.contains(CLOSE) {
        return failed("<think> or </think> within the answer");
    }
    if text.trim().is_empty() {
        return Reply::Unusable(Failure::new(FailureKind::Empty, ""));
    }
    Reply::Text(text.to_owned())
}

/// The failure of a question that the server has cut, where its count of tokens tells.
fn cut(request: &Value, usage: Option<Usage>) -> Option<Reply> {
    let counted = usage?.input;
    let texts = request["messages"]
        .as_array()?
        .iter()
        .filter_map(|message| message["content"].as_str());
    let expected: u64 = texts.map(estimate::at_least).sum();
    if expected < CUT_FROM || counted as f64 >= CUT_SHARE * expected as f64 {
        return None;
    }
    Some(Reply::Unusable(Failure::new(
        FailureKind::QuestionCut,
        format!(
            "the server counted {counted} tokens of at least {expected} that were sent: its context is too small (Ollama: \
             num_ctx)"
        ),
    )))
}

/// Tokens; those of the cache are a part of the prompt's.
fn usage(response: &Value) -> Option<Usage> {
    let usage = &response["usage"];
    Some(Usage {
        input: usage["prompt_tokens"].as_u64()?,
        cache_read: usage["prompt_tokens_details"]["cached_tokens"]
            .as_u64()
            .unwrap_or(0),
        cache_write: 0,
        output: usage["completion_tokens"].as_u64()?,
    })
}
