//! Which layout rows have, by the keys of the first.

use serde_json::Value;

use super::hh_rlhf::ANSWER;
use super::{Layout, Wanted};

/// The layout of a row in which all that is wanted can be.
///
/// # Errors
/// In words: which keys there are, and which are known.
pub(in crate::data) fn detect(row: &Value, wanted: Wanted) -> Result<Layout, String> {
    let has = |keys: &[&str]| keys.iter().all(|key| row.get(key).is_some());
    let transcripts = |key: &str| {
        let text = row.get(key).and_then(Value::as_str);
        text.is_some_and(|text| text.contains(ANSWER))
    };
    let pair = || match () {
        () if !has(&["chosen", "rejected"]) => None,
        () if !has(&["prompt"]) && transcripts("chosen") && transcripts("rejected") => {
            Some(Layout::HhRlhf)
        }
        () => Some(Layout::Trl),
    };
    let found = match wanted {
        Wanted::Pair if has(&["instruction", "output_1", "output_2", "preference"]) => {
            Some(Layout::AlpacaFarm)
        }
        Wanted::Pair | Wanted::Response if has(&["instruction", "completions"]) => {
            Some(Layout::Ultrafeedback)
        }
        Wanted::Response if has(&["messages"]) || has(&["prompt", "completion"]) => {
            Some(Layout::Trl)
        }
        Wanted::Response if has(&["instruction", "output"]) => Some(Layout::AlpacaFarm),
        Wanted::Response | Wanted::Reference if has(&["prompt", "response"]) => {
            Some(Layout::Fields)
        }
        Wanted::Prompt | Wanted::Reference if has(&["instruction"]) => Some(Layout::AlpacaFarm),
        Wanted::Prompt | Wanted::Reference if has(&["prompt"]) || has(&["messages"]) => {
            Some(Layout::Trl)
        }
        _ => pair(),
    };
    found.ok_or_else(|| {
        let keys: Vec<&str> = row.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
        let known = match wanted {
            Wanted::Pair => {
                "`chosen` and `rejected` (with or without `prompt`), `instruction` with `output_1`, `output_2` and \
                 `preference`, or `instruction` with `completions`"
            }
            Wanted::Response => {
                "`messages`, `prompt` with `completion` or `response`, or `instruction` with `output`"
            }
            Wanted::Prompt | Wanted::Reference => "`prompt`, `instruction` or `messages`",
        };
        format!("no layout has the keys {}; accepted: {known}, or fields that are named", keys.join(", "))
    })
}
