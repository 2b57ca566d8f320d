//! What an artifact says of itself: `stage.json` with how it came about and the hash of every file, and `stage.sha256`
//! with the hash of `stage.json`, in the form that `sha256sum --check` reads.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::pipeline::atomic::{sync_folder, write_atomic};
use crate::pipeline::store::key::{FORMAT, StageKey, hexadecimal, sha256};

/// The record of an artifact.
pub const RECORD: &str = "stage.json";

/// The hash of the record.
pub const SEAL: &str = "stage.sha256";

/// Bytes that are read at a time.
const CHUNK: usize = 1 << 20;

/// A file of an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Its path inside the artifact, with `/` between folders.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
}

/// What is known of how an artifact came about.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StageRecord {
    /// The `FORMAT` it was made under; 0 where it is older than this field.
    #[serde(default)]
    pub format: u32,
    /// The stage's name.
    pub stage: String,
    /// The hash of the key.
    pub hash: String,
    /// What determined the result.
    pub key: Value,
    /// The artifacts it was made from, as `stage/hash`.
    #[serde(default)]
    pub inputs: Vec<String>,
    /// How long the stage ran, in seconds.
    pub wall_seconds: f64,
    /// When it was finished, by the clock of its machine.
    #[serde(default)]
    pub finished: String,
    /// Every file but this one and its hash, sorted by name.
    #[serde(default)]
    pub files: Vec<FileRecord>,
}

impl StageRecord {
    /// When it was finished; `None` for a record that does not say.
    pub fn finished(&self) -> Option<Timestamp> {
        self.finished.parse().ok()
    }
}

/// What the record of a stage that is not made yet will say of it: no files, no time.
pub fn expected(key: &StageKey) -> StageRecord {
    StageRecord {
        format: FORMAT,
        stage: key.stage().to_owned(),
        hash: key.hash().to_owned(),
        key: key.description().clone(),
        inputs: key.inputs(),
        wall_seconds: 0.0,
        finished: String::new(),
        files: Vec::new(),
    }
}

/// Hashes and syncs what a stage has written into `dir`, and writes the record beside it. After this, the folder needs
/// nothing but its name.
pub fn seal(dir: &Path, key: &StageKey, wall_seconds: f64) -> Result<StageRecord> {
    let mut files = Vec::new();
    for (name, path) in files_of(dir)? {
        let fail = |error: std::io::Error| Error::io("read", &path, &error);
        let mut file = File::open(&path).map_err(fail)?;
        let (bytes, sha256) = digest(&mut file).map_err(fail)?;
        file.sync_all()
            .map_err(|error| Error::io("sync", &path, &error))?;
        files.push(FileRecord {
            name,
            bytes,
            sha256,
        });
    }
    sync_folders(dir)?;
    let record = StageRecord {
        wall_seconds,
        finished: Timestamp::now().to_string(),
        files,
        ..expected(key)
    };
    let mut text = serde_json::to_vec_pretty(&record)
        .map_err(|error| Error::internal(format!("stage record does not serialise: {error}")))?;
    text.push(b'\n');
    write_atomic(&dir.join(RECORD), &text)?;
    let line = format!("{}  {RECORD}\n", sha256(&text));
    write_atomic(&dir.join(SEAL), line.as_bytes())?;
    Ok(record)
}

/// The files of an artifact by their names, sorted; without its record, and without hidden files, which tools and
/// network file systems leave behind.
pub(super) fn files_of(dir: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut files = Vec::new();
    collect(dir, "", &mut files)?;
    files.retain(|(name, _)| name != RECORD && name != SEAL);
    files.sort();
    Ok(files)
}

fn collect(dir: &Path, prefix: &str, files: &mut Vec<(String, PathBuf)>) -> Result<()> {
    let fail = |error: std::io::Error| Error::io("read", dir, &error);
    for entry in fs::read_dir(dir).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let path = entry.path();
        let name = entry.file_name().into_string().map_err(|name| {
            Error::internal(format!(
                "{}: the file name {} is not UTF-8",
                dir.display(),
                name.display()
            ))
        })?;
        if name.starts_with('.') {
            continue;
        }
        let kind = entry.file_type().map_err(fail)?;
        let name = format!("{prefix}{name}");
        if kind.is_dir() {
            collect(&path, &format!("{name}/"), files)?;
        } else {
            files.push((name, path));
        }
    }
    Ok(())
}

fn sync_folders(dir: &Path) -> Result<()> {
    let fail = |error: std::io::Error| Error::io("sync", dir, &error);
    for entry in fs::read_dir(dir).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        if entry.file_type().map_err(fail)?.is_dir() {
            sync_folders(&entry.path())?;
        }
    }
    sync_folder(dir)
}

/// Size and SHA-256 of what is left to read, in constant memory.
pub(super) fn digest(file: &mut impl Read) -> std::io::Result<(u64, String)> {
    let mut hash = Sha256::new();
    let mut bytes = 0;
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok((bytes, hexadecimal(&hash.finalize()))),
            Ok(read) => {
                hash.update(&chunk[..read]);
                bytes += read as u64;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_record_lists_every_file_at_any_depth_with_its_size_and_hash() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("model/parts")).unwrap();
        fs::write(dir.path().join("model/parts/a"), "abc").unwrap();
        fs::write(dir.path().join("b"), "").unwrap();
        fs::write(dir.path().join(".nfs001"), "hidden").unwrap();
        let key = StageKey::new("sft", json!({ "lr": 0.1 }));
        let record = seal(dir.path(), &key, 1.5).unwrap();
        // printf abc | sha256sum; sha256sum /dev/null
        let files = [
            (
                "b",
                0,
                "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            ),
            (
                "model/parts/a",
                3,
                "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            ),
        ]
        .map(|(name, bytes, sha256)| FileRecord {
            name: name.to_owned(),
            bytes,
            sha256: sha256.to_owned(),
        });
        assert_eq!(record.files, files);
        assert!(record.finished().is_some());
        let text = fs::read(dir.path().join(RECORD)).unwrap();
        let seal = fs::read_to_string(dir.path().join(SEAL)).unwrap();
        assert_eq!(seal, format!("{}  stage.json\n", sha256(&text)));
    }

    #[test]
    fn a_file_larger_than_a_chunk_has_the_hash_of_its_whole() {
        let bytes: Vec<u8> = (0..CHUNK + CHUNK / 2)
            .map(|at| (at * 7 % 251) as u8)
            .collect();
        let (size, hash) = digest(&mut bytes.as_slice()).unwrap();
        assert_eq!((size, hash), (bytes.len() as u64, sha256(&bytes)));
    }
}
