//! Where every answer is: the folder's files read once, and what others append to them since.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use finegrain_sdk::serde::Deserialize;
use finegrain_sdk::serde_json;
use finegrain_sdk::{Error, Result};
use jiff::Timestamp;

use super::batch::{Batch, Batches};
use super::failed;
use super::record::{FORMAT, Line, Record};
use crate::usd::Usd;

/// How the files of answers end.
pub(super) const EXTENSION: &str = "jsonl";

/// Where an answer is, and when it came to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    kept: Timestamp,
    id: String,
    file: Arc<str>,
    start: u64,
    length: usize,
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.kept, &self.id).cmp(&(other.kept, &other.id))
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// What the index needs of a line.
#[derive(Default, Deserialize)]
#[serde(crate = "finegrain_sdk::serde", default)]
struct Light {
    v: u32,
    line: String,
    id: String,
    ids: Vec<String>,
    key: String,
    picodollars: Option<u64>,
    kept: String,
    model_asked: String,
    model_answered: String,
    base_url: String,
    keys: Vec<String>,
    at: String,
    batch: String,
    why: String,
}

/// All answers of a folder, by key.
#[derive(Debug)]
pub(super) struct Index {
    folder: PathBuf,
    /// How far each file is read, in bytes and in lines.
    files: BTreeMap<String, (u64, u64)>,
    answers: HashMap<String, BTreeSet<Place>>,
    forgotten: HashSet<String>,
    /// Requests without an end, by key: id and the most each can have cost.
    open: HashMap<String, HashMap<String, Option<Usd>>>,
    /// The key of each request without an end.
    keys: HashMap<String, String>,
    models: BTreeMap<String, BTreeSet<String>>,
    batches: Batches,
    /// What was skipped, in words, until somebody takes it.
    remarks: Vec<String>,
}

impl Index {
    /// The index of a folder, which need not be there.
    ///
    /// # Errors
    /// A file or folder that cannot be read, or a file of a later version.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let mut index = Self {
            folder: folder.to_owned(),
            files: BTreeMap::new(),
            answers: HashMap::new(),
            forgotten: HashSet::new(),
            open: HashMap::new(),
            keys: HashMap::new(),
            models: BTreeMap::new(),
            batches: Batches::default(),
            remarks: Vec::new(),
        };
        for (name, bytes) in index.refresh(None)? {
            index.remarks.push(format!(
                "{}: the last line has no end ({bytes} bytes): a process was killed there, or is writing; it is skipped",
                folder.join(name).display()
            ));
        }
        Ok(index)
    }

    /// Reads what is new. `own` is a file that this process writes, whose lines come by [`Index::add`]. Returns the files
    /// that end in the middle of a line, with the bytes there.
    ///
    /// # Errors
    /// As [`Index::open`].
    pub(super) fn refresh(&mut self, own: Option<&str>) -> Result<Vec<(String, usize)>> {
        let folder = self.folder.clone();
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed("read", &folder, &error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| failed("read", &folder, &error))?;
            let path = PathBuf::from(entry.file_name());
            let (Some(name), Some(ending)) = (path.to_str(), path.extension()) else {
                continue;
            };
            if ending == EXTENSION && Some(name) != own {
                names.push(name.to_owned());
            }
        }
        names.sort();
        let mut torn = Vec::new();
        for name in names {
            let rest = self.read_file(&name)?;
            if rest > 0 {
                torn.push((name, rest));
            }
        }
        Ok(torn)
    }

    /// Reads the whole lines of a file that are new; returns the bytes after the last of them.
    fn read_file(&mut self, name: &str) -> Result<usize> {
        let path = self.folder.join(name);
        let io = |error: std::io::Error| failed("read", &path, &error);
        let (mut start, mut number) = self.files.get(name).copied().unwrap_or_default();
        let mut file = File::open(&path).map_err(io)?;
        if file.metadata().map_err(io)?.len() <= start {
            return Ok(0);
        }
        file.seek(SeekFrom::Start(start)).map_err(io)?;
        let mut reader = BufReader::new(file);
        let shared: Arc<str> = name.into();
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            let length = reader.read_until(b'\n', &mut bytes).map_err(io)?;
            if bytes.last() != Some(&b'\n') {
                self.files.insert(name.to_owned(), (start, number));
                return Ok(length);
            }
            number += 1;
            let at = format!("{}:{number}", path.display());
            self.take(&bytes, &at, &shared, start)?;
            start += length as u64;
        }
    }

    /// Takes in one line.
    fn take(&mut self, bytes: &[u8], at: &str, file: &Arc<str>, start: u64) -> Result<()> {
        if bytes.trim_ascii().is_empty() {
            return Ok(());
        }
        let light: Light = match serde_json::from_slice(bytes) {
            Ok(light) => light,
            Err(error) => {
                self.remarks
                    .push(format!("{at}: no line of answers, skipped: {error}"));
                return Ok(());
            }
        };
        if light.v > FORMAT {
            return Err(Error::plugin(format!(
                "{at}: written by a later version (v = {}; up to {FORMAT} is read)",
                light.v
            )));
        }
        match &*light.line {
            "sent" => {
                self.open
                    .entry(light.key.clone())
                    .or_default()
                    .insert(light.id.clone(), light.picodollars.map(Usd::from_pico));
                self.keys.insert(light.id, light.key);
            }
            "unpaid" => self.close(&light.id),
            "answer" => {
                let Ok(kept) = light.kept.parse() else {
                    self.remarks.push(format!(
                        "{at}: kept = {:?} is no moment; the line is skipped",
                        light.kept
                    ));
                    return Ok(());
                };
                self.close(&light.id);
                self.saw(&light.model_asked, &light.model_answered);
                let place = Place {
                    kept,
                    id: light.id,
                    file: file.clone(),
                    start,
                    length: bytes.len(),
                };
                self.answers.entry(light.key).or_default().insert(place);
            }
            "intent" => match light.at.parse() {
                Ok(moment) => self.batches.intend(Batch {
                    intent: light.id,
                    base_url: light.base_url,
                    keys: light.keys,
                    at: moment,
                    id: None,
                    ended: None,
                }),
                Err(_) => self.remarks.push(format!(
                    "{at}: at = {:?} is no moment; the line is skipped",
                    light.at
                )),
            },
            "batch" => self.batches.posted(&light.id, &light.batch),
            "batch_end" => self.batches.ended(&light.id, &light.why),
            "forget" => self.forgotten.extend(light.ids),
            other => self
                .remarks
                .push(format!("{at}: an unknown line {other:?}, skipped")),
        }
        Ok(())
    }

    /// Takes in an answer that this process has appended.
    pub(super) fn add(&mut self, record: &Record, file: &str, start: u64, length: usize) {
        let Ok(kept) = record.kept.parse() else {
            return;
        };
        let place = Place {
            kept,
            id: record.id.clone(),
            file: file.into(),
            start,
            length,
        };
        self.answers
            .entry(record.key.clone())
            .or_default()
            .insert(place);
        self.saw(&record.model_asked, &record.model_answered);
    }

    /// The batches.
    pub(super) fn batches(&self) -> &Batches {
        &self.batches
    }

    /// The batches, for what this process has appended about them.
    pub(super) fn batches_mut(&mut self) -> &mut Batches {
        &mut self.batches
    }

    /// A request has its end.
    fn close(&mut self, id: &str) {
        let Some(key) = self.keys.remove(id) else {
            return;
        };
        if let Some(open) = self.open.get_mut(&key) {
            open.remove(id);
        }
    }

    fn saw(&mut self, asked: &str, answered: &str) {
        self.models
            .entry(asked.to_owned())
            .or_default()
            .insert(answered.to_owned());
    }

    /// The places of the answers that count to a question, the first kept first.
    pub(super) fn places(&self, key: &str) -> impl Iterator<Item = &Place> {
        self.answers
            .get(key)
            .into_iter()
            .flatten()
            .filter(|place| !self.forgotten.contains(&place.id))
    }

    /// All places, in the order in which the answers were kept.
    pub(super) fn all(&self) -> Vec<&Place> {
        let mut all: Vec<&Place> = self
            .answers
            .keys()
            .flat_map(|key| self.places(key))
            .collect();
        all.sort();
        all
    }

    /// The most that requests of a question without an end can have cost, and how many there are.
    pub(super) fn lost(&self, key: &str) -> (usize, Usd) {
        let open = self.open.get(key).into_iter().flatten();
        open.fold((0, Usd::ZERO), |(count, sum), (_, most)| {
            (count + 1, sum.plus(most.unwrap_or_default()))
        })
    }

    /// How many requests have no end, and the most that they can have cost.
    pub(super) fn all_lost(&self) -> (usize, Usd) {
        self.open.keys().fold((0, Usd::ZERO), |(count, sum), key| {
            let (more, usd) = self.lost(key);
            (count + more, sum.plus(usd))
        })
    }

    /// The names under which a model has answered.
    pub(super) fn answered_as(&self, asked: &str) -> Option<&BTreeSet<String>> {
        self.models.get(asked)
    }

    /// Keys that begin with some digits.
    pub(super) fn keys_with(&self, prefix: &str) -> Vec<String> {
        let mut keys: Vec<String> = self
            .answers
            .keys()
            .filter(|key| key.starts_with(prefix) && self.places(key).next().is_some())
            .cloned()
            .collect();
        keys.sort();
        keys
    }

    /// Adds to what was skipped.
    pub(super) fn remark(&mut self, remarks: Vec<String>) {
        self.remarks.extend(remarks);
    }

    /// What was skipped since the last time, in words.
    pub(super) fn take_remarks(&mut self) -> Vec<String> {
        std::mem::take(&mut self.remarks)
    }

    /// The answer at a place.
    ///
    /// # Errors
    /// A file that cannot be read, or a line that is no answer.
    pub(super) fn read(&self, place: &Place) -> Result<Record> {
        let path = self.folder.join(&*place.file);
        let io = |error: std::io::Error| failed("read", &path, &error);
        let mut file = File::open(&path).map_err(io)?;
        file.seek(SeekFrom::Start(place.start)).map_err(io)?;
        let mut bytes = vec![0; place.length];
        file.read_exact(&mut bytes).map_err(io)?;
        match serde_json::from_slice(&bytes) {
            Ok(Line::Answer(record)) => Ok(*record),
            Ok(_) => Err(Error::plugin(format!("{}: no answer", place.name()))),
            Err(error) => Err(Error::plugin(format!("{}: {error}", place.name()))),
        }
    }
}

impl Place {
    /// The answer's id.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// File and byte, for messages.
    pub(super) fn name(&self) -> String {
        format!("{}, byte {}", self.file, self.start)
    }
}
