//! UltraFeedback as published (Cui et al., 2023): an `instruction` and `completions`, each a `response` with an
//! `overall_score`. The pair of a row is its best against its worst; of equal scores, the first.

use serde_json::Value;

use super::{Example, Reader, Reading, Refusal, Wanted, missing, text};
use crate::data::records::SetAsideReason;

pub(super) fn read(reader: &Reader<'_>, row: &Value) -> Reading {
    let example = Example::of_prompt(text(row, "instruction")?);
    if reader.wanted == Wanted::Prompt {
        return Ok(example);
    }
    let scored = scored(row)?;
    let (mut best, mut worst) = (scored[0], scored[0]);
    for &completion in &scored[1..] {
        if completion.1 > best.1 {
            best = completion;
        }
        if completion.1 < worst.1 {
            worst = completion;
        }
    }
    let example = example.with_response(best.0);
    match reader.wanted {
        Wanted::Pair if best.1 == worst.1 => Err((
            SetAsideReason::Tie,
            format!("every completion has the score {}", best.1),
        )),
        Wanted::Pair => Ok(example.with_rejected(worst.0)),
        _ => Ok(example),
    }
}

/// The completions with their scores, at least one; those without a score are left out.
fn scored(row: &Value) -> Result<Vec<(&str, f64)>, Refusal> {
    let items = row.get("completions").and_then(Value::as_array);
    let items = items.ok_or_else(|| missing("`completions` is not a list"))?;
    let scored: Vec<(&str, f64)> = items
        .iter()
        .filter_map(|item| {
            Some((
                item.get("response")?.as_str()?,
                item.get("overall_score")?.as_f64()?,
            ))
        })
        .collect();
    if scored.is_empty() {
        return Err(missing(
            "no completion has a `response` and an `overall_score`",
        ));
    }
    Ok(scored)
}
