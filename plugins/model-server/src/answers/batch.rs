//! Batches as the folder knows them: an intent before anything is sent, the server's id behind it, and their end.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

/// Digits of a key that name a request within a batch.
const NAME: usize = 32;

/// A batch that was posted, or was about to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Names the intent: its file, and a number in it.
    pub intent: String,
    /// The server's address.
    pub base_url: String,
    /// The keys of its questions.
    pub keys: Vec<String>,
    /// When it was about to be posted.
    pub at: Timestamp,
    /// The server's id; `None` where a process was killed before it knew it.
    pub id: Option<String>,
    /// Why nothing more is expected of it; `None` while something is.
    pub ended: Option<String>,
}

/// What names a request within a batch: the first 32 hexadecimal digits of its question's key, so that a result says itself
/// which question it answers.
pub(crate) fn custom_id(key: &str) -> &str {
    key.get(..NAME).unwrap_or(key)
}

/// All batches of a folder, by their intents.
#[derive(Debug, Default)]
pub(super) struct Batches(BTreeMap<String, Batch>);

impl Batches {
    /// Takes in an intent. The lines of a batch may stand in files of several processes, read in any order.
    pub(super) fn intend(&mut self, batch: Batch) {
        let known = self.0.remove(&batch.intent);
        let (id, ended) = known.map_or((None, None), |known| (known.id, known.ended));
        let intent = batch.intent.clone();
        self.0.insert(intent, Batch { id, ended, ..batch });
    }

    /// Takes in the server's id.
    pub(super) fn posted(&mut self, intent: &str, id: &str) {
        self.entry(intent).id.get_or_insert_with(|| id.to_owned());
    }

    /// Takes in the end.
    pub(super) fn ended(&mut self, intent: &str, why: &str) {
        self.entry(intent)
            .ended
            .get_or_insert_with(|| why.to_owned());
    }

    fn entry(&mut self, intent: &str) -> &mut Batch {
        self.0.entry(intent.to_owned()).or_insert_with(|| Batch {
            intent: intent.to_owned(),
            base_url: String::new(),
            keys: Vec::new(),
            at: Timestamp::UNIX_EPOCH,
            id: None,
            ended: None,
        })
    }

    /// All of them, the oldest first.
    pub(super) fn all(&self) -> Vec<&Batch> {
        let mut all: Vec<&Batch> = self.0.values().filter(|it| !it.keys.is_empty()).collect();
        all.sort_by_key(|batch| (batch.at, &batch.intent));
        all
    }

    /// Those at an address that something is expected of.
    pub(super) fn open_at(&self, base_url: &str) -> Vec<Batch> {
        let open = |it: &&Batch| it.ended.is_none() && it.base_url == base_url;
        self.all().into_iter().filter(open).cloned().collect()
    }

    /// The server's ids that are known.
    pub(super) fn ids(&self) -> BTreeSet<String> {
        self.0
            .values()
            .filter_map(|batch| batch.id.clone())
            .collect()
    }
}
