//! Appending: one file a writer, one thread that writes what is waiting, syncs once, and only then reports.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread::{self, JoinHandle};

use finegrain_sdk::{Error, Result};
use jiff::Timestamp;

use super::failed;
use super::index::EXTENSION;
use super::record::{Line, to_line};

/// Where a line was put: the byte at which it starts, and its length.
pub(super) type Put = (u64, usize);

/// A line on its way to the file.
struct Waiting {
    text: String,
    sync: bool,
    done: SyncSender<Result<Put, String>>,
}

/// A writer. Its file is made with the first line.
#[derive(Debug)]
pub(super) struct Log {
    name: String,
    path: PathBuf,
    numbers: AtomicU64,
    sender: Option<Sender<Waiting>>,
    thread: Option<JoinHandle<()>>,
}

impl Log {
    /// A writer into a folder, which is made where it is missing.
    ///
    /// # Errors
    /// No thread can be started.
    pub(super) fn new(folder: &Path) -> Result<Self> {
        let stem = format!(
            "{}_{}_{:08x}",
            Timestamp::now().strftime("%Y%m%dT%H%M%SZ"),
            std::process::id(),
            // Keys of a fresh hasher are random: two writers of one process, and processes of one number on two machines.
            RandomState::new().build_hasher().finish() as u32
        );
        let name = format!("{stem}.{EXTENSION}");
        let path = folder.join(&name);
        let (sender, receiver) = mpsc::channel();
        let file = Appender {
            folder: folder.to_owned(),
            path: path.clone(),
            file: None,
            length: 0,
            broken: None,
        };
        let thread = thread::Builder::new()
            .name("answers".to_owned())
            .spawn(move || file.run(&receiver))
            .map_err(|error| failed("start the writer of", folder, &error))?;
        Ok(Self {
            name,
            path,
            numbers: AtomicU64::new(0),
            sender: Some(sender),
            thread: Some(thread),
        })
    }

    /// The file's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// An id that no other request has.
    pub(super) fn new_id(&self) -> String {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        format!("{}/{number}", self.name.trim_end_matches(".jsonl"))
    }

    /// Appends a line, and with `sync` waits until it would outlive a power cut.
    ///
    /// # Errors
    /// It could not be written. Nothing can be written after that: the file may end in the middle of a line.
    pub(super) fn append(&self, line: &Line, sync: bool) -> Result<Put> {
        let text = to_line(line).map_err(|error| self.refuse(&error.to_string()))?;
        let (done, put) = mpsc::sync_channel(1);
        let waiting = Waiting { text, sync, done };
        let sent = self.sender.as_ref().map(|sender| sender.send(waiting));
        match sent {
            Some(Ok(())) => {}
            _ => return Err(self.refuse("its writer has ended")),
        }
        match put.recv() {
            Ok(Ok(put)) => Ok(put),
            Ok(Err(error)) => Err(self.refuse(&error)),
            Err(_) => Err(self.refuse("its writer has ended")),
        }
    }

    fn refuse(&self, what: &str) -> Error {
        Error::plugin(format!(
            "cannot keep answers in {}: {what}; nothing more is asked, for it would be paid again",
            self.path.display()
        ))
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the writer was told to everyone who waited for it.
            let _ = thread.join();
        }
    }
}

/// The thread's side.
struct Appender {
    folder: PathBuf,
    path: PathBuf,
    file: Option<File>,
    length: u64,
    broken: Option<String>,
}

impl Appender {
    /// Writes until nobody can send any more.
    fn run(mut self, receiver: &Receiver<Waiting>) {
        while let Ok(first) = receiver.recv() {
            let mut group = vec![first];
            group.extend(receiver.try_iter());
            let mut starts = Vec::with_capacity(group.len());
            let mut bytes = String::new();
            for waiting in &group {
                starts.push(self.length + bytes.len() as u64);
                bytes.push_str(&waiting.text);
            }
            let mut result = self.write(bytes.as_bytes());
            let (synced, plain): (Vec<_>, Vec<_>) = group
                .into_iter()
                .zip(starts)
                .partition(|(waiting, _)| waiting.sync);
            report(plain, &result);
            if result.is_ok() && !synced.is_empty() {
                result = self.sync();
            }
            report(synced, &result);
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.unless_broken(|this| {
            if this.file.is_none() {
                this.file = Some(this.create()?);
            }
            if let Some(file) = &mut this.file {
                file.write_all(bytes)?;
            }
            this.length += bytes.len() as u64;
            Ok(())
        })
    }

    fn sync(&mut self) -> Result<(), String> {
        self.unless_broken(|this| match &this.file {
            Some(file) => file.sync_data(),
            None => Ok(()),
        })
    }

    /// Does something unless something has failed before, and remembers a failure.
    fn unless_broken(
        &mut self,
        what: impl FnOnce(&mut Self) -> io::Result<()>,
    ) -> Result<(), String> {
        if self.broken.is_none() {
            self.broken = what(self).err().map(|error| error.to_string());
        }
        self.broken.clone().map_or(Ok(()), Err)
    }

    /// Makes the file, and sees to it that its name outlives a power cut.
    fn create(&self) -> io::Result<File> {
        fs::create_dir_all(&self.folder)?;
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .open(&self.path)?;
        File::open(&self.folder)?.sync_all()?;
        Ok(file)
    }
}

fn report(lines: Vec<(Waiting, u64)>, result: &Result<(), String>) {
    for (line, start) in lines {
        let put = result.clone().map(|()| (start, line.text.len()));
        // Whoever does not wait any more does not want to know.
        let _ = line.done.send(put);
    }
}
