//! What lies in a store: artifacts, and what is none (damaged, unfinished, half removed). Looking changes nothing.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use crate::error::{Error, Result};
use crate::pipeline::store::key::{is_hash, is_hash_prefix, is_stage};
use crate::pipeline::store::record::RECORD;
use crate::pipeline::store::references::{self, RunReferences};
use crate::pipeline::store::verify::{Damage, read_record};
use crate::pipeline::store::{ANSWERS, CHECKPOINTS, LOCKS, MARKER, PAID, StageRecord};

/// An artifact.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The stage's name.
    pub stage: String,
    /// The hash of the key.
    pub hash: String,
    /// Where its files lie.
    pub dir: PathBuf,
    /// Bytes of its files.
    pub bytes: u64,
    /// Its record, or what is wrong with that. Other files are not looked at.
    pub record: Result<StageRecord, Damage>,
    /// The run directories that use it, those that exist.
    pub used_by: Vec<PathBuf>,
}

impl Entry {
    /// `stage/hash`.
    pub fn id(&self) -> String {
        format!("{}/{}", self.stage, self.hash)
    }

    /// When it was finished; where the record does not say, when its folder was last changed.
    pub fn finished(&self) -> Timestamp {
        self.record
            .as_ref()
            .ok()
            .and_then(StageRecord::finished)
            .unwrap_or_else(|| changed(&self.dir))
    }

    /// How long ago it was finished, as of `now`; nothing where the clock was set back since.
    pub fn age(&self, now: Timestamp) -> Duration {
        age(self.finished(), now)
    }
}

/// What a leftover is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftoverKind {
    /// An artifact that was found damaged.
    Damaged,
    /// The temporary folder of a stage that is computed now, or whose process was killed.
    Unfinished,
    /// What an interrupted `gc` has not removed.
    HalfRemoved,
    /// Answers that a stage has got so far, or had got when it was finished.
    Answers,
    /// What an interrupted stage goes on from, or what a process that was killed at its very end has left.
    Checkpoints,
}

/// A folder of a stage that is no artifact.
#[derive(Clone, Debug)]
pub struct Leftover {
    /// What it is.
    pub kind: LeftoverKind,
    /// The stage's name.
    pub stage: String,
    /// The hash of the key.
    pub hash: String,
    /// Where it lies.
    pub dir: PathBuf,
    /// Bytes of its files.
    pub bytes: u64,
}

impl Leftover {
    /// How long ago its folder was last changed or renamed, as of `now`.
    pub fn age(&self, now: Timestamp) -> Duration {
        age(changed(&self.dir), now)
    }
}

/// Everything in a store.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// Artifacts, oldest first.
    pub entries: Vec<Entry>,
    /// What is none.
    pub leftovers: Vec<Leftover>,
    /// The run directories that have used the store, existing or not.
    pub runs: Vec<RunReferences>,
}

/// Looks at a store.
///
/// # Errors
/// Where there is none, or it cannot be read.
pub fn scan(root: &Path) -> Result<Contents> {
    let no_store = || {
        Error::input(format!("no store at {}", root.display()))
            .hint("`finegrain run` and `finegrain compare` make one; --store says where it lies")
    };
    if !root.is_dir() {
        return Err(no_store());
    }
    let mut contents = Contents {
        runs: references::all(root)?,
        ..Contents::default()
    };
    for (stage, dir) in folders(root)? {
        if stage == ANSWERS {
            scan_beside(&dir, LeftoverKind::Answers, &mut contents)?;
        } else if stage == CHECKPOINTS {
            scan_beside(&dir, LeftoverKind::Checkpoints, &mut contents)?;
        } else if is_stage(&stage) && ![LOCKS, PAID, references::RUNS].contains(&stage.as_str()) {
            scan_stage(&stage, &dir, &mut contents)?;
        }
    }
    // Stores of older versions have no marker, but records.
    let has_record = |entry: &Entry| entry.dir.join(RECORD).is_file();
    if !root.join(MARKER).is_file() && !contents.entries.iter().any(has_record) {
        return Err(no_store());
    }
    contents
        .entries
        .sort_by_cached_key(|entry| (entry.finished(), entry.id()));
    Ok(contents)
}

fn scan_stage(stage: &str, dir: &Path, contents: &mut Contents) -> Result<()> {
    for (name, dir) in folders(dir)? {
        let Some(bytes) = size(&dir)? else { continue };
        if is_hash(&name) {
            let record = read_record(&dir, stage, &name)?;
            let id = format!("{stage}/{name}");
            let used_by = contents
                .runs
                .iter()
                .filter(|run| run.stages.contains(&id) && run.exists())
                .map(|run| run.dir.clone())
                .collect();
            contents.entries.push(Entry {
                stage: stage.to_owned(),
                hash: name,
                dir,
                bytes,
                record,
                used_by,
            });
        } else if let Some((kind, hash)) = leftover(&name) {
            contents.leftovers.push(Leftover {
                kind,
                stage: stage.to_owned(),
                hash: hash.to_owned(),
                dir,
                bytes,
            });
        }
    }
    Ok(())
}

/// Folders named by stage and hash.
fn scan_beside(dir: &Path, kind: LeftoverKind, contents: &mut Contents) -> Result<()> {
    for (name, dir) in folders(dir)? {
        let Some((stage, hash)) = name.rsplit_once('-') else {
            continue;
        };
        if !is_stage(stage) || !is_hash(hash) {
            continue;
        }
        let Some(bytes) = size(&dir)? else { continue };
        contents.leftovers.push(Leftover {
            kind,
            stage: stage.to_owned(),
            hash: hash.to_owned(),
            dir,
            bytes,
        });
    }
    Ok(())
}

/// How `gc` calls what it is about to remove: `.removed-HASH-NUMBER`.
pub(super) const HALF_REMOVED: &str = ".removed-";

/// The kind and the hash of a folder that is no artifact, by its name; anything else is not the store's.
fn leftover(name: &str) -> Option<(LeftoverKind, &str)> {
    let (kind, rest) = if let Some(rest) = name.strip_prefix("damaged-") {
        (LeftoverKind::Damaged, rest)
    } else if let Some(rest) = name.strip_prefix(HALF_REMOVED) {
        (LeftoverKind::HalfRemoved, rest)
    } else {
        (LeftoverKind::Unfinished, name.strip_prefix('.')?)
    };
    let (hash, _) = rest.split_once('-')?;
    is_hash(hash).then_some((kind, hash))
}

/// The folders in a folder by their names, sorted; links are not followed.
fn folders(dir: &Path) -> Result<Vec<(String, PathBuf)>> {
    let fail = |error: io::Error| Error::io("read", dir, &error);
    let mut folders = Vec::new();
    for entry in fs::read_dir(dir).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        if let Ok(name) = entry.file_name().into_string()
            && entry.file_type().map_err(fail)?.is_dir()
        {
            folders.push((name, entry.path()));
        }
    }
    folders.sort();
    Ok(folders)
}

/// Bytes of all files below a folder; `None` where it is gone: others may work in the store.
fn size(dir: &Path) -> Result<Option<u64>> {
    let fail = |error: io::Error| {
        if error.kind() == io::ErrorKind::NotFound {
            Ok(None)
        } else {
            Err(Error::io("read", dir, &error))
        }
    };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => return fail(error),
    };
    let mut bytes = 0;
    for entry in entries {
        let about = match entry.and_then(|entry| Ok((entry.path(), entry.metadata()?))) {
            Ok(about) => about,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return fail(error),
        };
        bytes += if about.1.is_dir() {
            size(&about.0)?.unwrap_or(0)
        } else {
            about.1.len()
        };
    }
    Ok(Some(bytes))
}

/// When a folder was last changed or renamed; the beginning of time where it does not say.
fn changed(dir: &Path) -> Timestamp {
    fs::symlink_metadata(dir)
        .ok()
        .and_then(|about| Timestamp::from_second(about.ctime()).ok())
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

fn age(then: Timestamp, now: Timestamp) -> Duration {
    // A clock that was set back makes a negative difference, which is no age.
    Duration::try_from(now.duration_since(then)).unwrap_or(Duration::ZERO)
}

/// The artifact whose hash begins with `asked`, which may have its stage in front: `sft/01ab`, or `sft/` where a stage has
/// one artifact.
///
/// # Errors
/// None or several begin so; several are named.
pub fn find<'a>(entries: &'a [Entry], asked: &str) -> Result<&'a Entry> {
    let (stage, prefix) = match asked.split_once('/') {
        Some((stage, prefix)) => (Some(stage), prefix),
        None => (None, asked),
    };
    if (prefix.is_empty() && stage.is_none()) || !is_hash_prefix(prefix) {
        return Err(Error::input(format!(
            "{asked:?} is no hash; accepted: the beginning of one (hexadecimal digits), or STAGE/ and that"
        ))
        .hint("`finegrain store list` shows the hashes"));
    }
    let matching: Vec<&Entry> = entries
        .iter()
        .filter(|entry| {
            stage.is_none_or(|stage| stage == entry.stage) && entry.hash.starts_with(prefix)
        })
        .collect();
    match matching[..] {
        [entry] => Ok(entry),
        [] => Err(
            Error::input(format!("no artifact's hash begins with {asked}"))
                .hint("`finegrain store list` shows the hashes"),
        ),
        _ => {
            let ids: Vec<String> = matching.iter().map(|entry| entry.id()).collect();
            Err(Error::input(format!(
                "{asked} is the beginning of {} hashes: {}",
                ids.len(),
                ids.join(", ")
            ))
            .hint("give more digits, or the stage as in STAGE/HASH"))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pipeline::store::tests::{key, quiet, writes};
    use crate::pipeline::store::{StageKey, Store, set_aside};

    #[test]
    fn artifacts_and_leftovers_are_told_apart_and_anything_else_is_not_the_stores() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let run = tempfile::tempdir().unwrap();
        let gone = tempfile::tempdir().unwrap();
        let data = StageKey::new("data", json!(1));
        store
            .obtain(data.clone(), &quiet(), writes("12345"))
            .unwrap();
        for run in [run.path(), gone.path()] {
            store.enter(run).unwrap();
            store.obtain(key(), &quiet(), writes("1")).unwrap();
            store.leave([&key()]).unwrap();
        }
        drop(gone);
        let other = StageKey::new("sft", json!(2));
        let damaged = store.obtain(other.clone(), &quiet(), writes("1")).unwrap();
        set_aside(&damaged.dir).unwrap();
        store.answers(&other).unwrap();
        for name in [
            &format!("sft/.{}-a1", other.hash()),
            &format!("sft/.removed-{}-1", other.hash()),
            "sft/notes",
            "sft/0123",
            "sft/.git",
            "My files/0123456789abcdef",
            "answers/what",
        ] {
            fs::create_dir_all(root.path().join(name)).unwrap();
        }
        let contents = scan(root.path()).unwrap();
        let ids: Vec<String> = contents.entries.iter().map(Entry::id).collect();
        assert_eq!(ids, [data.to_string(), key().to_string()]);
        assert_eq!(
            contents.entries[1].used_by,
            [fs::canonicalize(run.path()).unwrap()]
        );
        assert!(contents.entries[0].used_by.is_empty());
        let record = contents.entries[0].record.as_ref().unwrap();
        let text = fs::metadata(contents.entries[0].dir.join("stage.json"))
            .unwrap()
            .len();
        // 64 digits, two spaces, stage.json and a line feed.
        assert_eq!(contents.entries[0].bytes, record.files[0].bytes + text + 77);
        let mut kinds: Vec<String> = contents
            .leftovers
            .iter()
            .map(|leftover| format!("{:?}", leftover.kind))
            .collect();
        kinds.sort();
        assert_eq!(kinds, ["Answers", "Damaged", "HalfRemoved", "Unfinished"]);
        assert!(
            contents
                .leftovers
                .iter()
                .all(|leftover| leftover.hash == other.hash() && leftover.stage == "sft")
        );
    }

    #[test]
    fn a_clock_that_was_set_back_makes_no_negative_age() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        store.obtain(key(), &quiet(), writes("1")).unwrap();
        let contents = scan(root.path()).unwrap();
        let entry = &contents.entries[0];
        let finished = entry.finished();
        for (now, seconds) in [
            (finished + Duration::from_secs(90), 90),
            (finished, 0),
            (finished - Duration::from_secs(90), 0),
            (Timestamp::UNIX_EPOCH, 0),
            (Timestamp::MIN, 0),
        ] {
            assert_eq!(entry.age(now).as_secs(), seconds, "{now}");
        }
    }

    #[test]
    fn a_beginning_names_one_artifact_or_says_which_there_are() {
        let entry = |stage: &str, hash: &str| Entry {
            stage: stage.into(),
            hash: hash.into(),
            dir: PathBuf::new(),
            bytes: 0,
            record: Err(Damage::Missing {
                name: String::new(),
            }),
            used_by: Vec::new(),
        };
        let entries = [
            entry("sft", "0123456789abcdef"),
            entry("ppo", "0123ffffffffffff"),
            entry("ppo", "ffffffffffffffff"),
        ];
        assert_eq!(find(&entries, "f").unwrap().hash, "ffffffffffffffff");
        assert_eq!(find(&entries, "sft/").unwrap().hash, "0123456789abcdef");
        assert_eq!(find(&entries, "sft/01").unwrap().stage, "sft");
        assert_eq!(find(&entries, "01234").unwrap().stage, "sft");
        for (asked, words) in [
            (
                "0123",
                "2 hashes: sft/0123456789abcdef, ppo/0123ffffffffffff",
            ),
            ("a", "no artifact's hash begins with a"),
            ("sft/f", "no artifact's hash begins with sft/f"),
            ("", "is no hash"),
            ("xyz", "is no hash"),
            ("sft/x", "is no hash"),
            (
                "ppo/",
                "2 hashes: ppo/0123ffffffffffff, ppo/ffffffffffffffff",
            ),
            ("data/", "no artifact's hash begins with data/"),
        ] {
            let error = find(&entries, asked).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(words), "{asked}: {error}");
        }
    }

    #[test]
    fn where_there_is_no_store_it_says_so_and_makes_none() {
        let dir = tempfile::tempdir().unwrap();
        for (name, there) in [("none", false), ("photos", true)] {
            let root = dir.path().join(name);
            if there {
                fs::create_dir_all(root.join("sft/0123456789abcdef")).unwrap();
            }
            let error = scan(&root).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains("no store at"), "{error}");
            assert_eq!(root.exists(), there);
        }
    }
}
