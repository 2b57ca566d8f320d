//! The client's side of the folder: finding, claiming, keeping.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use finegrain_sdk::Result;
use jiff::Timestamp;

use super::batch::Batch;
use super::index::Index;
use super::log::Log;
use super::record::{FORMAT, Line, Record, batch_end, now};
use crate::usd::Usd;

/// How often at most the files of others are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// A folder of answers that is read and written.
#[derive(Debug)]
pub(crate) struct Layer {
    index: Mutex<Looked>,
    log: Log,
    claimed: Mutex<HashSet<String>>,
    freed: Condvar,
}

#[derive(Debug)]
struct Looked {
    index: Index,
    at: Instant,
}

impl Layer {
    /// Opens a folder; nothing is written before the first request.
    ///
    /// # Errors
    /// A folder or file that cannot be read.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        Ok(Self {
            index: Mutex::new(Looked {
                index: Index::open(folder)?,
                at: Instant::now(),
            }),
            log: Log::new(folder)?,
            claimed: Mutex::default(),
            freed: Condvar::new(),
        })
    }

    /// The answer that counts to a question, where there is one. A damaged one is skipped, and said.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(crate) fn find(&self, key: &str) -> Result<Option<Record>> {
        let mut looked = self.lock();
        let mut damaged = Vec::new();
        let mut found = None;
        for place in looked.index.places(key) {
            let record = looked.index.read(place)?;
            match record.damage() {
                None => {
                    found = Some(record);
                    break;
                }
                Some(what) => damaged.push(format!("{}: {what}; not used", place.name())),
            }
        }
        looked.index.remark(damaged);
        Ok(found)
    }

    /// Reads what other processes have kept, unless that was just done.
    ///
    /// # Errors
    /// A folder or file that cannot be read.
    pub(crate) fn look_again(&self) -> Result<()> {
        let mut looked = self.lock();
        if looked.at.elapsed() >= LOOK {
            // Lines without an end are being written; they are read the next time.
            looked.index.refresh(Some(self.log.name()))?;
            looked.at = Instant::now();
        }
        Ok(())
    }

    /// The most that requests of earlier processes can have cost of which no answer came.
    pub(crate) fn lost(&self, key: &str) -> Usd {
        self.lock().index.lost(key).1
    }

    /// What was skipped, in words.
    pub(crate) fn remarks(&self) -> Vec<String> {
        self.lock().index.take_remarks()
    }

    /// Keeps other workers from asking the same question at the same time; waits for whoever does, while `go_on` says so.
    pub(crate) fn claim(&self, key: &str, go_on: impl Fn() -> bool) -> Option<Claim<'_>> {
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        while claimed.contains(key) {
            if !go_on() {
                return None;
            }
            (claimed, _) = self
                .freed
                .wait_timeout(claimed, Duration::from_millis(100))
                .unwrap_or_else(PoisonError::into_inner);
        }
        claimed.insert(key.to_owned());
        Some(Claim {
            layer: self,
            key: key.to_owned(),
        })
    }

    /// Notes that a request is about to leave that costs at most `most`; returns its id.
    ///
    /// # Errors
    /// It could not be written.
    pub(crate) fn sent(&self, key: &str, most: Option<Usd>) -> Result<String> {
        let id = self.log.new_id();
        let line = Line::Sent {
            v: FORMAT,
            id: id.clone(),
            key: key.to_owned(),
            picodollars: most.map(Usd::pico),
            at: now(),
        };
        self.log.append(&line, false)?;
        Ok(id)
    }

    /// Notes that a request has ended for free.
    ///
    /// # Errors
    /// It could not be written.
    pub(crate) fn unpaid(&self, id: String) -> Result<()> {
        self.log
            .append(&Line::Unpaid { v: FORMAT, id }, false)
            .map(drop)
    }

    /// An id that no other answer has.
    pub(crate) fn new_id(&self) -> String {
        self.log.new_id()
    }

    /// Notes that a batch of questions is about to be posted that costs at most `most`; it is on the disk when this returns.
    ///
    /// # Errors
    /// It could not be written.
    pub(crate) fn intend(
        &self,
        base_url: &str,
        keys: Vec<String>,
        most: Option<Usd>,
    ) -> Result<Batch> {
        let at = Timestamp::now();
        let batch = Batch {
            intent: self.log.new_id(),
            base_url: base_url.to_owned(),
            keys,
            at,
            id: None,
            ended: None,
        };
        let line = Line::Intent {
            v: FORMAT,
            id: batch.intent.clone(),
            base_url: batch.base_url.clone(),
            keys: batch.keys.clone(),
            picodollars: most.map(Usd::pico),
            at: at.to_string(),
        };
        self.log.append(&line, true)?;
        self.lock().index.batches_mut().intend(batch.clone());
        Ok(batch)
    }

    /// Notes the server's id of a batch; it is on the disk when this returns.
    ///
    /// # Errors
    /// It could not be written.
    pub(crate) fn posted(&self, intent: &str, id: &str) -> Result<()> {
        let line = Line::Batch {
            v: FORMAT,
            id: intent.to_owned(),
            batch: id.to_owned(),
        };
        self.log.append(&line, true)?;
        self.lock().index.batches_mut().posted(intent, id);
        Ok(())
    }

    /// Notes that nothing more is expected of a batch.
    ///
    /// # Errors
    /// It could not be written.
    pub(crate) fn batch_ended(&self, intent: &str, why: &str) -> Result<()> {
        let line = batch_end(intent, why);
        self.log.append(&line, true)?;
        self.lock().index.batches_mut().ended(intent, why);
        Ok(())
    }

    /// The batches at an address that something is expected of, the oldest first.
    pub(crate) fn open_batches(&self, base_url: &str) -> Vec<Batch> {
        self.lock().index.batches().open_at(base_url)
    }

    /// The ids of batches that the folder knows.
    pub(crate) fn batch_ids(&self) -> BTreeSet<String> {
        self.lock().index.batches().ids()
    }

    /// Keeps an answer: it is on the disk when this returns. Says the other names under which the model has answered, where
    /// this one is new.
    ///
    /// # Errors
    /// It could not be written.
    pub(crate) fn keep(&self, mut record: Record) -> Result<(Record, Option<BTreeSet<String>>)> {
        record.kept = now();
        let line = Line::Answer(Box::new(record));
        let (start, length) = self.log.append(&line, true)?;
        let Line::Answer(record) = line else {
            unreachable!("the line is an answer");
        };
        let mut looked = self.lock();
        let others = looked
            .index
            .answered_as(&record.model_asked)
            .filter(|names| !names.contains(&record.model_answered))
            .cloned();
        looked.index.add(&record, self.log.name(), start, length);
        Ok((*record, others))
    }

    fn lock(&self) -> MutexGuard<'_, Looked> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to ask a question, until it is dropped.
#[derive(Debug)]
pub(crate) struct Claim<'a> {
    layer: &'a Layer,
    key: String,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut claimed = self
            .layer
            .claimed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        claimed.remove(&self.key);
        drop(claimed);
        self.layer.freed.notify_all();
    }
}
