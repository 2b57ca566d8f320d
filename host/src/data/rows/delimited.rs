//! Tables of texts: CSV, with commas or the semicolons of some spreadsheets, and TSV. The first line names the columns.

use std::path::Path;

use csv::{ReaderBuilder, StringRecord};
use serde_json::{Map, Value};

use super::{Read, Unit};
use crate::error::{Error, Result};

/// The delimiter of a table; `None` where the name or the beginning says that the text is none.
pub(super) fn delimiter(path: &Path, text: &str) -> Option<u8> {
    let name = path.file_name()?.to_string_lossy().to_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    if Path::new(name).extension()? == "tsv" {
        return Some(b'\t');
    }
    if Path::new(name).extension()? != "csv" || text.trim_start().starts_with(['{', '[']) {
        return None;
    }
    let header = text.trim_start().lines().next().unwrap_or_default();
    let count = |delimiter: char| header.matches(delimiter).count();
    // Of as many, the first: a header that is one word has no delimiter at all.
    [',', ';', '\t']
        .into_iter()
        .rev()
        .max_by_key(|&delimiter| count(delimiter))
        .and_then(|delimiter| u8::try_from(delimiter).ok())
}

/// Reads up to `most` rows; all values are texts.
pub(super) fn read(path: &Path, text: &str, delimiter: u8, most: usize) -> Result<Read> {
    let fail = |error: csv::Error| Error::input(format!("{}: {error}", path.display()));
    let mut reader = ReaderBuilder::new()
        .delimiter(delimiter)
        .flexible(true)
        .from_reader(text.as_bytes());
    let header = reader.headers().map_err(fail)?.clone();
    check_header(path, &header)?;
    let open = text.matches('"').count() % 2 == 1;
    let mut read = Read::new(Unit::Line);
    for record in reader.records() {
        let record = record.map_err(fail)?;
        let line = record.position().map_or(0, csv::Position::line) as usize;
        if read.len() == most {
            return Ok(read);
        }
        if record.len() == header.len() {
            let cells = header.iter().zip(&record);
            let row: Map<String, Value> = cells
                .map(|(key, cell)| (key.to_owned(), cell.into()))
                .collect();
            read.rows.push((line, Value::Object(row)));
        } else {
            let found = format!(
                "{} fields, and the header has {}",
                record.len(),
                header.len()
            );
            read.unreadable.push((line, found));
        }
    }
    if open && read.rows.last().map(|row| row.0) > read.unreadable.last().map(|row| row.0) {
        // An open quote takes everything behind it, to the end of the file.
        if let Some((line, _)) = read.rows.pop() {
            read.unreadable
                .push((line, "a quote is open to the end of the file".to_owned()));
        }
    }
    Ok(read)
}

fn check_header(path: &Path, header: &StringRecord) -> Result<()> {
    for (at, name) in header.iter().enumerate() {
        if header.iter().take(at).any(|before| before == name) {
            return Err(Error::input(format!(
                "{}:1: two columns are called {name:?}; accepted: a header line with every name once",
                path.display()
            )));
        }
    }
    Ok(())
}
