//! Whether an artifact is what its stage wrote: every file there, of its size, with its hash, and no other.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use indicatif::HumanBytes;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::pipeline::store::list::Entry;
use crate::pipeline::store::lock::{Asker, Lock};
use crate::pipeline::store::record::{RECORD, SEAL, StageRecord, digest, files_of};
use crate::pipeline::store::{lock_path, sha256};

/// What is wrong with one file of an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// A file is gone.
    Missing {
        /// Its name inside the artifact.
        name: String,
    },
    /// A file has another size.
    Size {
        /// Its name inside the artifact.
        name: String,
        /// Bytes by the record.
        expected: u64,
        /// Bytes on disk.
        found: u64,
    },
    /// A file has another content.
    Hash {
        /// Its name inside the artifact.
        name: String,
        /// SHA-256 by the record.
        expected: String,
        /// SHA-256 of what is on disk.
        found: String,
    },
    /// A file that the stage has not written.
    Unexpected {
        /// Its name inside the artifact.
        name: String,
    },
    /// A file that the disk does not give back, or a record that makes no sense.
    Unreadable {
        /// Its name inside the artifact.
        name: String,
        /// What came instead.
        reason: String,
    },
    /// The artifact was made before records had hashes; nothing can be said of it, and nothing looks for it.
    Unhashed,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { name } => write!(f, "{name} is missing"),
            Self::Size {
                name,
                expected,
                found,
            } => write!(f, "{name} has {found} bytes instead of {expected}"),
            Self::Hash {
                name,
                expected,
                found,
            } => write!(f, "{name} has the SHA-256 {found} instead of {expected}"),
            Self::Unexpected { name } => write!(f, "{name} is not a file of this artifact"),
            Self::Unreadable { name, reason } => write!(f, "{name} cannot be read: {reason}"),
            Self::Unhashed => f.write_str("an older version made it, without hashes"),
        }
    }
}

/// What lies where an artifact belongs.
#[derive(Clone, Debug)]
pub enum State {
    /// Nothing.
    Absent,
    /// What the stage wrote.
    Sound(StageRecord),
    /// Something else; at least one damage.
    Damaged(Vec<Damage>),
}

/// Looks at the whole artifact of `stage` and `hash` in `dir`: reads every byte of it once.
///
/// # Errors
/// Where it cannot be told, for example because reading is not permitted.
pub fn inspect(dir: &Path, stage: &str, hash: &str) -> Result<State> {
    if !exists(dir)? {
        return Ok(State::Absent);
    }
    let record = match read_record(dir, stage, hash)? {
        Ok(record) => record,
        Err(damage) => return Ok(State::Damaged(vec![damage])),
    };
    let damages = compare(dir, &record)?;
    if damages.is_empty() {
        Ok(State::Sound(record))
    } else {
        Ok(State::Damaged(damages))
    }
}

/// What a check says of an artifact.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum Verdict {
    /// It is what its stage wrote.
    Sound {
        /// How many files it has.
        files: usize,
        /// Bytes of these files.
        bytes: u64,
    },
    /// It is not.
    Damaged {
        /// What is wrong.
        damages: Vec<String>,
        /// Where it lies now, if it was set aside.
        set_aside: Option<PathBuf>,
    },
    /// It has no hashes.
    Unchecked,
    /// Somebody has removed it meanwhile.
    Gone,
}

impl Verdict {
    /// Whether it is damaged.
    pub fn is_damaged(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }

    fn of(state: State) -> Self {
        match state {
            State::Absent => Self::Gone,
            State::Sound(record) => Self::Sound {
                files: record.files.len(),
                bytes: record.files.iter().map(|file| file.bytes).sum(),
            },
            State::Damaged(damages) if damages.contains(&Damage::Unhashed) => Self::Unchecked,
            State::Damaged(damages) => Self::Damaged {
                damages: damages.iter().map(ToString::to_string).collect(),
                set_aside: None,
            },
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sound { files, bytes } => {
                let s = if *files == 1 { "" } else { "s" };
                write!(f, "sound, {files} file{s}, {}", HumanBytes(*bytes))
            }
            Self::Damaged { damages, set_aside } => {
                write!(f, "damaged: {}", damages.join("; "))?;
                match set_aside {
                    Some(aside) => write!(f, "; it is now {}", aside.display()),
                    None => Ok(()),
                }
            }
            Self::Unchecked => write!(f, "not checked: {}", Damage::Unhashed),
            Self::Gone => f.write_str("removed meanwhile"),
        }
    }
}

/// Checks an artifact of the store at `root`. Changes nothing, or sets a damaged one aside where that is asked for.
pub fn verify(root: &Path, entry: &Entry, aside: bool, asker: &Asker<'_>) -> Result<Verdict> {
    asker.check_cancelled()?;
    let look = || inspect(&entry.dir, &entry.stage, &entry.hash).map(Verdict::of);
    let verdict = look()?;
    if !aside || !verdict.is_damaged() {
        return Ok(verdict);
    }
    let path = lock_path(root, &entry.stage, &entry.hash)?;
    let _lock = Lock::exclusive(&path, &format!("stage {}", entry.id()), asker)?;
    // Whoever held the lock may have made it anew.
    let mut verdict = look()?;
    if let Verdict::Damaged { set_aside, .. } = &mut verdict {
        *set_aside = Some(super::set_aside(&entry.dir)?);
    }
    Ok(verdict)
}

fn exists(dir: &Path) -> Result<bool> {
    match fs::symlink_metadata(dir) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("read", dir, &error)),
    }
}

/// The record of an artifact, or what is wrong with it. Nothing but the record and its hash is read.
pub(super) fn read_record(
    dir: &Path,
    stage: &str,
    hash: &str,
) -> Result<std::result::Result<StageRecord, Damage>> {
    let text = match content(dir, RECORD)? {
        Ok(text) => text,
        Err(damage) => return Ok(Err(damage)),
    };
    let unreadable = |reason: String| Damage::Unreadable {
        name: RECORD.to_owned(),
        reason,
    };
    let seal = match content(dir, SEAL)? {
        Ok(seal) => seal,
        Err(_) if format_of(&text) == Some(0) => return Ok(Err(Damage::Unhashed)),
        Err(damage) => return Ok(Err(damage)),
    };
    let (found, expected) = (sha256(&text), String::from_utf8_lossy(&seal));
    let expected = expected.split_whitespace().next().unwrap_or_default();
    if found != expected {
        return Ok(Err(Damage::Hash {
            name: RECORD.to_owned(),
            expected: expected.to_owned(),
            found,
        }));
    }
    Ok(match serde_json::from_slice::<StageRecord>(&text) {
        Ok(record) if record.stage != stage || record.hash != hash => Err(unreadable(format!(
            "it is that of {}/{}",
            record.stage, record.hash
        ))),
        Ok(record) => Ok(record),
        Err(error) => Err(unreadable(error.to_string())),
    })
}

fn format_of(record: &[u8]) -> Option<u32> {
    let record: StageRecord = serde_json::from_slice(record).ok()?;
    Some(record.format)
}

fn content(dir: &Path, name: &str) -> Result<std::result::Result<Vec<u8>, Damage>> {
    let path = dir.join(name);
    match fs::read(&path) {
        Ok(bytes) => Ok(Ok(bytes)),
        Err(error) => damage_or_error(name, &path, &error).map(Err),
    }
}

/// A file that is gone, or that the disk cannot give back, is damage; anything else (no permission, too many open files)
/// says nothing about the artifact.
fn damage_or_error(name: &str, path: &Path, error: &io::Error) -> Result<Damage> {
    let name = name.to_owned();
    match error.kind() {
        io::ErrorKind::NotFound => Ok(Damage::Missing { name }),
        io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory => Ok(Damage::Unreadable {
            name,
            reason: error.to_string(),
        }),
        _ if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
            Ok(Damage::Unreadable {
                name,
                reason: error.to_string(),
            })
        }
        _ => Err(Error::io("read", path, error)),
    }
}

/// The names and sizes first, which cost nothing; hashes of the files whose sizes are right.
fn compare(dir: &Path, record: &StageRecord) -> Result<Vec<Damage>> {
    let mut there: BTreeMap<String, PathBuf> = files_of(dir)?.into_iter().collect();
    let mut damages = Vec::new();
    for expected in &record.files {
        let name = &expected.name;
        let Some(path) = there.remove(name) else {
            damages.push(Damage::Missing { name: name.clone() });
            continue;
        };
        match look(&path, expected.bytes) {
            Ok((found, _)) if found != expected.bytes => damages.push(Damage::Size {
                name: name.clone(),
                expected: expected.bytes,
                found,
            }),
            Ok((_, found)) if found != expected.sha256 => damages.push(Damage::Hash {
                name: name.clone(),
                expected: expected.sha256.clone(),
                found,
            }),
            Ok(_) => {}
            Err(error) => damages.push(damage_or_error(name, &path, &error)?),
        }
    }
    damages.extend(there.into_keys().map(|name| Damage::Unexpected { name }));
    Ok(damages)
}

/// Size and hash of a file; the hash is empty where the size is not what is `expected`.
fn look(path: &Path, expected: u64) -> io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let bytes = file.metadata()?.len();
    if bytes == expected {
        digest(&mut file)
    } else {
        Ok((bytes, String::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::store::list::scan;
    use crate::pipeline::store::record::seal;
    use crate::pipeline::store::tests::{quiet, writes};
    use crate::pipeline::store::{StageKey, Store};
    use serde_json::json;

    fn key() -> StageKey {
        StageKey::new("sft", json!(1))
    }

    fn artifact() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("model")).unwrap();
        fs::write(dir.path().join("model/weights"), "0123456789").unwrap();
        fs::write(dir.path().join("log"), "").unwrap();
        seal(dir.path(), &key(), 1.0).unwrap();
        dir
    }

    fn damages(dir: &Path) -> Vec<String> {
        match inspect(dir, "sft", key().hash()).unwrap() {
            State::Damaged(damages) => damages.iter().map(ToString::to_string).collect(),
            state => panic!("{state:?}"),
        }
    }

    #[test]
    fn what_was_sealed_is_sound_and_what_is_not_there_is_absent() {
        let dir = artifact();
        assert!(matches!(
            inspect(dir.path(), "sft", key().hash()).unwrap(),
            State::Sound(record) if record.files.len() == 2
        ));
        assert!(matches!(
            inspect(&dir.path().join("none"), "sft", key().hash()).unwrap(),
            State::Absent
        ));
    }

    /// Every bit of every file counts, those of the record and of its hash as well.
    #[test]
    fn a_flipped_bit_anywhere_is_found_and_named() {
        for name in ["model/weights", RECORD, SEAL] {
            let dir = artifact();
            let path = dir.path().join(name);
            let sound = fs::read(&path).unwrap();
            // Of the seal, what stands behind the hash names the file for sha256sum and is not read.
            let end = if name == SEAL { 64 } else { sound.len() };
            for at in 0..end {
                let mut bytes = sound.clone();
                bytes[at] ^= 1;
                fs::write(&path, bytes).unwrap();
                let named = if name == SEAL { RECORD } else { name };
                let [damage] = &damages(dir.path())[..] else {
                    panic!("one damage")
                };
                assert!(damage.starts_with(named), "{name}, byte {at}: {damage}");
                assert!(damage.contains("SHA-256"), "{damage}");
            }
        }
    }

    #[test]
    fn files_that_are_gone_cut_or_added_are_named_and_hidden_ones_are_not_looked_at() {
        let dir = artifact();
        fs::write(dir.path().join(".DS_Store"), "x").unwrap();
        fs::write(dir.path().join("model/more"), "x").unwrap();
        fs::write(dir.path().join("model/weights"), "012345678").unwrap();
        fs::remove_file(dir.path().join("log")).unwrap();
        assert_eq!(
            damages(dir.path()),
            [
                "log is missing",
                "model/weights has 9 bytes instead of 10",
                "model/more is not a file of this artifact",
            ]
        );
        fs::remove_file(dir.path().join("model/weights")).unwrap();
        fs::create_dir(dir.path().join("model/weights")).unwrap();
        assert!(damages(dir.path()).contains(&"model/weights is missing".to_owned()));
    }

    #[test]
    fn a_check_changes_nothing_unless_it_is_to_set_aside() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let made = store.obtain(key(), &quiet(), writes("1")).unwrap();
        let check = |aside: bool| {
            let contents = scan(root.path()).unwrap();
            verify(root.path(), &contents.entries[0], aside, &quiet()).unwrap()
        };
        assert_eq!(check(true).to_string(), "sound, 1 file, 1 B");
        fs::write(made.file("x"), "2").unwrap();
        let Verdict::Damaged {
            damages,
            set_aside: None,
        } = check(false)
        else {
            panic!("damaged")
        };
        assert!(damages[0].starts_with("x has the SHA-256"), "{damages:?}");
        assert!(made.dir.exists());
        let Verdict::Damaged {
            set_aside: Some(aside),
            ..
        } = check(true)
        else {
            panic!("set aside")
        };
        assert!(!made.dir.exists() && aside.join("x").is_file());
        assert!(scan(root.path()).unwrap().entries.is_empty());
    }

    #[test]
    fn a_record_that_is_cut_gone_or_of_another_artifact_is_named() {
        let dir = artifact();
        let other = match inspect(dir.path(), "sft", "0123456789abcdef").unwrap() {
            State::Damaged(damages) => damages[0].to_string(),
            state => panic!("{state:?}"),
        };
        assert!(
            other.contains(&format!("it is that of {}", key())),
            "{other}"
        );
        let path = dir.path().join(RECORD);
        let text = fs::read(&path).unwrap();
        fs::write(&path, &text[..text.len() / 2]).unwrap();
        assert!(damages(dir.path())[0].starts_with("stage.json has the SHA-256"));
        fs::remove_file(&path).unwrap();
        assert_eq!(damages(dir.path()), ["stage.json is missing"]);
        fs::write(&path, "{").unwrap();
        fs::write(dir.path().join(SEAL), sha256(b"{")).unwrap();
        assert!(damages(dir.path())[0].starts_with("stage.json cannot be read: EOF"));
        // As they were written before there was a format in them.
        let old = json!({ "stage": "sft", "hash": key().hash(), "key": 1, "wall_seconds": 1.0 });
        fs::write(&path, old.to_string()).unwrap();
        fs::remove_file(dir.path().join(SEAL)).unwrap();
        assert_eq!(
            damages(dir.path()),
            ["an older version made it, without hashes"]
        );
    }
}
