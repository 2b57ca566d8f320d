//! The file of edits: lines, their fields, and which lines belong to one request.
//!
//! Errors name the file and the line, and reach the user before anything is run.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};

use finegrain_sdk::serde_json::{Map, Value};
use finegrain_sdk::{Error, Result};

use crate::options::{MatchBy, Options, Repeats};

/// What a line is found by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// The id of the request.
    Id(String),
    /// Prompt and response.
    Text(String, String),
}

/// One line of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The number of the line, from 1.
    pub line: usize,
    /// A name for messages: the id, or the line number where there is none.
    pub name: String,
    /// The response that the annotator saw, where the line has it.
    pub response: Option<String>,
    /// The edited response; `None` where the annotator skipped it.
    pub edited: Option<String>,
}

/// All lines, by what they are found by; several under one key in the order of the file.
pub type Edits = BTreeMap<Key, Vec<Edit>>;

/// Reads the file that the options name.
///
/// # Errors
/// A file that cannot be read, a line that is not a JSON object, a missing field, a value that is neither a text nor a
/// list of texts, several lines for one response unless `repeats` says which of them counts, or no line at all.
pub fn read(options: &Options) -> Result<Edits> {
    let path = &options.path;
    if path.is_empty() {
        return Err(Error::options(
            "`path` is empty; it must name a JSONL file of edits",
        ));
    }
    let file = File::open(path).map_err(|error| Error::options(format!("{path}: {error}")))?;
    let mut edits = Edits::new();
    for (index, text) in BufReader::new(file).lines().enumerate() {
        let number = index + 1;
        let at_line = |error: Error| Error::options(format!("{path}:{number}: {}", error.message));
        let text = text.map_err(|error| at_line(Error::options(error.to_string())))?;
        if text.trim().is_empty() {
            continue;
        }
        // Some tools write a byte order mark; JSON forbids it.
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let (key, edit) = parse(text, number, options).map_err(at_line)?;
        let same = edits.entry(key).or_default();
        if options.repeats == Repeats::Refuse
            && let Some(first) = same.first()
        {
            return Err(at_line(Error::options(format!(
                "edits the same response as line {} ({}); set `repeats` to \"first\", \"last\" or \"random\" to choose one",
                first.line, first.name
            ))));
        }
        same.push(edit);
    }
    if edits.is_empty() {
        return Err(Error::options(format!("{path}: no edits in this file")));
    }
    Ok(edits)
}

/// One line as its key and its edit.
fn parse(text: &str, line: usize, options: &Options) -> Result<(Key, Edit)> {
    let value: Value = finegrain_sdk::serde_json::from_str(text)
        .map_err(|error| Error::options(format!("not JSON: {error}")))?;
    let Value::Object(fields) = value else {
        return Err(Error::options("not a JSON object"));
    };
    let id = id(&fields, &options.id_field)?;
    let response = optional_text(&fields, &options.response_field)?;
    let edited = match fields.get(&options.edited_field) {
        Some(Value::Null) => None,
        _ => Some(text_of(&fields, &options.edited_field)?),
    };
    let name = id.clone().unwrap_or_else(|| format!("line {line}"));
    let key = match options.match_by {
        MatchBy::Id => Key::Id(id.ok_or_else(|| missing(&fields, &options.id_field))?),
        MatchBy::Text => Key::Text(
            text_of(&fields, &options.prompt_field)?,
            text_of(&fields, &options.response_field)?,
        ),
    };
    Ok((
        key,
        Edit {
            line,
            name,
            response,
            edited,
        },
    ))
}

/// An id: a text or a whole number.
fn id(fields: &Map<String, Value>, field: &str) -> Result<Option<String>> {
    match fields.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(number)) if !number.is_f64() => Ok(Some(number.to_string())),
        Some(_) => text_of(fields, field).map(Some),
    }
}

/// A field that may be absent or null.
fn optional_text(fields: &Map<String, Value>, field: &str) -> Result<Option<String>> {
    match fields.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(_) => text_of(fields, field).map(Some),
    }
}

/// A field that is a text, or a list of texts of which the first counts (annotation tools export both).
fn text_of(fields: &Map<String, Value>, field: &str) -> Result<String> {
    match fields.get(field) {
        None => Err(missing(fields, field)),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Array(list)) => match list.first() {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(other) => Err(wrong(field, other, "its first element must be a text")),
            None => Err(Error::options(format!("`{field}` is an empty list"))),
        },
        Some(other) => Err(wrong(field, other, "it must be a text or a list of texts")),
    }
}

fn missing(fields: &Map<String, Value>, field: &str) -> Error {
    let present: Vec<&str> = fields.keys().map(String::as_str).collect();
    Error::options(format!(
        "no field `{field}`; this line has: {}",
        present.join(", ")
    ))
}

fn wrong(field: &str, value: &Value, accepted: &str) -> Error {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    Error::options(format!("`{field}` is {found}; {accepted}"))
}
