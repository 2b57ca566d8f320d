//! Rows as JSON: an object a line, one array of objects, or objects one behind the other over many lines.

use std::path::Path;

use serde_json::error::Category;
use serde_json::{Deserializer, Value};

use super::mend::mend;
use super::{ACCEPTED, Read, Unit};
use crate::data::jsonl::kind;
use crate::error::{Error, Result};

/// Keys under which files keep rows that are not the file itself.
const CONTAINERS: [&str; 14] = [
    "train",
    "test",
    "validation",
    "valid",
    "val",
    "dev",
    "eval",
    "data",
    "rows",
    "examples",
    "instances",
    "items",
    "records",
    "samples",
];

/// Reads up to `most` rows of a text that is not blank.
pub(super) fn read(path: &Path, text: &str, most: usize) -> Result<Read> {
    let start = text.trim_start();
    if start.starts_with('[') {
        return sequence(path, text, most);
    }
    if !start.starts_with('{') {
        return Err(no_json(path, start));
    }
    if let Some(at) = lone_carriage_return(start) {
        return Err(Error::input(format!(
            "{}: lines end with a carriage return alone (byte {at}); accepted: line feeds, with or without one in front",
            path.display()
        ))
        .hint("`tr '\\r' '\\n' < FILE > NEW` converts them"));
    }
    let first = start.lines().next().unwrap_or_default();
    let whole = start.trim_end() == first.trim_end();
    match serde_json::from_str::<Value>(first) {
        Ok(value) if whole => one_object(path, &value).map_or_else(|| lines(path, text, most), Err),
        Err(error) if error.classify() == Category::Eof && !whole => sequence(path, text, most),
        _ => lines(path, text, most),
    }
}

/// Where lines that end with a carriage return alone are taken for the end of the first object.
fn lone_carriage_return(text: &str) -> Option<usize> {
    let text = text.trim_end();
    let at = text.find('\r')?;
    (!text.contains('\n')).then_some(at)
}

/// A text that begins as no JSON does.
fn no_json(path: &Path, start: &str) -> Error {
    let line: String = start
        .lines()
        .next()
        .unwrap_or_default()
        .chars()
        .take(40)
        .collect();
    let error = Error::input(format!(
        "{}: neither JSON nor a table by its name: it begins with {line:?}; accepted: {ACCEPTED}",
        path.display()
    ));
    error.hint("a table with a header line is read where its name ends in .csv or .tsv")
}

/// An object that is a file's only content and holds its rows, or its columns, inside.
fn one_object(path: &Path, value: &Value) -> Option<Error> {
    let object = value.as_object()?;
    let refused = |what: String, hint: String| {
        let text = format!(
            "{}: one object with {what} and no rows; accepted: {ACCEPTED}",
            path.display()
        );
        Some(Error::input(text).hint(hint))
    };
    let rows = |value: &Value| {
        let items = value.as_array();
        items.is_some_and(|items| items.iter().any(Value::is_object))
    };
    let held: Vec<&str> = object
        .iter()
        .filter(|(key, value)| CONTAINERS.contains(&key.as_str()) && rows(value))
        .map(|(key, _)| key.as_str())
        .collect();
    if let Some(first) = held.first() {
        return refused(
            format!("the key `{}`", held.join("`, `")),
            format!("`jq -c '.{first}[]' FILE > NEW.jsonl` takes them out"),
        );
    }
    let column = |value: &Value| {
        let cells = value.as_object();
        cells.is_some_and(|cells| {
            !cells.is_empty() && cells.keys().all(|key| key.parse::<usize>().is_ok())
        })
    };
    let columns = !object.is_empty() && object.values().all(column);
    columns
        .then(|| {
            refused(
                "a column under every key".to_owned(),
                "pandas writes rows with df.to_json(NEW, orient=\"records\", lines=True)"
                    .to_owned(),
            )
        })
        .flatten()
}

/// A value out of its text: `Err` inside where half a character stands in it.
fn value(text: &str) -> serde_json::Result<Result<Value, String>> {
    let error = match serde_json::from_str(text) {
        Ok(value) => return Ok(Ok(value)),
        Err(error) => error,
    };
    let mended = mend(text);
    match serde_json::from_str(&mended.text) {
        Ok(value) if mended.halves.is_empty() => Ok(Ok(value)),
        Ok(_) => Ok(Err(half())),
        // What was written is what a message should speak of.
        Err(_) => Err(error),
    }
}

fn half() -> String {
    "a text holds half a character, an escape from \\ud800 to \\udfff without its other half"
        .to_owned()
}

/// An object a line.
fn lines(path: &Path, text: &str, most: usize) -> Result<Read> {
    let mut read = Read::new(Unit::Line);
    let last = text.lines().count();
    let lines = text.lines().enumerate().map(|(at, line)| {
        // A mark stands in front of every file that was appended.
        (at + 1, line.trim_start_matches('\u{feff}').trim())
    });
    for (number, line) in lines.filter(|(_, line)| !line.is_empty()) {
        if read.len() == most {
            break;
        }
        let place = format_args!("{}:{number}", path.display());
        match value(line) {
            Ok(Ok(row)) => read
                .rows
                .push((number, object(row).map_err(|error| error.context(place))?)),
            Ok(Err(what)) => read.unreadable.push((number, what)),
            Err(error)
                if number == last
                    && error.classify() == Category::Eof
                    && !text.ends_with('\n')
                    && read.len() > 0 =>
            {
                let what = "the last line ends within its object: the file is cut off".to_owned();
                read.unreadable.push((number, what));
            }
            Err(error) => return Err(not_json(&error, line).context(place)),
        }
    }
    Ok(read)
}

/// Objects between `[` and `]`, or one behind the other.
fn sequence(path: &Path, text: &str, most: usize) -> Result<Read> {
    let mended = mend(text);
    let text = &*mended.text;
    let mut read = Read::new(Unit::Item);
    let mut at = text.len() - text.trim_start().len();
    let array = text[at..].starts_with('[');
    at += usize::from(array);
    let fail = |at: usize, error: Error| {
        let line = text[..at].matches('\n').count() + 1;
        Err(error.context(format_args!("{}:{line}", path.display())))
    };
    loop {
        let rest = text[at..].trim_start();
        at = text.len() - rest.len();
        if rest.is_empty() || array && rest.starts_with(']') {
            break;
        }
        if read.len() == most {
            return Ok(read);
        }
        let number = read.len() + 1;
        let mut values = Deserializer::from_str(rest).into_iter::<Value>();
        let row = match values.next() {
            Some(Ok(row)) => row,
            // Where in the file the value begins is clearer than where in the value it ends.
            Some(Err(error)) if error.classify() == Category::Eof => {
                return fail(
                    at,
                    Error::input(format!(
                        "not JSON: the file ends within its item {number}: it is cut off"
                    )),
                );
            }
            Some(Err(error)) => return fail(at, not_json(&error, rest)),
            None => break,
        };
        let end = at + values.byte_offset();
        if mended.halves.iter().any(|half| (at..end).contains(half)) {
            read.unreadable.push((number, half()));
        } else {
            match object(row) {
                Ok(row) => read.rows.push((number, row)),
                Err(error) => return fail(at, error.context(format_args!("item {number}"))),
            }
        }
        at = end;
        let rest = text[at..].trim_start();
        if array && !rest.starts_with(']') {
            match rest.strip_prefix(',') {
                Some(rest) => at = text.len() - rest.len(),
                None if rest.is_empty() => {
                    return fail(
                        at,
                        Error::input("the array is not closed: the file is cut off"),
                    );
                }
                None => {
                    return fail(at, Error::input(format!("no comma behind item {number}")));
                }
            }
        }
    }
    if array {
        let behind = text[at..].trim_start().get(1..).unwrap_or_default().trim();
        if !text[at..].starts_with(']') {
            return fail(
                at,
                Error::input("the array is not closed: the file is cut off"),
            );
        }
        if !behind.is_empty() {
            return fail(at, Error::input("more stands behind the array"));
        }
    }
    if let [(_, row)] = &read.rows[..]
        && let Some(error) = one_object(path, row).filter(|_| !array)
    {
        return Err(error);
    }
    Ok(read)
}

/// The value where it is an object.
fn object(value: Value) -> Result<Value> {
    if value.is_object() {
        return Ok(value);
    }
    Err(Error::input(format!(
        "found {}, not an object",
        kind(&value)
    )))
}

fn not_json(error: &serde_json::Error, text: &str) -> Error {
    if text.starts_with("{'") {
        return Error::input("not JSON: texts stand in single quotes, as Python prints them")
            .hint("in Python: json.dumps(row) writes JSON");
    }
    match error.classify() {
        Category::Eof => Error::input("not JSON: the line ends within its object"),
        _ => Error::input(format!("not JSON: {error}")),
    }
}
