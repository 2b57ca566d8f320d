//! Dotted paths into JSON rows.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::data::jsonl::{kind, nearest};

/// A path such as `edited.0.hypothesis`: keys of objects and, in lists, places from 0 or, from the end, from -1. A key may
/// hold dots itself: the longest key that is there counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FieldPath(String);

/// Which turns of a list of turns paths take.
#[derive(Clone, Copy, Default)]
struct Taken {
    /// The furthest from the front.
    furthest: Option<usize>,
    /// Whether one is counted from the end.
    from_end: bool,
    /// How many turns there are.
    turns: usize,
}

impl FieldPath {
    /// The path of this text.
    pub fn new(path: impl Into<String>) -> Self {
        Self(path.into())
    }

    /// What lies there.
    ///
    /// # Errors
    /// In words: at which part the path leaves the row, and the nearest key there.
    pub(crate) fn value<'a>(&self, row: &'a Value) -> Result<&'a Value, String> {
        self.walk(row, &mut |_, _, _| {})
    }

    /// What lies there; every list on the way is shown with the path to it and the part of the path that chooses from it.
    fn walk<'a>(
        &self,
        row: &'a Value,
        list: &mut impl FnMut(&str, &'a [Value], &str),
    ) -> Result<&'a Value, String> {
        let mut value = row;
        let mut rest = Some(self.0.as_str());
        while let Some(path) = rest {
            let walked = self.0[..self.0.len() - path.len()].trim_end_matches('.');
            (value, rest) = match value {
                Value::Object(object) => ends(path)
                    .find_map(|(key, rest)| Some((object.get(key)?, rest)))
                    .ok_or_else(|| {
                        let part = first(path);
                        let found = nearest(part, object.keys()).map_or_else(
                            || {
                                let keys: Vec<&str> = object.keys().map(String::as_str).collect();
                                format!(" among {}", keys.join(", "))
                            },
                            |key| format!(", but `{key}`"),
                        );
                        format!("`{self}`: no key `{part}`{found}")
                    })?,
                Value::Array(items) => {
                    let part = first(path);
                    list(walked, items, part);
                    let item = place(part, items.len())
                        .and_then(|at| items.get(at))
                        .ok_or_else(|| {
                            format!("`{self}`: no item `{part}` in a list of {}", items.len())
                        })?;
                    (item, path.split_once('.').map(|(_, rest)| rest))
                }
                other => {
                    let part = first(path);
                    return Err(format!("`{self}`: `{part}` looked for in {}", kind(other)));
                }
            };
        }
        Ok(value)
    }

    /// The text that lies there.
    pub(crate) fn text<'a>(&self, row: &'a Value) -> Result<&'a str, String> {
        match self.value(row)? {
            Value::String(text) => Ok(text),
            other => Err(format!("`{self}` is {}, not a text", kind(other))),
        }
    }

    /// The text, or the texts of the list, that lie there.
    pub(crate) fn texts<'a>(&self, row: &'a Value) -> Result<Vec<&'a str>, String> {
        let wrong = |found: &str| {
            Err(format!(
                "`{self}` is {found}, not a text or a list of texts"
            ))
        };
        match self.value(row)? {
            Value::String(text) => Ok(vec![text]),
            Value::Array(items) if items.is_empty() => wrong("an empty list"),
            Value::Array(items) => {
                let texts: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
                texts.map_or_else(|| wrong("a list of other things"), Ok)
            }
            other => wrong(kind(other)),
        }
    }

    /// The text or the whole number that lies there, as a name.
    pub(crate) fn name(&self, row: &Value) -> Result<String, String> {
        match self.value(row)? {
            Value::String(text) if !text.trim().is_empty() => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            Value::String(_) => Err(format!("`{self}` is empty")),
            other => Err(format!(
                "`{self}` is {}, not a text or a number",
                kind(other)
            )),
        }
    }
}

/// The keys that a path may begin with, the longest first, and what is left of the path behind each.
fn ends(path: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    let dots = path.rmatch_indices('.');
    std::iter::once((path, None))
        .chain(dots.map(move |(at, _)| (&path[..at], Some(&path[at + 1..]))))
}

fn first(path: &str) -> &str {
    path.split('.').next().unwrap_or(path)
}

/// The place in a list of `len` that a part of a path means.
fn place(part: &str, len: usize) -> Option<usize> {
    match part.strip_prefix('-') {
        Some(back) => len.checked_sub(back.parse().ok().filter(|&back: &usize| back > 0)?),
        None => part.parse().ok(),
    }
}

/// Where paths that count from the front take turns of a conversation (items with a role and a content) and further turns
/// stand behind them: in words. A mapping that was made for conversations of one length would cut others off.
pub(super) fn turns_left_out(paths: &[&FieldPath], row: &Value) -> Option<String> {
    let mut lists: BTreeMap<String, Taken> = BTreeMap::new();
    for path in paths {
        let _ = path.walk(row, &mut |list, items, part| {
            let turn = |item: &Value| item.get("role").is_some() && item.get("content").is_some();
            if items.iter().all(turn) {
                let taken = lists.entry(list.to_owned()).or_default();
                taken.turns = items.len();
                taken.from_end |= part.starts_with('-');
                taken.furthest = taken.furthest.max(place(part, items.len()));
            }
        });
    }
    let cut = lists.iter().find(|(_, taken)| {
        !taken.from_end
            && taken
                .furthest
                .is_some_and(|furthest| furthest + 1 < taken.turns)
    });
    cut.map(|(list, taken)| {
        let read = taken.furthest.map_or(0, |furthest| furthest + 1);
        format!(
            "`{list}` has {} turns, and the fields read no further than turn {read}",
            taken.turns
        )
    })
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for FieldPath {
    fn schema_name() -> Cow<'static, str> {
        "FieldPath".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_lead_through_objects_and_lists() {
        let row = json!({"a": {"b": [{"c": "text"}, 3]}, "l": ["x", "y"], "n": 7});
        let path = |text: &str| FieldPath::new(text);
        assert_eq!(path("a.b.0.c").text(&row).unwrap(), "text");
        assert_eq!(path("a.b.0.c").texts(&row).unwrap(), ["text"]);
        assert_eq!(path("l").texts(&row).unwrap(), ["x", "y"]);
        assert_eq!(path("n").name(&row).unwrap(), "7");
        assert_eq!(path("l.-1").text(&row).unwrap(), "y");
        assert_eq!(path("a.b.-2.c").text(&row).unwrap(), "text");
    }

    #[test]
    fn a_key_may_hold_dots_and_the_longest_that_is_there_counts() {
        let row =
            json!({"edit.responses": ["x"], "edit": {"responses": ["y"], "by.whom": {"n": "z"}}});
        assert_eq!(FieldPath::new("edit.responses.0").text(&row).unwrap(), "x");
        assert_eq!(FieldPath::new("edit.by.whom.n").text(&row).unwrap(), "z");
    }

    #[test]
    fn turns_behind_the_last_that_is_read_are_noticed() {
        let turn = |role: &str| json!({"role": role, "content": "c"});
        let row = json!({"prompt": [turn("user"), turn("assistant"), turn("user")], "chosen": [turn("user"), turn("assistant")],
            "list": ["a", "b"]});
        let left_out = |paths: &[&str]| {
            let paths: Vec<FieldPath> = paths.iter().map(|path| FieldPath::new(*path)).collect();
            turns_left_out(&paths.iter().collect::<Vec<_>>(), &row)
        };
        assert_eq!(
            left_out(&["prompt.0.content", "list.0"]).unwrap(),
            "`prompt` has 3 turns, and the fields read no further than turn 1"
        );
        assert!(left_out(&["chosen.0.content"]).is_some());
        for whole in [
            &["prompt.2.content"][..],
            &["prompt.-1.content"],
            &["chosen.0.content", "chosen.1.content"],
            &["list.0"],
        ] {
            assert_eq!(left_out(whole), None, "{whole:?}");
        }
    }

    #[test]
    fn errors_say_where_the_path_leaves_the_row() {
        let row = json!({"premise": "p", "list": [1], "nothing": null, "none": []});
        for (path, message) in [
            ("premis", "`premis`: no key `premis`, but `premise`"),
            (
                "zzz",
                "`zzz`: no key `zzz` among premise, list, nothing, none",
            ),
            ("list.1", "`list.1`: no item `1` in a list of 1"),
            ("list.x", "`list.x`: no item `x` in a list of 1"),
            ("list.-2", "`list.-2`: no item `-2` in a list of 1"),
            ("list.-0", "`list.-0`: no item `-0` in a list of 1"),
            ("premise.x", "`premise.x`: `x` looked for in a text"),
            (
                "nothing",
                "`nothing` is null, not a text or a list of texts",
            ),
            (
                "none",
                "`none` is an empty list, not a text or a list of texts",
            ),
            (
                "list",
                "`list` is a list of other things, not a text or a list of texts",
            ),
        ] {
            assert_eq!(FieldPath::new(path).texts(&row).unwrap_err(), message);
        }
        assert_eq!(
            FieldPath::new("list").name(&row).unwrap_err(),
            "`list` is a list, not a text or a number"
        );
    }
}
