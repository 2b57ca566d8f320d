//! The artifact store: a stage's result lies in a folder named by the hash of everything that determined it.
//!
//! A folder appears whole or not at all: a stage works in a temporary folder beside it, which is synced and renamed at the
//! end. Its record (`stage.json`) holds what determined the result and the hash of every file; an artifact that is not what
//! its record says is set aside, never used. Of processes that need one stage, the one with the stage's lock computes it.
//! docs/store.md describes the folders and the life of a lock.

pub mod describe;
mod file_hash;
pub mod gc;
pub mod key;
pub mod list;
pub mod lock;
pub mod record;
pub mod references;
pub mod verify;

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

pub use file_hash::sha256_of_file;
#[cfg(feature = "cuda")]
pub(crate) use key::hexadecimal;
pub use key::{FORMAT, StageKey, named, sha256};
pub use lock::Asker;
pub use record::StageRecord;

use crate::error::{Error, Result};
use crate::pipeline::atomic::{sync_folder, write_atomic};
use lock::Lock;
use references::RunReferences;
use verify::{Damage, State, inspect, read_record};

/// The folder of answers that stages have got so far.
const ANSWERS: &str = "answers";
/// The folder of answers that were paid for: of no stage, and never removed by `gc`.
const PAID: &str = "paid";
/// The folder of checkpoints of stages under way.
const CHECKPOINTS: &str = "checkpoints";
/// The folder of locks.
const LOCKS: &str = "locks";
/// The lock that `gc` holds while it looks and removes, and that everybody else shares while they look.
const STORE_LOCK: &str = "store.lock";
/// What a store is known by, so that no other folder is taken for one.
const MARKER: &str = "finegrain-store.txt";
const ABOUT: &str = "Finished stages of finegrain runs. `finegrain store list` shows them, `finegrain store gc` removes \
                     what no run uses.\n";

/// A finished stage.
#[derive(Clone, Debug)]
pub struct Artifact {
    /// Where its files lie.
    pub dir: PathBuf,
    /// Its key.
    pub key: StageKey,
    /// How it came about.
    pub record: StageRecord,
    /// Whether this process has made it, rather than found it.
    pub fresh: bool,
}

impl Artifact {
    /// A file of the artifact.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// A folder of artifacts, as one run sees it.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    /// The run directory whose stages are asked for.
    run: Mutex<Option<RunReferences>>,
    /// What this process has made or looked through: once is enough, however many variants share it.
    known: Arc<Mutex<HashMap<String, StageRecord>>>,
}

impl Store {
    /// The store in a folder, which is made where it is missing.
    pub fn open(root: &Path) -> Result<Self> {
        make_folder(root)?;
        let marker = root.join(MARKER);
        if !marker.is_file() {
            write_atomic(&marker, ABOUT.as_bytes())?;
        }
        Ok(Self::unopened(root))
    }

    /// The store in a folder that may be missing and is not made: [`Store::peek`] looks into it and changes nothing.
    pub fn unopened(root: &Path) -> Self {
        Self {
            root: root.to_path_buf(),
            run: Mutex::new(None),
            known: Arc::default(),
        }
    }

    /// The same store for another run, which goes on beside this one.
    #[must_use]
    pub fn for_another_run(&self) -> Self {
        Self {
            root: self.root.clone(),
            run: Mutex::new(None),
            known: Arc::clone(&self.known),
        }
    }

    /// The folder that it lies in.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// From here on, what is asked for is used by the run in this directory, which must exist; until [`Store::leave`],
    /// what an earlier run there used counts as well.
    pub fn enter(&self, run_dir: &Path) -> Result<()> {
        let references = RunReferences::of(&self.root, run_dir)?;
        *lock(&self.run) = Some(references);
        Ok(())
    }

    /// The run is finished and uses these artifacts alone.
    pub fn leave<'a>(&self, stages: impl IntoIterator<Item = &'a StageKey>) -> Result<()> {
        let stages: BTreeSet<String> = stages.into_iter().map(ToString::to_string).collect();
        match lock(&self.run).take() {
            Some(mut run) => run.replace(&self.root, stages),
            None => Ok(()),
        }
    }

    /// Whether the run that is under way uses anything here, now or from an earlier call.
    pub fn is_in_use(&self) -> bool {
        lock(&self.run)
            .as_ref()
            .is_some_and(|run| !run.stages.is_empty())
    }

    /// Where the artifact of a key lies, if it is made.
    pub fn place(&self, key: &StageKey) -> PathBuf {
        self.root.join(key.stage()).join(key.hash())
    }

    /// The record of an artifact, where there is a sound one; its files are not read, and nothing is locked or changed.
    pub fn peek(&self, stage: &str, hash: &str) -> Result<Option<StageRecord>> {
        let dir = self.root.join(stage).join(hash);
        Ok(read_record(&dir, stage, hash)?.ok())
    }

    /// The sound records of all artifacts of a stage, in the order of their hashes; looks as [`Store::peek`] does.
    pub fn peek_all(&self, stage: &str) -> Result<Vec<StageRecord>> {
        let dir = self.root.join(stage);
        let fail = |error: io::Error| Error::io("read", &dir, &error);
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(fail(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(fail)?.file_name();
            names.extend(name.into_string().ok().filter(|name| key::is_hash(name)));
        }
        names.sort();
        let records = names.iter().map(|name| self.peek(stage, name));
        records.filter_map(Result::transpose).collect()
    }

    /// A folder for answers that a stage has got so far and must not lose if it is interrupted.
    pub fn answers(&self, key: &StageKey) -> Result<PathBuf> {
        let dir = self.root.join(ANSWERS).join(name(key.stage(), key.hash()));
        make_folder(&dir)?;
        Ok(dir)
    }

    /// Where plugins keep answers that cost money or time, by what was asked: shared by all stages, seeds and runs. The folder
    /// need not exist.
    pub fn paid_answers(&self) -> PathBuf {
        self.root.join(PAID)
    }

    /// Where a stage that is interrupted leaves what it can go on from. The folder need not exist; it goes when the stage is
    /// finished.
    pub fn checkpoints(&self, key: &StageKey) -> PathBuf {
        self.root
            .join(CHECKPOINTS)
            .join(name(key.stage(), key.hash()))
    }

    /// The artifact of a key: found, or made by `work`, which writes its files into the folder that it is given and
    /// returns the seconds that earlier, interrupted attempts have contributed. While
    /// another process makes it, waits for that. A damaged one is set aside and made again.
    ///
    /// # Errors
    /// Those of `work`, which leave nothing behind; the asker's interrupt; a store that cannot be read or written.
    pub fn obtain(
        &self,
        key: StageKey,
        asker: &Asker<'_>,
        work: impl FnOnce(&Path) -> Result<f64>,
    ) -> Result<Artifact> {
        let dir = self.place(&key);
        if let State::Sound(record) = self.look(&dir, &key, asker)? {
            return Ok(found(dir, key, record));
        }
        let path = lock_path(&self.root, key.stage(), key.hash())?;
        let _lock = Lock::exclusive(&path, &format!("stage {key}"), asker)?;
        // Whoever held the lock may have made it.
        match self.look(&dir, &key, asker)? {
            State::Sound(record) => return Ok(found(dir, key, record)),
            State::Damaged(damages) => {
                let aside = set_aside(&dir)?;
                (asker.warn)(&format!(
                    "artifact {key} is damaged: {}; it is now {}, and is computed again",
                    in_words(&damages),
                    aside.display()
                ));
            }
            State::Absent => {}
        }
        let record = self.make(&dir, &key, work)?;
        lock(&self.known).insert(key.to_string(), record.clone());
        let saved = self.checkpoints(&key);
        if let Err(error) = fs::remove_dir_all(&saved)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(Error::io("remove", &saved, &error));
        }
        Ok(Artifact {
            dir,
            key,
            record,
            fresh: true,
        })
    }

    /// Writes down that the run uses the artifact, and looks through it where this process has not yet.
    fn look(&self, dir: &Path, key: &StageKey, asker: &Asker<'_>) -> Result<State> {
        let id = key.to_string();
        let _shared = Lock::shared(
            &store_lock_path(&self.root)?,
            "the removal of artifacts that nobody uses",
            asker,
        )?;
        if let Some(run) = &mut *lock(&self.run) {
            run.add(&self.root, &id)?;
        }
        if let Some(record) = lock(&self.known).get(&id) {
            return Ok(State::Sound(record.clone()));
        }
        let state = inspect(dir, key.stage(), key.hash())?;
        if let State::Sound(record) = &state {
            lock(&self.known).insert(id, record.clone());
        }
        Ok(state)
    }

    /// Makes an artifact; the lock of its key is held.
    fn make(
        &self,
        dir: &Path,
        key: &StageKey,
        work: impl FnOnce(&Path) -> Result<f64>,
    ) -> Result<StageRecord> {
        let parent = self.root.join(key.stage());
        make_folder(&parent)?;
        remove_unfinished(&parent, key.hash())?;
        let temporary = tempfile::Builder::new()
            .prefix(&unfinished_prefix(key.hash()))
            // Others may read what they share the store for; the process's umask applies.
            .permissions(Permissions::from_mode(0o777))
            .tempdir_in(&parent)
            .map_err(|error| Error::io("make a folder in", &parent, &error))?;
        let start = Instant::now();
        let earlier = work(temporary.path())?;
        let seconds = earlier + start.elapsed().as_secs_f64();
        let record = record::seal(temporary.path(), key, seconds)?;
        fs::rename(temporary.path(), dir)
            .map_err(|error| Error::io("rename a finished stage to", dir, &error))?;
        // The folder has moved; there is nothing left to clean up.
        let _ = temporary.keep();
        sync_folder(&parent)?;
        Ok(record)
    }
}

fn found(dir: PathBuf, key: StageKey, record: StageRecord) -> Artifact {
    Artifact {
        dir,
        key,
        record,
        fresh: false,
    }
}

/// What a panic of another thread left is whole: it is replaced, never changed in steps.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How answers and locks of a stage are called.
fn name(stage: &str, hash: &str) -> String {
    format!("{stage}-{hash}")
}

/// The lock of a stage; its folder is there.
fn lock_path(root: &Path, stage: &str, hash: &str) -> Result<PathBuf> {
    let folder = root.join(LOCKS);
    make_folder(&folder)?;
    Ok(folder.join(format!("{}.lock", name(stage, hash))))
}

fn store_lock_path(root: &Path) -> Result<PathBuf> {
    let folder = root.join(LOCKS);
    make_folder(&folder)?;
    Ok(folder.join(STORE_LOCK))
}

fn make_folder(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).map_err(|error| Error::io("make", dir, &error))
}

/// How the temporary folders of a key begin.
fn unfinished_prefix(hash: &str) -> String {
    format!(".{hash}-")
}

/// Removes what killed processes have left of a stage. Whoever holds its lock is the only one that works on it.
fn remove_unfinished(parent: &Path, hash: &str) -> Result<()> {
    let fail = |error: io::Error| Error::io("read", parent, &error);
    let prefix = unfinished_prefix(hash);
    for entry in fs::read_dir(parent).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            let path = entry.path();
            fs::remove_dir_all(&path).map_err(|error| Error::io("remove", &path, &error))?;
        }
    }
    Ok(())
}

/// Gives a damaged artifact a name under which nobody looks for it. The lock of its key is held.
fn set_aside(dir: &Path) -> Result<PathBuf> {
    let hash = dir.file_name().unwrap_or_default().to_string_lossy();
    let aside = free_name(dir, &format!("damaged-{hash}-"))?;
    fs::rename(dir, &aside).map_err(|error| Error::io("set aside", dir, &error))?;
    Ok(aside)
}

/// The first name that nothing beside `dir` has: `prefix` and a number.
fn free_name(dir: &Path, prefix: &str) -> Result<PathBuf> {
    (1..=u32::MAX)
        .map(|number| dir.with_file_name(format!("{prefix}{number}")))
        .find(|path| fs::symlink_metadata(path).is_err())
        .ok_or_else(|| {
            Error::internal(format!(
                "no number is left for {}",
                dir.with_file_name(prefix).display()
            ))
        })
}

/// The first damages, and how many more there are.
pub(super) fn in_words(damages: &[Damage]) -> String {
    const SHOWN: usize = 3;
    let mut words: Vec<String> = damages.iter().take(SHOWN).map(Damage::to_string).collect();
    if damages.len() > SHOWN {
        words.push(format!("and {} more", damages.len() - SHOWN));
    }
    words.join("; ")
}

#[cfg(test)]
mod tests;
