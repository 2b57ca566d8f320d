//! TRL's formats: `prompt`, `chosen`, `rejected`, `completion`, `messages`, as texts or as lists of turns (`role`, `content`).
//!
//! The last turn, which must be the assistant's, is the response; all before it, those under `prompt` first, is the prompt. An
//! implicit prompt of texts is what both begin with. Source: TRL's documentation, "Dataset formats and types".

use serde_json::Value;

use super::{Example, Reader, Reading, Refusal, Wanted, cut_prompt, missing, text};
use crate::data::chat::{Message, Role};
use crate::data::jsonl::kind;
use crate::data::records::SetAsideReason;
use crate::data::turns;

pub(super) fn read(reader: &Reader<'_>, row: &Value) -> Reading {
    let key = |names: &[&'static str]| {
        names
            .iter()
            .copied()
            .find(|name| row.get(name).is_some_and(|v| !v.is_null()))
    };
    match reader.wanted {
        Wanted::Pair => pair(row),
        Wanted::Prompt if key(&["prompt"]).is_some() => prompt_alone(row),
        Wanted::Reference if key(&["completion", "messages", "chosen"]).is_none() => {
            prompt_alone(row)
        }
        Wanted::Prompt | Wanted::Response | Wanted::Reference => {
            let example = match key(&["completion", "messages", "chosen"]) {
                // A text with the prompt inside says where that ends only beside the other text.
                Some("chosen") => pair(row)?,
                Some(name) => response(row, name)?,
                None => return Err(missing("no key `completion`, `messages` or `chosen`")),
            };
            let example = Example {
                rejected: None,
                ..example
            };
            match reader.wanted {
                Wanted::Prompt => Ok(Example {
                    response: None,
                    ..example
                }),
                _ => Ok(example),
            }
        }
    }
}

fn prompt_alone(row: &Value) -> Reading {
    if let Some(Value::String(text)) = row.get("prompt") {
        return Ok(Example::of_prompt(text.as_str()));
    }
    let asked = messages(row, "prompt")?;
    ends_with_the_user(&asked)?;
    Ok(Example::of_prompt(joined(&asked)?))
}

fn pair(row: &Value) -> Reading {
    if row.get("chosen").is_some_and(Value::is_array) {
        let (asked, chosen) = conversation(row, "chosen")?;
        let (other, rejected) = conversation(row, "rejected")?;
        if asked != other {
            return Err((
                SetAsideReason::PartsEarlier,
                "the conversations differ before their last turns".to_owned(),
            ));
        }
        return Ok(Example::of_prompt(joined(&asked)?)
            .with_response(chosen)
            .with_rejected(rejected));
    }
    let (chosen, rejected) = (text(row, "chosen")?, text(row, "rejected")?);
    let (prompt, rejected, chosen) = match row.get("prompt") {
        None | Some(Value::Null) => cut_prompt(rejected, chosen, usize::MAX),
        Some(_) => (text(row, "prompt")?, rejected, chosen),
    };
    Ok(Example::of_prompt(prompt)
        .with_response(chosen)
        .with_rejected(rejected))
}

fn response(row: &Value, name: &str) -> Reading {
    if row.get(name).is_some_and(Value::is_array) {
        let (asked, answer) = conversation(row, name)?;
        return Ok(Example::of_prompt(joined(&asked)?).with_response(answer));
    }
    Ok(Example::of_prompt(text(row, "prompt")?).with_response(text(row, name)?))
}

/// The turns under `prompt`, where it is a list, and those under `name`: all but the last, and the last.
fn conversation(row: &Value, name: &str) -> Result<(Vec<Message>, String), Refusal> {
    let mut all = match row.get("prompt") {
        // Beside a whole conversation, a text repeats its first turn (HuggingFaceH4's sets).
        None | Some(Value::Null | Value::String(_)) => Vec::new(),
        Some(_) => messages(row, "prompt")?,
    };
    let explicit = !all.is_empty();
    let behind = messages(row, name)?;
    if let (
        false,
        [
            Message {
                role: Role::Assistant,
                ..
            },
            ..,
        ],
        Some(Value::String(prompt)),
    ) = (explicit, behind.as_slice(), row.get("prompt"))
    {
        all.push(Message::new(Role::User, prompt.as_str()));
    }
    all.extend(behind);
    match all.pop() {
        Some(Message {
            role: Role::Assistant,
            content,
        }) => {
            ends_with_the_user(&all)?;
            Ok((all, content))
        }
        _ => Err(missing(format!(
            "the last turn of `{name}` is not the assistant's"
        ))),
    }
}

fn ends_with_the_user(asked: &[Message]) -> Result<(), Refusal> {
    match asked.last() {
        Some(Message {
            role: Role::User, ..
        }) => Ok(()),
        _ => Err(missing("the turn before the response is not the user's")),
    }
}

fn joined(asked: &[Message]) -> Result<String, Refusal> {
    turns::joined(asked).map_err(|what| (SetAsideReason::Unreadable, what))
}

/// The turns of a list.
fn messages(row: &Value, name: &str) -> Result<Vec<Message>, Refusal> {
    match row.get(name) {
        Some(Value::Array(items)) => items.iter().map(|item| message(item, name)).collect(),
        Some(other) => Err(missing(format!(
            "`{name}` is {}, not a list of turns",
            kind(other)
        ))),
        None => Err(missing(format!("no key `{name}`"))),
    }
}

fn message(item: &Value, name: &str) -> Result<Message, Refusal> {
    let unreadable = |what: String| (SetAsideReason::Unreadable, format!("`{name}`: {what}"));
    let role = match item.get("role").and_then(Value::as_str) {
        Some("system") => Role::System,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some(role) => {
            return Err(unreadable(format!(
                "the role {role:?}; accepted: system, user, assistant"
            )));
        }
        None => return Err(unreadable("a turn has no role".to_owned())),
    };
    match item.get("content") {
        Some(Value::String(content)) => Ok(Message::new(role, content.as_str())),
        // Turns of models that see: only what is text can be used.
        Some(Value::Array(parts)) => {
            let texts: Option<Vec<&str>> = parts
                .iter()
                .map(|part| part.get("text")?.as_str())
                .collect();
            let texts =
                texts.ok_or_else(|| unreadable("a turn holds more than texts".to_owned()))?;
            Ok(Message::new(role, texts.concat()))
        }
        _ => Err(unreadable("the content of a turn is not a text".to_owned())),
    }
}
