//! Looking at a folder of answers, and forgetting some: what a verb of the host shows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use finegrain_sdk::{Error, Result};

use super::batch::Batch;
use super::index::Index;
use super::log::Log;
use super::record::{FORMAT, Line, Record, batch_end};
use crate::outcome::Reply;
use crate::usd::Usd;

/// A folder of answers.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    index: Index,
    remarks: Vec<String>,
}

/// One answer in a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The answer as it is kept.
    pub record: Record,
    /// What it says; an error in words where this version cannot read it.
    pub reply: std::result::Result<Reply, String>,
    /// Whether an earlier answer to the same question counts instead.
    pub surplus: bool,
}

/// What a check has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Answers that are what they were.
    pub sound: usize,
    /// Answers that are not, each in words with file and place.
    pub damaged: Vec<String>,
    /// Lines that were skipped, each in words.
    pub skipped: Vec<String>,
    /// Answers to questions that have an earlier one.
    pub surplus: usize,
    /// Requests that may be paid and brought no answer.
    pub lost: usize,
}

/// What answers cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// How many answers.
    pub answers: usize,
    /// How many of them have no known price; `usd` is without them.
    pub unpriced: usize,
    /// Tokens that were read.
    pub input: u64,
    /// Tokens that were written.
    pub output: u64,
    /// What they cost, by the prices of their days.
    pub usd: Usd,
}

impl Folder {
    /// Opens a folder and reads its lines.
    ///
    /// # Errors
    /// There is no such folder, it cannot be read, or it was written by a later version.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            return Err(Error::input(format!(
                "{}: no folder of answers",
                path.display()
            )));
        }
        let mut index = Index::open(path)?;
        Ok(Self {
            path: path.to_owned(),
            remarks: index.take_remarks(),
            index,
        })
    }

    /// All answers that were not forgotten, in the order in which they were kept.
    ///
    /// # Errors
    /// A file that cannot be read, or a line that is no answer.
    pub fn list(&self) -> Result<Vec<Entry>> {
        self.index
            .all()
            .into_iter()
            .map(|place| {
                let record = self.index.read(place)?;
                let first = self.index.places(&record.key).next();
                Ok(Entry {
                    reply: record.read().map(|read| read.reply),
                    surplus: first.is_some_and(|first| first.id() != place.id()),
                    record,
                })
            })
            .collect()
    }

    /// The answers to the question whose key begins with some digits, the one that counts first.
    ///
    /// # Errors
    /// No key or several keys begin so, or a file that cannot be read.
    pub fn show(&self, prefix: &str) -> Result<Vec<Record>> {
        let key = self.one_key(prefix)?;
        self.index
            .places(&key)
            .map(|place| self.index.read(place))
            .collect()
    }

    /// Reads every answer and checks it against its hashes.
    ///
    /// # Errors
    /// A file that cannot be opened.
    pub fn verify(&self) -> Result<Verified> {
        let mut verified = Verified {
            skipped: self.remarks.clone(),
            lost: self.index.all_lost().0,
            ..Verified::default()
        };
        for place in self.index.all() {
            let damage = match self.index.read(place) {
                Ok(record) => {
                    let first = self.index.places(&record.key).next();
                    verified.surplus += usize::from(first.is_some_and(|it| it.id() != place.id()));
                    record.damage().map(str::to_owned)
                }
                Err(error) => Some(error.message),
            };
            match damage {
                None => verified.sound += 1,
                Some(what) => verified.damaged.push(format!("{}: {what}", place.name())),
            }
        }
        Ok(verified)
    }

    /// What the answers cost, by plugin and model asked for; surplus ones included, for they were paid too.
    ///
    /// # Errors
    /// A file that cannot be read, or a line that is no answer.
    pub fn cost(&self) -> Result<BTreeMap<(String, String), Cost>> {
        let mut costs = BTreeMap::<_, Cost>::new();
        for place in self.index.all() {
            let record = self.index.read(place)?;
            let usd = record.usd();
            let cost = costs
                .entry((record.plugin, record.model_asked))
                .or_default();
            cost.answers += 1;
            cost.input += record.input_tokens.unwrap_or(0);
            cost.output += record.output_tokens.unwrap_or(0);
            match usd {
                Some(usd) => cost.usd = cost.usd.plus(usd),
                None => cost.unpriced += 1,
            }
        }
        Ok(costs)
    }

    /// All batches, the oldest first, and how many questions of each have an answer.
    pub fn batches(&self) -> Vec<(&Batch, usize)> {
        let answered = |batch: &Batch| {
            let mut keys = batch.keys.iter();
            let has_one = |key: &&String| self.index.places(key).next().is_some();
            keys.by_ref().filter(has_one).count()
        };
        let all = self.index.batches().all();
        all.into_iter()
            .map(|batch| (batch, answered(batch)))
            .collect()
    }

    /// Expects nothing more of a batch: its questions that have no answer are asked again, and paid again where the server
    /// had answered them. Returns how many they are.
    ///
    /// # Errors
    /// No open batch has this id, or a folder that cannot be written.
    pub fn give_up(&mut self, id: &str) -> Result<usize> {
        let batches = self.batches();
        let open = batches.iter().find(|(batch, _)| {
            batch.ended.is_none() && (batch.id.as_deref() == Some(id) || batch.intent == id)
        });
        let Some((batch, answered)) = open else {
            return Err(Error::input(format!(
                "{}: no batch {id:?} that anything is expected of",
                self.path.display()
            )));
        };
        let (intent, left) = (batch.intent.clone(), batch.keys.len() - answered);
        Log::new(&self.path)?.append(&batch_end(&intent, "given up"), true)?;
        self.index.refresh(None)?;
        Ok(left)
    }

    /// How many requests have brought no answer and may be paid, and the most that they can have cost, as far as it is
    /// known.
    pub fn lost(&self) -> (usize, Usd) {
        self.index.all_lost()
    }

    /// Forgets all answers to these questions, so that they are asked again; the lines stay where they are. Returns how
    /// many answers that were.
    ///
    /// # Errors
    /// A prefix that no key or several keys have, or a folder that cannot be written. Then nothing is forgotten.
    pub fn forget<S: AsRef<str>>(&mut self, prefixes: &[S]) -> Result<usize> {
        let mut ids = Vec::new();
        for prefix in prefixes {
            let key = self.one_key(prefix.as_ref())?;
            ids.extend(self.index.places(&key).map(|place| place.id().to_owned()));
        }
        if ids.is_empty() {
            return Ok(0);
        }
        let count = ids.len();
        Log::new(&self.path)?.append(&Line::Forget { v: FORMAT, ids }, true)?;
        self.index.refresh(None)?;
        Ok(count)
    }

    /// The one key that begins with some digits.
    fn one_key(&self, prefix: &str) -> Result<String> {
        let mut keys = self.index.keys_with(prefix);
        match keys.len() {
            1 => Ok(keys.remove(0)),
            0 => Err(Error::input(format!(
                "{}: no answer has a key that begins with {prefix:?}",
                self.path.display()
            ))),
            several => Err(Error::input(format!(
                "{}: {several} keys begin with {prefix:?}: {}, {}…; give more digits",
                self.path.display(),
                keys[0],
                keys[1]
            ))),
        }
    }
}
