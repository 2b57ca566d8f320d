//! One checkpoint: a safetensors file named `step-STEP-HASH.safetensors` by the SHA-256 of its content.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use safetensors::tensor::Metadata;
use safetensors::{Dtype, SafeTensorError, View};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::pipeline::atomic::sync_folder;
use crate::pipeline::store::sha256_of_file;

/// The key of the loop's state in the header's metadata.
const STATE: &str = "state";
/// Before the name of a file that the stage has written.
const FILE: &str = "file:";
/// Before the name of a damaged checkpoint.
const ASIDE: &str = "damaged-";
/// As many digits of the hash stand in the name.
const HASH: usize = 16;

/// A named array.
pub struct Part<'a> {
    name: String,
    shape: [usize; 1],
    values: Values<'a>,
}

enum Values<'a> {
    Floats(Cow<'a, [f32]>),
    Bytes(Vec<u8>),
}

impl<'a> Part<'a> {
    /// An array of f32.
    pub fn floats(name: String, values: impl Into<Cow<'a, [f32]>>) -> Self {
        let values = values.into();
        Self {
            name,
            shape: [values.len()],
            values: Values::Floats(values),
        }
    }

    fn bytes(name: String, bytes: Vec<u8>) -> Self {
        Self {
            name,
            shape: [bytes.len()],
            values: Values::Bytes(bytes),
        }
    }
}

impl View for &Part<'_> {
    fn dtype(&self) -> Dtype {
        match self.values {
            Values::Floats(_) => Dtype::F32,
            Values::Bytes(_) => Dtype::U8,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match &self.values {
            Values::Floats(values) => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Values::Bytes(bytes) => bytes.into(),
        }
    }

    fn data_len(&self) -> usize {
        match &self.values {
            Values::Floats(values) => size_of_val(&**values),
            Values::Bytes(bytes) => bytes.len(),
        }
    }
}

/// The JSONL files that a stage has written into its folder so far, as parts of a checkpoint.
pub(super) fn written(dir: &Path) -> Result<Vec<Part<'static>>> {
    let fail = |error: io::Error| Error::io("read", dir, &error);
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        if path
            .extension()
            .is_some_and(|extension| extension == "jsonl")
        {
            let bytes = fs::read(&path).map_err(|error| Error::io("read", &path, &error))?;
            files.push(Part::bytes(format!("{FILE}{name}"), bytes));
        }
    }
    Ok(files)
}

/// Writes a checkpoint, whole or not at all.
pub(super) fn write(
    folder: &Path,
    step: u64,
    state: &impl Serialize,
    parts: &[Part<'_>],
) -> Result<()> {
    let fail = |error: io::Error| Error::io("write a checkpoint into", folder, &error);
    fs::create_dir_all(folder).map_err(fail)?;
    let state = serde_json::to_string(state)
        .map_err(|error| Error::internal(format!("a loop's state does not serialise: {error}")))?;
    let file = tempfile::Builder::new()
        .prefix(".partial-")
        .permissions(fs::Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .map_err(fail)?;
    let parts = parts.iter().map(|part| (part.name.as_str(), part));
    let about = HashMap::from([(STATE.to_owned(), state)]);
    safetensors::serialize_to_file(parts, Some(about), file.path()).map_err(
        |error| match error {
            SafeTensorError::IoError(error) => fail(error),
            error => Error::internal(format!("a checkpoint does not serialise: {error}")),
        },
    )?;
    // Written through another handle of the same file.
    file.as_file().sync_all().map_err(fail)?;
    let hash = sha256_of_file(file.path())?;
    let path = folder.join(format!("step-{step:09}-{}.safetensors", &hash[..HASH]));
    file.persist(&path).map_err(|error| fail(error.error))?;
    sync_folder(folder)
}

/// The checkpoints in a folder, the newest first; what killed processes have left of others is removed.
pub(super) fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("read", folder, &error)),
    };
    let mut all = Vec::new();
    for entry in entries {
        let path = entry
            .map_err(|error| Error::io("read", folder, &error))?
            .path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(".partial-") {
            // The stage's lock is held: nobody else writes here.
            fs::remove_file(&path).map_err(|error| Error::io("remove", &path, &error))?;
        } else if let Some(step) = step_of(&name) {
            all.push((step, path));
        }
    }
    all.sort_by(|a, b| b.cmp(a));
    Ok(all.into_iter().map(|(_, path)| path).collect())
}

fn step_of(name: &str) -> Option<u64> {
    let (step, _) = name.strip_prefix("step-")?.split_once('-')?;
    step.parse().ok()
}

/// Gives a damaged checkpoint a name under which nobody looks for it.
pub(super) fn set_aside(path: &Path) -> Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = path.with_file_name(format!("{ASIDE}{name}"));
    fs::rename(path, &aside).map_err(|error| Error::io("set aside", path, &error))?;
    Ok(aside)
}

/// What is wrong with a checkpoint's content.
#[derive(Debug)]
pub(super) struct Damage {
    expected: String,
    found: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (expected, found) = (&self.expected, &self.found);
        write!(
            f,
            "its name says SHA-256 {expected}…, its content has {found}…"
        )
    }
}

/// A sound checkpoint.
pub struct Saved {
    path: PathBuf,
    step: u64,
    state: String,
    header: Metadata,
    /// Where the arrays begin in the file.
    start: u64,
}

impl Saved {
    /// Reads the header of a checkpoint after its hash has been compared.
    pub(super) fn open(path: &Path) -> Result<Result<Self, Damage>> {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let expected = name.rsplit('-').next().unwrap_or_default().to_owned();
        let mut found = sha256_of_file(path)?;
        found.truncate(HASH);
        if expected != found {
            return Ok(Err(Damage { expected, found }));
        }
        // From here on the content is what was written; what does not fit was written by another version.
        let fail = |error: io::Error| Error::io("read", path, &error);
        let mut file = File::open(path).map_err(fail)?;
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(fail)?;
        let length = u64::from_le_bytes(length);
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header).map_err(fail)?;
        let header: Metadata =
            serde_json::from_slice(&header).map_err(|error| other_version(path, &error))?;
        let state = header
            .metadata()
            .as_ref()
            .and_then(|about| about.get(STATE));
        let state = state.ok_or_else(|| other_version(path, &"it lacks the loop's state"))?;
        Ok(Ok(Self {
            step: step_of(&name).unwrap_or_default(),
            state: state.clone(),
            path: path.to_path_buf(),
            start: 8 + length,
            header,
        }))
    }

    /// After how many steps it was saved.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The state beside the arrays.
    pub(super) fn state<S: DeserializeOwned>(&self) -> Result<S> {
        serde_json::from_str(&self.state).map_err(|error| other_version(&self.path, &error))
    }

    /// Reads an array into one of the same length.
    ///
    /// # Errors
    /// No array of this name and length.
    pub fn read(&self, name: &str, into: &mut [f32]) -> Result<()> {
        let bytes = self.bytes(name)?;
        if bytes.len() != size_of_val(into) {
            return Err(other_version(
                &self.path,
                &format!(
                    "{name} has {} bytes, not {}",
                    bytes.len(),
                    size_of_val(into)
                ),
            ));
        }
        let (values, _) = bytes.as_chunks::<4>();
        for (value, bytes) in into.iter_mut().zip(values) {
            *value = f32::from_le_bytes(*bytes);
        }
        Ok(())
    }

    fn bytes(&self, name: &str) -> Result<Vec<u8>> {
        let info = self.header.info(name);
        let info = info.ok_or_else(|| other_version(&self.path, &format!("it lacks {name}")))?;
        let (begin, end) = info.data_offsets;
        let fail = |error: io::Error| Error::io("read", &self.path, &error);
        let mut file = File::open(&self.path).map_err(fail)?;
        file.seek(SeekFrom::Start(self.start + begin as u64))
            .map_err(fail)?;
        let mut bytes = vec![0; end - begin];
        file.read_exact(&mut bytes).map_err(fail)?;
        Ok(bytes)
    }

    /// Writes the files that the stage had written by then into its new folder.
    pub fn restore_files(&self, dir: &Path) -> Result<()> {
        for part in self.header.tensors().keys() {
            if let Some(name) = part.strip_prefix(FILE) {
                let path = dir.join(name);
                fs::write(&path, self.bytes(part)?)
                    .map_err(|error| Error::io("write", &path, &error))?;
            }
        }
        Ok(())
    }
}

fn other_version(path: &Path, what: &dyn fmt::Display) -> Error {
    Error::input(format!(
        "checkpoint {} was written by another version: {what}",
        path.display()
    ))
    .hint("remove it, and the stage starts from its beginning")
}
