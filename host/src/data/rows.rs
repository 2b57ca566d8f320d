//! Rows out of the files that users have: JSONL, a JSON array, CSV, TSV or Parquet, gzipped or not, one file or a folder.
//!
//! Every file of a user comes in here, whatever its rows mean; finegrain's own files are [`jsonl`](super::jsonl)'s. What a
//! file is, its first bytes say and not its name; of a name, only the endings of tables with delimiters count.

mod content;
mod delimited;
mod json;
mod mend;
mod parquet;
mod strangers;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::data::fields::FieldPath;
use crate::data::hub::Hub;
use crate::data::hub::dataset::{self, Dataset};
use crate::data::records::{SetAside, SetAsideReason};
use crate::error::{Error, Result};
use crate::pipeline::store::sha256_of_file;

/// What is read, for messages.
const ACCEPTED: &str =
    "JSONL, one JSON array, CSV, TSV or Parquet, each but the last also gzipped; texts in UTF-8";

/// The endings of the files of a folder that are read; `.gz` may stand behind all of them but the last.
const ENDINGS: [&str; 6] = ["jsonl", "ndjson", "json", "csv", "tsv", "parquet"];

/// What rows of a file are counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    /// Lines of a text; blank ones count, but are no rows.
    Line,
    /// Items of one array, or objects one behind the other.
    Item,
    /// Rows of a Parquet file.
    Row,
}

/// A row: an object, and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The values by their keys. Those of CSV are texts.
    pub values: Value,
    file: usize,
    number: usize,
}

/// A file that rows were read from.
#[derive(Clone, Debug, PartialEq)]
struct File {
    path: PathBuf,
    unit: Unit,
}

/// A row that cannot be read, in a file whose other rows can.
#[derive(Clone, Debug, PartialEq)]
struct Unreadable {
    file: usize,
    number: usize,
    what: String,
}

/// The rows of a file or a folder, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// What could be read.
    pub rows: Vec<Row>,
    files: Vec<File>,
    unreadable: Vec<Unreadable>,
}

/// What one file holds: rows, and those that cannot be read with the reason; both with their numbers from 1.
struct Read {
    unit: Unit,
    rows: Vec<(usize, Value)>,
    unreadable: Vec<(usize, String)>,
}

impl Read {
    fn new(unit: Unit) -> Self {
        Self {
            unit,
            rows: Vec::new(),
            unreadable: Vec::new(),
        }
    }

    /// Rows so far, readable or not.
    fn len(&self) -> usize {
        self.rows.len() + self.unreadable.len()
    }
}

impl Rows {
    /// Reads a file, or all files of a folder in the order of their names; no more than `most` rows, from the top.
    ///
    /// # Errors
    /// A file that is something else, is empty or is damaged: one sentence that says what it is and what is accepted.
    pub fn read(path: &Path, most: Option<usize>) -> Result<Self> {
        let mut all = Self::default();
        let most = most.unwrap_or(usize::MAX);
        for path in files(path)?.paths {
            let left = most - all.len();
            if left == 0 {
                break;
            }
            all.add(&path, read_file(&path, left)?);
        }
        Ok(all)
    }

    fn add(&mut self, path: &Path, read: Read) {
        let file = self.files.len();
        self.files.push(File {
            path: path.to_owned(),
            unit: read.unit,
        });
        let rows = read.rows.into_iter().map(|(number, values)| Row {
            values,
            file,
            number,
        });
        self.rows.extend(rows);
        let unreadable = read.unreadable.into_iter();
        self.unreadable
            .extend(unreadable.map(|(number, what)| Unreadable { file, number, what }));
    }

    /// How many rows there are, readable or not.
    pub fn len(&self) -> usize {
        self.rows.len() + self.unreadable.len()
    }

    /// Whether there is no row at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where a row stands, for messages: `file.jsonl:7`, `file.json, item 7`, `file.parquet, row 7`.
    pub fn place(&self, row: &Row) -> String {
        let File { path, unit } = &self.files[row.file];
        let (path, number) = (path.display(), row.number);
        match unit {
            Unit::Line => format!("{path}:{number}"),
            Unit::Item => format!("{path}, item {number}"),
            Unit::Row => format!("{path}, row {number}"),
        }
    }

    /// The id of a row that has none: its number and, where there are several files, the file's name in front.
    pub fn id(&self, row: &Row) -> String {
        self.id_of(row.file, row.number)
    }

    fn id_of(&self, file: usize, number: usize) -> String {
        if self.files.len() == 1 {
            return number.to_string();
        }
        let name = self.files[file].path.file_name().unwrap_or_default();
        format!("{}:{number}", name.to_string_lossy())
    }

    /// The id of a row: the text or number in a field or, without one, that of [`Rows::id`]. `places` has the rows so far.
    ///
    /// # Errors
    /// No id in the row, or one that occurs before.
    pub(super) fn named(
        &self,
        row: &Row,
        field: Option<&FieldPath>,
        places: &mut HashMap<String, String>,
    ) -> Result<String> {
        let place = self.place(row);
        let id = match field {
            None => self.id(row),
            Some(field) => field
                .name(&row.values)
                .map_err(|found| Error::input(format!("{place}: no id: {found}")))?,
        };
        if let Some(first) = places.get(&id) {
            return Err(Error::input(format!(
                "{place}: id `{id}` occurs before, at {first}; accepted: every id once"
            ))
            .hint("without id_field, the number of the line is the id"));
        }
        places.insert(id.clone(), place);
        Ok(id)
    }

    /// The rows that cannot be read, by the ids that rows without one have.
    pub fn set_aside(&self) -> impl Iterator<Item = SetAside> {
        self.unreadable.iter().map(|row| {
            SetAside::new(
                self.id_of(row.file, row.number),
                SetAsideReason::Unreadable,
                &row.what,
            )
        })
    }
}

/// What identifies the content of a file or a folder, for the keys of stages: the hash of a file, or of every file by its name.
pub fn fingerprint(path: &Path) -> Result<Value> {
    let Files { paths, one } = files(path)?;
    if one {
        return Ok(sha256_of_file(&paths[0])?.into());
    }
    let mut hashes = Map::new();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        hashes.insert(name.into_owned(), sha256_of_file(&path)?.into());
    }
    Ok(Value::Object(hashes))
}

/// The files that a path stands for.
struct Files {
    /// At least one, in the order in which they are read.
    paths: Vec<PathBuf>,
    /// The path is that of a file, and not of a folder that may have several.
    one: bool,
}

/// The file itself, the files of a folder that are read, by name, or those of a data set of the hub.
fn files(path: &Path) -> Result<Files> {
    if let Some(address) = path.to_str().filter(|text| dataset::is_address(text)) {
        let (paths, one) =
            Dataset::parse(address)?.files(&Hub::from_env()?, |name| is_data(Path::new(name)))?;
        return Ok(Files { paths, one });
    }
    if !path.is_dir() {
        return Ok(Files {
            paths: vec![path.to_owned()],
            one: true,
        });
    }
    let fail = |error: std::io::Error| Error::io("read", path, &error);
    let mut paths = Vec::new();
    for entry in fs::read_dir(path).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if is_data(&path) && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    if paths.is_empty() {
        return Err(Error::input(format!(
            "{}: no file of this folder is read; accepted endings: .{}, and .gz behind them",
            path.display(),
            ENDINGS.join(", .")
        )));
    }
    Ok(Files { paths, one: false })
}

fn is_data(path: &Path) -> bool {
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .to_lowercase();
    let inner = name.strip_suffix(".gz").unwrap_or(&name);
    !name.starts_with('.')
        && inner
            .rsplit_once('.')
            .is_some_and(|(_, ending)| ENDINGS.contains(&ending))
}

fn read_file(path: &Path, most: usize) -> Result<Read> {
    let read = match content::open(path)? {
        content::Content::Parquet => parquet::read(path, most)?,
        content::Content::Text(text) => match delimited::delimiter(path, &text) {
            Some(delimiter) => delimited::read(path, &text, delimiter, most)?,
            None => json::read(path, &text, most)?,
        },
    };
    if read.len() == 0 {
        return Err(Error::input(format!(
            "{}: the file has no rows",
            path.display()
        )));
    }
    Ok(read)
}

#[cfg(test)]
mod tests;
