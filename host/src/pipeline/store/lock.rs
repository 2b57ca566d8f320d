//! Locks between processes: an advisory lock on a file, which the system lets go of when its process ends, however it ends.
//!
//! The file of an exclusive lock says who holds it, and is removed with the lock. Whoever gets a lock therefore checks that
//! the file still has its name; a lock on a file that was removed in the meantime keeps nobody out.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Between two looks at a lock that another process holds: at first, and at most.
const POLL: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));

/// Who holds a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The process.
    pub pid: u32,
    /// The machine that it runs on.
    pub host: String,
    /// Since when, by its clock.
    pub since: String,
}

impl Holder {
    fn this_process() -> Self {
        Self {
            pid: std::process::id(),
            host: this_machine(),
            since: Timestamp::now().to_string(),
        }
    }

    fn is_this_process(&self) -> bool {
        self.pid == std::process::id() && self.host == this_machine()
    }
}

fn this_machine() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "process {} on {} since {}",
            self.pid, self.host, self.since
        )
    }
}

/// Who asks for a lock or a stage: how it is told what happens, and how it gives up.
#[derive(Clone, Copy)]
pub struct Asker<'a> {
    /// Ends a wait with the error of an interrupt.
    pub cancel: &'a AtomicBool,
    /// Takes a line about a wait.
    pub note: &'a dyn Fn(&str),
    /// Takes a warning.
    pub warn: &'a dyn Fn(&str),
}

impl Asker<'_> {
    pub(super) fn check_cancelled(&self) -> Result<()> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(Error::interrupted());
        }
        Ok(())
    }
}

/// How a lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Shared,
    Exclusive,
}

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    // Closing it, after `drop` below, lets go of the lock.
    file: File,
    path: PathBuf,
    mode: Mode,
}

impl Lock {
    /// The exclusive lock of a file, which is made where it is missing; `None` where somebody else holds it.
    pub fn try_exclusive(path: &Path) -> Result<Option<Self>> {
        Self::attempt(path, Mode::Exclusive)
    }

    /// The exclusive lock of a file. While somebody else holds it, waits, and says once for each holder on whom: `what` is
    /// what is waited for.
    ///
    /// # Errors
    /// The asker's interrupt.
    pub fn exclusive(path: &Path, what: &str, asker: &Asker<'_>) -> Result<Self> {
        Self::wait(path, Mode::Exclusive, what, asker)
    }

    /// A lock that others may share, and that keeps out an exclusive one; waits as [`Lock::exclusive`] does.
    pub fn shared(path: &Path, what: &str, asker: &Asker<'_>) -> Result<Self> {
        Self::wait(path, Mode::Shared, what, asker)
    }

    /// Who holds the exclusive lock of a file, as far as the file says so.
    pub fn holder(path: &Path) -> Option<Holder> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    fn wait(path: &Path, mode: Mode, what: &str, asker: &Asker<'_>) -> Result<Self> {
        let mut pause = POLL.0;
        let mut told = None;
        loop {
            if let Some(lock) = Self::attempt(path, mode)? {
                return Ok(lock);
            }
            asker.check_cancelled()?;
            let holder = Self::holder(path);
            // Who has just got it may not have written its name yet: the first few looks are silent.
            if pause >= POLL.1 && told.as_ref() != Some(&holder) {
                let whom = match &holder {
                    Some(holder) if holder.is_this_process() => {
                        "another run of this comparison has it".to_owned()
                    }
                    Some(holder) => holder.to_string(),
                    None => "another process".to_owned(),
                };
                (asker.note)(&format!("waiting for {what}: {whom}"));
                told = Some(holder);
            }
            thread::sleep(pause);
            pause = (2 * pause).min(POLL.1);
        }
    }

    fn attempt(path: &Path, mode: Mode) -> Result<Option<Self>> {
        let fail = |error: io::Error| {
            let unsupported = error.kind() == io::ErrorKind::Unsupported;
            let error = Error::io("lock", path, &error);
            if unsupported {
                error.hint("choose a place on a file system that has file locks (flock)")
            } else {
                error
            }
        };
        loop {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)
                .map_err(fail)?;
            let locked = match mode {
                Mode::Shared => file.try_lock_shared(),
                Mode::Exclusive => file.try_lock(),
            };
            match locked {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(fail(error)),
            }
            if !has_its_name(&file, path).map_err(fail)? {
                continue;
            }
            if mode == Mode::Exclusive {
                sign(&mut file).map_err(fail)?;
            }
            return Ok(Some(Self {
                file,
                path: path.to_path_buf(),
                mode,
            }));
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Where somebody has removed the file by hand, its name may be that of another's lock.
        if self.mode == Mode::Exclusive && has_its_name(&self.file, &self.path).unwrap_or(false) {
            // A file that stays behind locks nobody out.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn has_its_name(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    match fs::metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (held.dev(), held.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn sign(file: &mut File) -> io::Result<()> {
    let mut text = serde_json::to_vec(&Holder::this_process())?;
    text.push(b'\n');
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(&text)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn an_exclusive_lock_keeps_others_out_names_its_holder_and_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = Lock::try_exclusive(&path).unwrap().unwrap();
        assert!(Lock::try_exclusive(&path).unwrap().is_none());
        let holder = Lock::holder(&path).unwrap();
        assert_eq!(holder.pid, std::process::id());
        assert!(!holder.host.is_empty());
        assert!(holder.since.parse::<Timestamp>().is_ok());
        drop(lock);
        assert!(!path.exists());
        assert!(Lock::try_exclusive(&path).unwrap().is_some());
    }

    #[test]
    fn a_file_that_a_dead_process_left_locks_nobody_out_and_its_words_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        fs::write(&path, "{\"pid\": 1, \"host\": \"long gone, and with a longer text than ours could ever be, which must not shine through\", \"since\": \"?\"}").unwrap();
        let lock = Lock::try_exclusive(&path).unwrap().unwrap();
        assert_eq!(Lock::holder(&path).unwrap().pid, std::process::id());
        drop(lock);
    }

    #[test]
    fn shared_locks_go_together_and_keep_out_exclusive_ones() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let cancel = AtomicBool::new(false);
        let asker = Asker {
            cancel: &cancel,
            note: &|_| {},
            warn: &|_| {},
        };
        let one = Lock::shared(&path, "it", &asker).unwrap();
        let two = Lock::shared(&path, "it", &asker).unwrap();
        assert!(Lock::try_exclusive(&path).unwrap().is_none());
        drop(one);
        assert!(Lock::try_exclusive(&path).unwrap().is_none());
        drop(two);
        assert!(Lock::try_exclusive(&path).unwrap().is_some());
    }

    #[test]
    fn a_wait_says_on_whom_and_ends_with_the_interrupt() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let _held = Lock::try_exclusive(&path).unwrap().unwrap();
        let wait = || {
            let cancel = AtomicBool::new(false);
            let said = Mutex::new(Vec::new());
            let asker = Asker {
                cancel: &cancel,
                note: &|text| {
                    said.lock().unwrap().push(text.to_owned());
                    cancel.store(true, Ordering::Relaxed);
                },
                warn: &|_| {},
            };
            let error = Lock::exclusive(&path, "the stage", &asker).unwrap_err();
            assert_eq!(error.exit_code(), 130);
            said.into_inner().unwrap()
        };
        let ours = "waiting for the stage: another run of this comparison has it";
        assert_eq!(wait(), [ours]);
        // What another process would have written.
        let theirs = Holder {
            pid: std::process::id() + 1,
            ..Holder::this_process()
        };
        fs::write(&path, serde_json::to_vec(&theirs).unwrap()).unwrap();
        assert_eq!(wait(), [format!("waiting for the stage: {theirs}")]);
    }

    /// The file goes and comes with every holder: without the check of its name, two would hold it at once.
    #[test]
    fn of_many_that_want_it_at_once_one_has_it_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let (inside, turns) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    while turns.load(Ordering::SeqCst) < 100 {
                        if let Some(_lock) = Lock::try_exclusive(&path).unwrap() {
                            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                            thread::yield_now();
                            turns.fetch_add(1, Ordering::SeqCst);
                            inside.fetch_sub(1, Ordering::SeqCst);
                        }
                    }
                });
            }
        });
    }
}
