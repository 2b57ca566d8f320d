//! The hash of a file that keys depend on. A plan and every run of a comparison ask for the same ones, and a model has
//! gigabytes: each is read once in a process, as long as the system says that it has not changed since.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{LazyLock, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};
use crate::pipeline::store::lock;
use crate::pipeline::store::record::digest;

/// What changes with a file's content: device, inode, size, and when the inode was last changed, in seconds and nanoseconds.
type State = (u64, u64, u64, i64, i64);

/// A file that was changed less than this many seconds before it was read could be changed again within a tick of the clock of
/// its file system, which nothing would tell.
const SETTLED: i64 = 5;

static KNOWN: LazyLock<Mutex<HashMap<State, String>>> = LazyLock::new(Mutex::default);

/// The SHA-256 of a file of any size, in hexadecimal.
pub fn sha256_of_file(path: &Path) -> Result<String> {
    let fail = |error: std::io::Error| Error::io("read", path, &error);
    let mut file = File::open(path).map_err(fail)?;
    let state = state(&file.metadata().map_err(fail)?);
    if let Some(known) = lock(&KNOWN).get(&state) {
        return Ok(known.clone());
    }
    let (_, sha256) = digest(&mut file).map_err(fail)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(0));
    if now.saturating_sub(state.3) >= SETTLED {
        lock(&KNOWN).insert(state, sha256.clone());
    }
    Ok(sha256)
}

fn state(of: &Metadata) -> State {
    (of.dev(), of.ino(), of.size(), of.ctime(), of.ctime_nsec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_file_that_is_changed_in_place_has_another_hash() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let hash = |content: &str| {
            fs::write(file.path(), content).unwrap();
            sha256_of_file(file.path()).unwrap()
        };
        // printf abc | sha256sum
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash("abc"), abc);
        assert_ne!(hash("abd"), abc);
        assert_eq!(hash("abc"), abc);
    }

    #[test]
    fn a_settled_file_is_read_once() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "abc").unwrap();
        let known = state(&fs::metadata(file.path()).unwrap());
        lock(&KNOWN).insert(known, "known".into());
        assert_eq!(sha256_of_file(file.path()).unwrap(), "known");
    }
}
