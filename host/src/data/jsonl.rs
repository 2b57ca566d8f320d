//! JSONL files: whole ones that are read and written at once, and logs that grow a line at a time.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::data::records::Record;
use crate::error::{Error, Result};
use crate::pipeline::atomic::write_atomic;

/// Reads all records of a file; blank lines are skipped.
///
/// # Errors
/// A line that is not such a record, an empty text, an id that occurs twice: the message has file, line and what is
/// accepted. A file without records is no error here.
pub fn read<R: Record>(path: &Path) -> Result<Vec<R>> {
    let bytes = std::fs::read(path).map_err(|error| Error::io("read", path, &error))?;
    let mut lines_by_id: HashMap<String, usize> = HashMap::new();
    let mut records = Vec::new();
    for (number, line) in lines(&bytes) {
        let place = format_args!("{}:{number}", path.display());
        let record: R = parse(line).map_err(|error| error.context(place))?;
        if let Some(first) = lines_by_id.insert(record.id().to_owned(), number) {
            return Err(Error::input(format!(
                "{place}: id `{}` occurs before, in line {first}; accepted: every id once",
                record.id()
            )));
        }
        records.push(record);
    }
    Ok(records)
}

/// The lines that are not blank, numbered from 1.
pub(crate) fn lines(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    bytes
        .split(|&byte| byte == b'\n')
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim_ascii()))
        .filter(|(_, line)| !line.is_empty())
}

/// Parses a line as a JSON object.
fn parse_object(line: &[u8]) -> Result<Value> {
    let value: Value =
        serde_json::from_slice(line).map_err(|error| Error::input(format!("not JSON: {error}")))?;
    if value.is_object() {
        Ok(value)
    } else {
        Err(Error::input(format!(
            "found {}, not an object",
            kind(&value)
        )))
    }
}

/// What a JSON value is, with its article.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The key most like `wanted`, where one is like it at all.
pub(crate) fn nearest<'a>(
    wanted: &str,
    keys: impl IntoIterator<Item = &'a String>,
) -> Option<&'a str> {
    let likeness = |key: &str| strsim::jaro_winkler(wanted, key);
    keys.into_iter()
        .map(|key| (likeness(key), key.as_str()))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, key)| key)
}

/// Parses one line as a record.
fn parse<R: Record>(line: &[u8]) -> Result<R> {
    let accepted = || format!("accepted: {} with {}", R::KIND, R::REQUIRED.join(", "));
    let value =
        parse_object(line).map_err(|error| Error::input(format!("{error}; {}", accepted())))?;
    if let Value::Object(object) = &value
        && let Some(missing) = R::REQUIRED
            .iter()
            .find(|field| !object.contains_key(**field))
    {
        let unknown = object
            .keys()
            .filter(|key| !R::REQUIRED.contains(&key.as_str()));
        let error = Error::input(format!("field `{missing}` is missing; {}", accepted()));
        return Err(match nearest(missing, unknown) {
            Some(key) => error.hint(format!("the line has `{key}`: is that `{missing}`?")),
            None => error,
        });
    }
    let record: R = serde_path_to_error::deserialize(value).map_err(|error| {
        let (path, error) = (error.path().to_string(), error.into_inner());
        Error::input(format!("field `{path}`: {error}; {}", accepted()))
    })?;
    let mut checked = std::iter::once(("id", record.id())).chain(record.texts());
    if let Some((field, _)) = checked.find(|(_, text)| text.trim().is_empty()) {
        return Err(Error::input(format!(
            "field `{field}` is empty; accepted: a text"
        )));
    }
    Ok(record)
}

/// One record as a line, with its line feed.
fn to_line<R: Record>(record: &R) -> Result<Vec<u8>> {
    let mut line = serde_json::to_vec(record)
        .map_err(|error| Error::internal(format!("cannot write {}: {error}", R::KIND)))?;
    line.push(b'\n');
    Ok(line)
}

/// Writes a file of these records, whole or not at all.
pub fn write<'a, R: Record + 'a>(
    path: &Path,
    records: impl IntoIterator<Item = &'a R>,
) -> Result<()> {
    let mut bytes = Vec::new();
    for record in records {
        bytes.extend(to_line(record)?);
    }
    write_atomic(path, &bytes)
}

/// A file that grows by a record at a time: for answers that are paid or waited for.
pub struct Log<R> {
    path: PathBuf,
    file: File,
    record: PhantomData<fn(&R)>,
}

impl<R: Record> Log<R> {
    /// Opens or creates a log, and reads the records that it holds. A last line without a line feed is what a killed
    /// process left of a write: it is cut off.
    ///
    /// # Errors
    /// As [`read`].
    pub fn open(path: &Path) -> Result<(Self, Vec<R>)> {
        let fail = |error: std::io::Error| Error::io("open", path, &error);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(fail)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(fail)?;
        let whole = bytes
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |last| last + 1);
        file.set_len(whole as u64).map_err(fail)?;
        file.seek(SeekFrom::End(0)).map_err(fail)?;
        let records = read(path)?;
        let log = Self {
            path: path.to_owned(),
            file,
            record: PhantomData,
        };
        Ok((log, records))
    }

    /// Appends a record. It survives the end of this process from here on, and the machine's after [`Log::sync`].
    pub fn append(&mut self, record: &R) -> Result<()> {
        let line = to_line(record)?;
        self.file
            .write_all(&line)
            .map_err(|error| Error::io("append to", &self.path, &error))
    }

    /// Waits until what was appended is on disk.
    pub fn sync(&mut self) -> Result<()> {
        self.file
            .sync_data()
            .map_err(|error| Error::io("write", &self.path, &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::records::{Demonstration, Pair, PromptRecord};

    fn read_text<R: Record>(text: &str) -> Result<Vec<R>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("records.jsonl");
        std::fs::write(&path, text).unwrap();
        read(&path)
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("records.jsonl");
        let records = vec![
            Demonstration {
                id: "1".into(),
                prompt: "a \"quoted\" line\nand another".into(),
                response: "ünï 🦀".into(),
            },
            Demonstration {
                id: "2".into(),
                prompt: "p".into(),
                response: "r".into(),
            },
        ];
        write(&path, &records).unwrap();
        assert_eq!(read::<Demonstration>(&path).unwrap(), records);
    }

    #[test]
    fn blank_lines_and_fields_that_nobody_asked_for_are_skipped() {
        let text = "\n{\"id\":\"1\",\"prompt\":\"p\",\"source\":\"web\"}\r\n\n";
        assert_eq!(
            read_text::<PromptRecord>(text).unwrap(),
            [PromptRecord {
                id: "1".into(),
                prompt: "p".into()
            }]
        );
    }

    #[test]
    fn errors_have_file_line_and_what_is_accepted() {
        let good = r#"{"id":"1","prompt":"p","response":"r"}"#;
        for (line, message) in [
            ("{oops", "records.jsonl:2: not JSON: key must be a string"),
            ("[1]", "records.jsonl:2: found a list, not an object"),
            (
                r#"{"id":"2","prompt":"p"}"#,
                "records.jsonl:2: field `response` is missing; accepted: a demonstration with id, prompt, response",
            ),
            (
                r#"{"id":"2","prompt":3,"response":"r"}"#,
                "records.jsonl:2: field `prompt`: invalid type: integer `3`, expected a string",
            ),
            (
                r#"{"id":"2","prompt":"p","response":" "}"#,
                "records.jsonl:2: field `response` is empty; accepted: a text",
            ),
            (
                r#"{"id":"1","prompt":"p","response":"r"}"#,
                "records.jsonl:2: id `1` occurs before, in line 1",
            ),
            ("\"\u{1}\"", "records.jsonl:2: not JSON"),
        ] {
            let error = read_text::<Demonstration>(&format!("{good}\n{line}")).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(message), "{error}");
        }
    }

    #[test]
    fn a_misspelt_field_is_recognised() {
        let error =
            read_text::<Demonstration>(r#"{"id":"1","prompt":"p","reponse":"r"}"#).unwrap_err();
        assert_eq!(
            error.hint_text(),
            Some("the line has `reponse`: is that `response`?")
        );
        let error = read_text::<Demonstration>(r#"{"id":"1","prompt":"p","x":"r"}"#).unwrap_err();
        assert_eq!(error.hint_text(), None);
    }

    #[test]
    fn bytes_that_are_not_text_are_wrong_input() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("records.jsonl");
        std::fs::write(&path, [b'"', 0xff, b'"']).unwrap();
        let error = read::<PromptRecord>(&path).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert_eq!(
            read::<PromptRecord>(&dir.path().join("none"))
                .unwrap_err()
                .exit_code(),
            2
        );
    }

    #[test]
    fn a_pair_may_hold_an_empty_response_but_needs_a_source() {
        let pair = r#"{"id":"1","prompt":"p","chosen":"c","rejected":"","source":"pairs"}"#;
        assert!(!read_text::<Pair>(pair).unwrap()[0].flipped);
        let error = read_text::<Pair>(&pair.replace("pairs", "guessed")).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("field `source`: unknown variant `guessed`, expected `pairs` or `edits`"),
            "{error}"
        );
    }

    #[test]
    fn a_log_goes_on_behind_its_last_whole_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        let record = |id: &str| PromptRecord {
            id: id.into(),
            prompt: "p".into(),
        };
        let (mut log, held) = Log::<PromptRecord>::open(&path).unwrap();
        assert!(held.is_empty());
        log.append(&record("1")).unwrap();
        drop(log);
        // A process that was killed while it wrote.
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(br#"{"id":"2","pro"#).unwrap();
        let (mut log, held) = Log::<PromptRecord>::open(&path).unwrap();
        assert_eq!(held, [record("1")]);
        log.append(&record("2")).unwrap();
        drop(log);
        assert_eq!(
            read::<PromptRecord>(&path).unwrap(),
            [record("1"), record("2")]
        );
    }
}
