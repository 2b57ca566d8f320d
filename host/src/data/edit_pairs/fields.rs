//! Dotted paths into JSON rows.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::data::jsonl::{kind, nearest};

/// A path such as `edited.0.hypothesis`: keys of objects and, in lists, indices from 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FieldPath(String);

impl FieldPath {
    /// The path of this text.
    pub fn new(path: impl Into<String>) -> Self {
        Self(path.into())
    }

    /// What lies there.
    ///
    /// # Errors
    /// In words: at which part the path leaves the row, and the nearest key there.
    pub(super) fn value<'a>(&self, row: &'a Value) -> Result<&'a Value, String> {
        let mut value = row;
        for part in self.0.split('.') {
            let next = match value {
                Value::Object(object) => object.get(part),
                Value::Array(items) => part.parse().ok().and_then(|at: usize| items.get(at)),
                _ => None,
            };
            value = next.ok_or_else(|| match value {
                Value::Object(object) => {
                    let found = nearest(part, object.keys()).map_or_else(
                        || {
                            let keys: Vec<&str> = object.keys().map(String::as_str).collect();
                            format!(" among {}", keys.join(", "))
                        },
                        |key| format!(", but `{key}`"),
                    );
                    format!("`{self}`: no key `{part}`{found}")
                }
                Value::Array(items) => {
                    format!("`{self}`: no item `{part}` in a list of {}", items.len())
                }
                other => format!("`{self}`: `{part}` looked for in {}", kind(other)),
            })?;
        }
        Ok(value)
    }

    /// The text that lies there.
    pub(super) fn text<'a>(&self, row: &'a Value) -> Result<&'a str, String> {
        match self.value(row)? {
            Value::String(text) => Ok(text),
            other => Err(format!("`{self}` is {}, not a text", kind(other))),
        }
    }

    /// The text, or the texts of the list, that lie there.
    pub(super) fn texts<'a>(&self, row: &'a Value) -> Result<Vec<&'a str>, String> {
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
    pub(super) fn name(&self, row: &Value) -> Result<String, String> {
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
