//! Format `replacements`: passages to find in the response, and what stands in their place.
//!
//! All passages refer to the response as it was given, so their order does not matter. What is not replaced stays as it is,
//! to the byte.

use std::ops::Range;

use finegrain_sdk::serde::{Deserialize, Serialize};
use finegrain_sdk::serde_json::{Value as Json, json};

use super::json::object;
use super::{Answer, Notes};
use crate::minimality::typography::plain;
use crate::problem::{Problem, ProblemKind, quoted};

pub use of_difference::of_difference;

mod of_difference;

/// A passage and what stands in its place.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(crate = "finegrain_sdk::serde", deny_unknown_fields)]
pub struct Replacement {
    /// The passage, character for character. Empty only where the response is.
    pub find: String,
    /// What stands in its place.
    pub replace: String,
    /// Which one is meant where the passage stands in the response more than once, from 1, counted from the left without
    /// overlaps. 0 or absent: it must stand there once, overlaps counted.
    #[serde(default)]
    pub occurrence: Option<u32>,
}

/// The schema of an answer, in what all servers take of JSON schema: every key required, no others, no bounds.
pub fn schema() -> Json {
    json!({
        "type": "object",
        "properties": {
            "reason": {"type": "string", "description": "What is wrong with the response, or why nothing is, in one sentence."},
            "replacements": {
                "type": "array",
                "description": "The changes; empty where nothing is wrong.",
                "items": {
                    "type": "object",
                    "properties": {
                        "find": {"type": "string", "description": "A passage of the response, character for character."},
                        "replace": {"type": "string", "description": "What stands in its place."},
                        "occurrence": {"type": "integer", "description": "0 where the passage stands in the response once; else which one is meant, from 1."},
                    },
                    "required": ["find", "replace", "occurrence"],
                    "additionalProperties": false,
                },
            },
        },
        "required": ["reason", "replacements"],
        "additionalProperties": false,
    })
}

/// An answer.
#[derive(Deserialize)]
#[serde(crate = "finegrain_sdk::serde", deny_unknown_fields)]
struct Fields {
    reason: Option<String>,
    replacements: Vec<Replacement>,
}

/// Reads an answer, an object or the bare list, and applies it.
pub(super) fn read(response: &str, answer: &str, notes: &mut Notes) -> Result<Answer, Problem> {
    let list = answer
        .trim_start()
        .trim_start_matches("```json")
        .trim_start_matches("```")
        .trim_start()
        .starts_with('[');
    let fields = if list {
        object(answer, &mut notes.stripped)?.map(|replacements| Fields {
            reason: None,
            replacements,
        })
    } else {
        object(answer, &mut notes.stripped)?
    };
    let Some(fields) = fields else {
        return Ok(Answer::Refused(answer.to_owned()));
    };
    notes.reason = fields.reason.filter(|reason| !reason.trim().is_empty());
    if fields.replacements.is_empty() {
        return Ok(Answer::Unchanged);
    }
    apply(response, &fields.replacements).map(Answer::Applied)
}

/// The response with all replacements made.
///
/// # Errors
/// A passage that is not there, that stands there more than once without `occurrence`, or that touches another one. The
/// problem has the kind of the first and a sentence for each.
pub fn apply(response: &str, replacements: &[Replacement]) -> Result<String, Problem> {
    let mut problems = Vec::new();
    let mut found = Vec::new();
    for (index, replacement) in replacements.iter().enumerate() {
        match locate(response, replacement, index + 1) {
            Ok(range) => found.push((range, index)),
            Err(problem) => problems.push(problem),
        }
    }
    found.sort_by_key(|(range, index)| (range.start, range.end, *index));
    for pair in found.windows(2) {
        let [(first, one), (second, other)] = pair else {
            continue;
        };
        // Two empty passages can only stand in an empty response, one on the other.
        if first.end > second.start || first == second {
            let (one, other) = (one + 1, other + 1);
            problems.push(Problem::new(
                ProblemKind::Overlap,
                format!("replacements {one} and {other} touch the same characters"),
                format!(
                    "Replacements {one} and {other} touch the same characters. Make one of them."
                ),
            ));
        }
    }
    let mut problems = problems.into_iter();
    if let Some(mut first) = problems.next() {
        for problem in problems {
            first.reason = format!("{}; {}", first.reason, problem.reason);
            first.tell.extend(problem.tell);
        }
        return Err(first);
    }
    let mut out = String::with_capacity(response.len());
    let mut done = 0;
    for (range, index) in found {
        out.push_str(&response[done..range.start]);
        out.push_str(&replacements[index].replace);
        done = range.end;
    }
    out.push_str(&response[done..]);
    Ok(out)
}

/// Where the passage of a replacement stands; `number` is what messages call it.
fn locate(
    response: &str,
    replacement: &Replacement,
    number: usize,
) -> Result<Range<usize>, Problem> {
    let find = replacement.find.as_str();
    let name = format!("{number} ({})", quoted(find));
    let at = |start: usize| start..start + find.len();
    if find.is_empty() {
        return if response.is_empty() {
            Ok(at(0))
        } else {
            Err(Problem::new(
                ProblemKind::NotFound,
                format!("the passage to find of replacement {number} is empty"),
                format!(
                    "\"find\" of replacement {number} is empty. To insert words, find the words beside them and repeat these in \"replace\"."
                ),
            ))
        };
    }
    let Some(first) = response.find(find) else {
        let typography = if plain(response).contains(&plain(find)) {
            " It stands there with other quotes, dashes or white space."
        } else {
            ""
        };
        return Err(Problem::new(
            ProblemKind::NotFound,
            format!("the passage to find of replacement {name} is not in the response"),
            format!(
                "\"find\" of replacement {name} is not in the response.{typography} Copy it from the response character for character."
            ),
        ));
    };
    match replacement.occurrence.unwrap_or_default() {
        0 => {
            let width = find.chars().next().map_or(1, char::len_utf8);
            if !response[first + width..].contains(find) {
                return Ok(at(first));
            }
            let times = response.matches(find).count();
            Err(Problem::new(
                ProblemKind::Ambiguous,
                format!(
                    "the passage to find of replacement {name} is in the response {times} times or more"
                ),
                format!(
                    "\"find\" of replacement {name} stands in the response more than once. Take more of the words around it, or say which one by \"occurrence\"."
                ),
            ))
        }
        occurrence => {
            let matches = || response.match_indices(find);
            if let Some((start, _)) = matches().nth(occurrence as usize - 1) {
                return Ok(at(start));
            }
            let times = matches().count();
            Err(Problem::new(
                ProblemKind::NotFound,
                format!(
                    "the passage to find of replacement {name} has no occurrence {occurrence}; there are {times}"
                ),
                format!(
                    "\"find\" of replacement {name} has no occurrence {occurrence}; there are {times} in the response."
                ),
            ))
        }
    }
}

#[cfg(test)]
mod tests;
