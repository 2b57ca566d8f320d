//! Which of two outputs is preferred, as AlpacaFarm and AlpacaEval write it.

use serde_json::Value;

use super::{Refusal, missing};
use crate::data::jsonl::kind;
use crate::data::records::SetAsideReason;

/// Where both outputs are as good: in the middle of 1 and 2.
const TIE: f64 = 1.5;

/// Whether the second output is preferred: 1 and what is nearer to it means the first, 2 the second. 1.5 and 0 are ties, and
/// nothing at all a failed annotation.
pub(super) fn prefers_second(value: &Value) -> Result<bool, Refusal> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        Value::Null => return Err((SetAsideReason::Failed, "there is no preference".to_owned())),
        other => {
            return Err(missing(format!(
                "the preference is {}; accepted: 1 to 2",
                kind(other)
            )));
        }
    };
    match number {
        Some(number) if number == TIE || number == 0.0 => {
            Err((SetAsideReason::Tie, format!("the preference is {number}")))
        }
        Some(number) if (1.0..=2.0).contains(&number) => Ok(number > TIE),
        _ => Err(missing(format!(
            "the preference is {value}; accepted: 1 to 2, and 0 for a tie"
        ))),
    }
}
