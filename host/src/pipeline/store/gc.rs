//! The removal of what no existing run directory uses, and of what damaged artifacts and killed processes left.
//!
//! The store's lock is held meanwhile, so that nobody begins to use an artifact between the look and the removal; what is
//! locked by itself is being computed, and stays.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use crate::error::{Error, Result};
use crate::pipeline::store::list::{HALF_REMOVED, LeftoverKind, scan};
use crate::pipeline::store::lock::{Asker, Lock};
use crate::pipeline::store::references::RunReferences;
use crate::pipeline::store::{LOCKS, STORE_LOCK, free_name, lock_path, store_lock_path};

/// What is to be removed.
#[derive(Clone, Copy, Debug, Default)]
pub struct GcOptions {
    /// Only say what would be.
    pub dry_run: bool,
    /// Nothing younger than this.
    pub older_than: Duration,
}

/// Why something goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No existing run directory uses it.
    Unused,
    /// It is of this kind.
    Leftover(LeftoverKind),
}

/// Something that was removed, or would be.
#[derive(Clone, Debug)]
pub struct Removal {
    /// Where it lay.
    pub dir: PathBuf,
    /// Bytes of its files.
    pub bytes: u64,
    /// Why.
    pub reason: Reason,
}

/// What a collection did, or would do.
#[derive(Clone, Debug, Default)]
pub struct GcReport {
    /// What went.
    pub removed: Vec<Removal>,
    /// Run directories that are no longer there, and are forgotten.
    pub forgotten: Vec<PathBuf>,
    /// How many artifacts run directories use.
    pub used: usize,
    /// How many folders stay because somebody works on them.
    pub locked: usize,
    /// How many folders stay because they are too young.
    pub young: usize,
}

impl GcReport {
    /// Bytes that went.
    pub fn bytes(&self) -> u64 {
        self.removed.iter().map(|removal| removal.bytes).sum()
    }
}

/// A folder that may go.
struct Candidate {
    stage: String,
    hash: String,
    age: Duration,
    removal: Removal,
}

/// Collects the garbage of the store at `root`, as of `now`.
pub fn gc(root: &Path, options: &GcOptions, now: Timestamp, asker: &Asker<'_>) -> Result<GcReport> {
    // A wrong folder is refused before anything is made in it.
    scan(root)?;
    let _lock = Lock::exclusive(
        &store_lock_path(root)?,
        "whoever is looking into the store",
        asker,
    )?;
    let contents = scan(root)?;
    let (there, gone): (Vec<&RunReferences>, Vec<_>) =
        contents.runs.iter().partition(|run| run.exists());
    let used: BTreeSet<&str> = there
        .iter()
        .flat_map(|run| run.stages.iter().map(String::as_str))
        .collect();
    let mut report = GcReport {
        forgotten: gone.iter().map(|run| run.dir.clone()).collect(),
        ..GcReport::default()
    };
    let mut candidates = Vec::new();
    for entry in &contents.entries {
        if used.contains(entry.id().as_str()) {
            report.used += 1;
            continue;
        }
        candidates.push(Candidate {
            stage: entry.stage.clone(),
            hash: entry.hash.clone(),
            age: entry.age(now),
            removal: Removal {
                dir: entry.dir.clone(),
                bytes: entry.bytes,
                reason: Reason::Unused,
            },
        });
    }
    for leftover in &contents.leftovers {
        let id = format!("{}/{}", leftover.stage, leftover.hash);
        // Answers may have cost money; they live as long as a run that has asked for them.
        if leftover.kind == LeftoverKind::Answers && used.contains(id.as_str()) {
            continue;
        }
        // So do checkpoints, but a finished stage needs none.
        let finished = contents.entries.iter().any(|entry| entry.id() == id);
        if leftover.kind == LeftoverKind::Checkpoints && !finished && used.contains(id.as_str()) {
            continue;
        }
        candidates.push(Candidate {
            stage: leftover.stage.clone(),
            hash: leftover.hash.clone(),
            age: leftover.age(now),
            removal: Removal {
                dir: leftover.dir.clone(),
                bytes: leftover.bytes,
                reason: Reason::Leftover(leftover.kind),
            },
        });
    }
    for candidate in candidates {
        collect(root, candidate, options, &mut report)?;
    }
    if !options.dry_run {
        for run in gone {
            run.forget(root)?;
        }
        remove_dead_locks(root)?;
    }
    Ok(report)
}

fn collect(
    root: &Path,
    candidate: Candidate,
    options: &GcOptions,
    report: &mut GcReport,
) -> Result<()> {
    if candidate.age < options.older_than {
        report.young += 1;
        return Ok(());
    }
    let path = lock_path(root, &candidate.stage, &candidate.hash)?;
    let Some(_lock) = Lock::try_exclusive(&path)? else {
        report.locked += 1;
        return Ok(());
    };
    if !options.dry_run {
        remove(&candidate.removal.dir, &candidate.hash)?;
    }
    report.removed.push(candidate.removal);
    Ok(())
}

/// Takes the folder's name away first: whatever happens in the middle of the removal, no half artifact has the name of a
/// whole one.
fn remove(dir: &Path, hash: &str) -> Result<()> {
    let doomed = free_name(dir, &format!("{HALF_REMOVED}{hash}-"))?;
    let fail = |error: std::io::Error| Error::io("remove", dir, &error);
    fs::rename(dir, &doomed).map_err(fail)?;
    fs::remove_dir_all(&doomed).map_err(fail)
}

/// Removes the lock files of killed processes.
fn remove_dead_locks(root: &Path) -> Result<()> {
    let folder = root.join(LOCKS);
    let fail = |error: std::io::Error| Error::io("read", &folder, &error);
    for entry in fs::read_dir(&folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        if entry.file_name() != STORE_LOCK {
            // Taken and let go, which removes the file.
            drop(Lock::try_exclusive(&entry.path())?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pipeline::store::list::Entry;
    use crate::pipeline::store::tests::{quiet, writes};
    use crate::pipeline::store::{StageKey, Store, set_aside};

    /// A store with an artifact that a run uses, one that a vanished run has used, one nobody has, and one damaged.
    fn store() -> (tempfile::TempDir, tempfile::TempDir, [StageKey; 4]) {
        let root = tempfile::tempdir().unwrap();
        let runs = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let keys = [1, 2, 3, 4].map(|number| StageKey::new("sft", json!(number)));
        for (name, key) in ["there", "gone"].iter().zip(&keys) {
            let dir = runs.path().join(name);
            fs::create_dir(&dir).unwrap();
            store.enter(&dir).unwrap();
            store.obtain(key.clone(), &quiet(), writes("1")).unwrap();
            store.answers(key).unwrap();
        }
        store.leave([&keys[1]]).unwrap();
        fs::remove_dir(runs.path().join("gone")).unwrap();
        store
            .obtain(keys[2].clone(), &quiet(), writes("123"))
            .unwrap();
        let damaged = store
            .obtain(keys[3].clone(), &quiet(), writes("1"))
            .unwrap();
        set_aside(&damaged.dir).unwrap();
        (root, runs, keys)
    }

    fn left(root: &Path) -> Vec<String> {
        let contents = scan(root).unwrap();
        let mut left: Vec<String> = contents.entries.iter().map(Entry::id).collect();
        left.extend(
            contents
                .leftovers
                .iter()
                .map(|leftover| format!("{:?} {}", leftover.kind, leftover.hash)),
        );
        left
    }

    fn collected(root: &Path, options: &GcOptions) -> GcReport {
        gc(root, options, Timestamp::now(), &quiet()).unwrap()
    }

    #[test]
    fn what_an_existing_run_uses_stays_and_the_rest_goes() {
        let (root, _runs, keys) = store();
        let dry = GcOptions {
            dry_run: true,
            ..GcOptions::default()
        };
        let before = left(root.path());
        let would = collected(root.path(), &dry);
        assert_eq!(left(root.path()), before);
        let did = collected(root.path(), &GcOptions::default());
        // Two artifacts, answers of one of them, and what was damaged.
        assert_eq!(did.removed.len(), 4);
        assert_eq!(would.bytes(), did.bytes());
        assert!(did.bytes() > 0);
        assert_eq!((did.used, did.locked, did.young), (1, 0, 0));
        assert_eq!(did.forgotten.len(), 1);
        assert_eq!(
            left(root.path()),
            [keys[0].to_string(), format!("Answers {}", keys[0].hash())]
        );
        let again = collected(root.path(), &GcOptions::default());
        assert!(again.removed.is_empty() && again.forgotten.is_empty());
    }

    #[test]
    fn what_is_locked_stays_with_its_temporary_folder_and_dead_locks_go() {
        let (root, _runs, keys) = store();
        let path = lock_path(root.path(), "sft", keys[2].hash()).unwrap();
        let lock = Lock::try_exclusive(&path).unwrap().unwrap();
        let temporary = root.path().join(format!("sft/.{}-a1b2", keys[2].hash()));
        fs::create_dir(&temporary).unwrap();
        let dead = lock_path(root.path(), "ppo", "0123456789abcdef").unwrap();
        fs::write(&dead, "").unwrap();
        let did = collected(root.path(), &GcOptions::default());
        assert_eq!((did.removed.len(), did.locked), (3, 2));
        assert!(temporary.exists() && path.exists() && !dead.exists());
        assert!(left(root.path()).contains(&keys[2].to_string()));
        drop(lock);
        assert_eq!(
            collected(root.path(), &GcOptions::default()).removed.len(),
            2
        );
        assert!(!temporary.exists());
    }

    #[test]
    fn what_is_young_stays_and_a_clock_that_was_set_back_makes_nothing_old() {
        let (root, _runs, _) = store();
        let week = GcOptions {
            older_than: Duration::from_hours(7 * 24),
            ..GcOptions::default()
        };
        let before = left(root.path());
        for now in [Timestamp::now(), Timestamp::UNIX_EPOCH, Timestamp::MIN] {
            let did = gc(root.path(), &week, now, &quiet()).unwrap();
            assert_eq!((did.removed.len(), did.young), (0, 4), "{now}");
            assert_eq!(left(root.path()), before);
        }
        let later = Timestamp::now() + Duration::from_hours(8 * 24);
        let did = gc(root.path(), &week, later, &quiet()).unwrap();
        assert_eq!((did.removed.len(), did.young), (4, 0));
    }

    #[test]
    fn a_folder_that_is_no_store_is_refused_and_left_as_it_is() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("sft/0123456789abcdef");
        fs::create_dir_all(&folder).unwrap();
        let run = || {
            gc(
                root.path(),
                &GcOptions::default(),
                Timestamp::now(),
                &quiet(),
            )
        };
        let error = run().unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(folder.exists() && !root.path().join(LOCKS).exists());
    }
}
