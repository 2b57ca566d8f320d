//! The artifact store: a stage's result lies in a folder named by the hash of everything that determined it.
//!
//! A folder appears whole or not at all: a stage works in a temporary folder beside it, which is renamed at the end. What
//! determined a result (its key) is written into it as `stage.json`, together with how long it took.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::pipeline::atomic::write_atomic;

/// Raised whenever a stage's result changes for equal keys, so that older results are not taken for current ones.
const FORMAT: u32 = 3;

const RECORD: &str = "stage.json";

/// A SHA-256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
        text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
    }
    text
}

/// What determines a stage's result.
#[derive(Clone, Debug, PartialEq)]
pub struct StageKey {
    stage: &'static str,
    description: Value,
    hash: String,
}

impl StageKey {
    /// The key of a stage from its name and a description of everything that determines its result: its section of the
    /// configuration, the keys of its inputs, the identities of its plugins, the seed.
    pub fn new(stage: &'static str, description: Value) -> Self {
        let whole = json!({ "format": FORMAT, "stage": stage, "of": description });
        // serde_json keeps the order of insertion, which the code fixes, so the text is canonical.
        let mut hash = sha256(whole.to_string().as_bytes());
        hash.truncate(16);
        Self {
            stage,
            description,
            hash,
        }
    }

    /// The stage's name.
    pub fn stage(&self) -> &'static str {
        self.stage
    }

    /// The key as a short hexadecimal hash.
    pub fn hash(&self) -> &str {
        &self.hash
    }
}

/// What is known of how an artifact came about.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StageRecord {
    /// The stage's name.
    pub stage: String,
    /// The hash of the key.
    pub hash: String,
    /// What determined the result.
    pub key: Value,
    /// How long the stage ran, in seconds.
    pub wall_seconds: f64,
}

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

/// A folder of artifacts.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// The store in a folder, which is made where it is missing.
    pub fn open(root: &Path) -> Result<Self> {
        fs::create_dir_all(root).map_err(|error| Error::io("make", root, &error))?;
        Ok(Self {
            root: root.to_path_buf(),
        })
    }

    /// A folder for answers that a stage has got so far and must not lose if it is interrupted.
    pub fn answers(&self, key: &StageKey) -> Result<PathBuf> {
        let dir = self
            .root
            .join("answers")
            .join(format!("{}-{}", key.stage, key.hash));
        fs::create_dir_all(&dir).map_err(|error| Error::io("make", &dir, &error))?;
        Ok(dir)
    }

    /// The artifact of a key: found, or made by `work`, which writes its files into the folder that it is given.
    pub fn obtain(
        &self,
        key: StageKey,
        work: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Artifact> {
        let dir = self.root.join(key.stage).join(&key.hash);
        if let Some(record) = read_record(&dir)? {
            return Ok(Artifact {
                dir,
                key,
                record,
                fresh: false,
            });
        }
        let parent = self.root.join(key.stage);
        fs::create_dir_all(&parent).map_err(|error| Error::io("make", &parent, &error))?;
        let temporary = tempfile::Builder::new()
            .prefix(&format!(".{}-", key.hash))
            .tempdir_in(&parent)
            .map_err(|error| Error::io("make a folder in", &parent, &error))?;
        let start = Instant::now();
        work(temporary.path())?;
        let record = StageRecord {
            stage: key.stage.to_owned(),
            hash: key.hash.clone(),
            key: key.description.clone(),
            wall_seconds: start.elapsed().as_secs_f64(),
        };
        let text = serde_json::to_vec_pretty(&record).map_err(|error| {
            Error::internal(format!("stage record does not serialise: {error}"))
        })?;
        write_atomic(&temporary.path().join(RECORD), &text)?;
        match fs::rename(temporary.path(), &dir) {
            Ok(()) => {
                // The folder has moved; there is nothing left to clean up.
                let _ = temporary.keep();
                Ok(Artifact {
                    dir,
                    key,
                    record,
                    fresh: true,
                })
            }
            // Another process was faster; its result is as good as ours.
            Err(error) => match read_record(&dir)? {
                Some(record) => Ok(Artifact {
                    dir,
                    key,
                    record,
                    fresh: false,
                }),
                None => Err(Error::io("rename a finished stage to", &dir, &error)),
            },
        }
    }
}

/// The record of a finished stage; `None` where there is no such folder.
fn read_record(dir: &Path) -> Result<Option<StageRecord>> {
    let path = dir.join(RECORD);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", &path, &error)),
    };
    serde_json::from_str(&text).map(Some).map_err(|error| {
        Error::input(format!("{} is damaged: {error}", path.display()))
            .hint("delete the folder it lies in; its stage is computed again")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_runs_once_and_a_failed_one_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let key = || StageKey::new("sft", json!({ "lr": 0.1 }));
        let failed = store.obtain(key(), |_| Err(Error::internal("broken")));
        assert!(failed.is_err());
        assert_eq!(fs::read_dir(root.path().join("sft")).unwrap().count(), 0);

        let first = store
            .obtain(key(), |dir| {
                fs::write(dir.join("x"), "1").map_err(|error| Error::io("write", dir, &error))
            })
            .unwrap();
        assert!(first.fresh);
        let second = store
            .obtain(key(), |_| Err(Error::internal("must not run")))
            .unwrap();
        assert!(!second.fresh);
        assert_eq!(fs::read_to_string(second.file("x")).unwrap(), "1");
        assert_ne!(
            StageKey::new("sft", json!({ "lr": 0.2 })).hash(),
            key().hash()
        );
        assert_ne!(
            StageKey::new("ppo", json!({ "lr": 0.1 })).hash(),
            key().hash()
        );
    }

    #[test]
    fn a_damaged_record_is_named() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let key = StageKey::new("sft", json!(1));
        let artifact = store.obtain(key.clone(), |_| Ok(())).unwrap();
        fs::write(artifact.file(RECORD), "{").unwrap();
        let error = store.obtain(key, |_| Ok(())).unwrap_err();
        assert!(
            error.to_string().contains("stage.json is damaged"),
            "{error}"
        );
        assert_eq!(error.exit_code(), 2);
    }
}
