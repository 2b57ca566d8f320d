//! Anthropic's transcripts (Bai et al., 2022): `chosen` and `rejected` are whole dialogues that share all but the last answer.
//!
//! The prompt is all up to and with the last `Assistant:`, the response what stands behind it, its blank included. Dialogues that
//! differ before are two conversations and not two answers to one.

use serde_json::Value;

use super::{Example, Reader, Reading, Wanted, missing, text};
use crate::data::records::SetAsideReason;

/// What stands before an answer.
pub(super) const ANSWER: &str = "\n\nAssistant:";

pub(super) fn read(reader: &Reader<'_>, row: &Value) -> Reading {
    let (prompt, chosen) = split(row, "chosen")?;
    let example = Example::of_prompt(prompt);
    if reader.wanted == Wanted::Prompt {
        return Ok(example);
    }
    let example = example.with_response(chosen);
    if reader.wanted != Wanted::Pair {
        return Ok(example);
    }
    let (other, rejected) = split(row, "rejected")?;
    if other != prompt {
        return Err((
            SetAsideReason::PartsEarlier,
            "the dialogues differ before their last answers".to_owned(),
        ));
    }
    Ok(example.with_rejected(rejected))
}

fn split<'a>(row: &'a Value, key: &str) -> Result<(&'a str, &'a str), super::Refusal> {
    let text = text(row, key)?;
    let at = text
        .rfind(ANSWER)
        .ok_or_else(|| missing(format!("`{key}` has no `Assistant:` behind a blank line")))?;
    Ok(text.split_at(at + ANSWER.len()))
}
