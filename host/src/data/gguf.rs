//! GGUF files: metadata by key and kind, and tensors as f32 whatever they are stored as.
//!
//! Source: the format's specification, <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>; candle reads it.

use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _};
use std::path::{Path, PathBuf};

use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::{Device, Tensor};

use crate::error::{Error, Result, without_backtrace};

mod header;

use header::Reason;

/// The storage types that are read.
const TYPES: &str = "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K";

/// Bytes of a file that say what it is.
const START: u64 = 64;

/// An opened file: its metadata and where its tensors lie.
pub struct Gguf {
    path: PathBuf,
    file: File,
    content: Content,
}

/// Whether a path names a GGUF file: its name ends with `.gguf`.
pub fn is_gguf(path: &Path) -> bool {
    path.extension()
        .is_some_and(|kind| kind.eq_ignore_ascii_case("gguf"))
}

impl Gguf {
    /// Reads everything but the tensors' data.
    ///
    /// # Errors
    /// A file that cannot be read or is not GGUF, a tensor of a type that is not read.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |error| Error::io("open", path, &error);
        let file = File::open(path).map_err(failed)?;
        let mut start = Vec::new();
        (&file)
            .take(START)
            .read_to_end(&mut start)
            .map_err(failed)?;
        let refused = |Reason { found, hint }| {
            Error::input(format!("{}: {found}", path.display())).hint(hint)
        };
        if let Some(reason) = header::foreign(&start) {
            return Err(refused(reason));
        }
        let mut from_start = &file;
        from_start.rewind().map_err(failed)?;
        let content = Content::read(&mut BufReader::new(&file)).map_err(|error| {
            header::wrong(&mut &file).map_or_else(
                || {
                    let error = without_backtrace(&error);
                    Error::input(format!(
                        "{}: not a GGUF that is read: {error}",
                        path.display()
                    ))
                },
                refused,
            )
        })?;
        let bytes = file.metadata().map_err(failed)?.len();
        let needed = end_of_tensors(&content);
        if needed > bytes {
            return Err(refused(header::cut_off(bytes, needed)));
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            content,
        })
    }

    /// Where the file lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The text of a key, if there is such a key.
    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        self.get(key, "a text", |value| match value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// The whole number, at least 0, of a key.
    pub fn count(&self, key: &str) -> Result<Option<usize>> {
        self.get(key, "a whole number of at least 0", count)
    }

    /// The number of a key. What is stored as f32 becomes the f64 that is written the same: 1e-5, not 9.9999997e-6.
    pub fn real(&self, key: &str) -> Result<Option<f64>> {
        self.get(key, "a number", |value| match value {
            Value::F32(number) => number.to_string().parse().ok(),
            Value::F64(number) => Some(*number),
            other => count(other).map(|number| number as f64),
        })
    }

    /// The truth value of a key; some writers store 0 and 1.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.get(key, "true or false", |value| match value {
            Value::Bool(flag) => Some(*flag),
            number => match count(number)? {
                0 => Some(false),
                1 => Some(true),
                _ => None,
            },
        })
    }

    /// The list of texts of a key.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<&str>>> {
        self.list(key, "a list of texts", |item| match item {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// The list of numbers of a key.
    pub fn reals(&self, key: &str) -> Result<Option<Vec<f32>>> {
        self.list(key, "a list of numbers", |item| match item {
            Value::F32(number) => Some(*number),
            Value::F64(number) => Some(*number as f32),
            Value::I8(number) => Some((*number).into()),
            Value::I16(number) => Some((*number).into()),
            Value::I32(number) => Some(*number as f32),
            Value::I64(number) => Some(*number as f32),
            other => count(other).map(|number| number as f32),
        })
    }

    /// The list of whole numbers of at least 0 of a key; a single number is a list of one.
    pub fn counts(&self, key: &str) -> Result<Option<Vec<usize>>> {
        let accepted = "a whole number of at least 0, or a list of them";
        self.get(key, accepted, |value| match value {
            Value::Array(items) => items.iter().map(count).collect(),
            single => Some(vec![count(single)?]),
        })
    }

    fn list<'a, T>(
        &'a self,
        key: &str,
        accepted: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<Vec<T>>> {
        self.get(key, accepted, |value| match value {
            Value::Array(items) => items.iter().map(read).collect(),
            _ => None,
        })
    }

    fn get<'a, T>(
        &'a self,
        key: &str,
        accepted: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.content.metadata.get(key) else {
            return Ok(None);
        };
        read(value).map(Some).ok_or_else(|| {
            let kind = value.value_type();
            self.refused(format!(
                "{key} is of the kind {kind:?}; accepted: {accepted}"
            ))
        })
    }

    /// A value that must be there.
    ///
    /// # Errors
    /// `value` is none.
    pub fn required<T>(&self, key: &str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| self.refused(format!("the metadata has no {key}")))
    }

    /// An input error that begins with the file's path.
    pub fn refused(&self, message: impl std::fmt::Display) -> Error {
        Error::input(format!("{}: {message}", self.path.display()))
    }

    /// The keys that begin with `start`, without it, sorted.
    pub fn keys_below(&self, start: &str) -> Vec<&str> {
        let keys = self.content.metadata.keys();
        let mut below: Vec<_> = keys.filter_map(|key| key.strip_prefix(start)).collect();
        below.sort_unstable();
        below
    }

    /// The names of all tensors, sorted.
    pub fn tensor_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self
            .content
            .tensor_infos
            .keys()
            .map(String::as_str)
            .collect();
        names.sort_unstable();
        names
    }

    /// The sizes of a tensor, rows first.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.content
            .tensor_infos
            .get(name)
            .map(|info| info.shape.dims())
    }

    /// A tensor as f32 on `device`.
    ///
    /// # Errors
    /// No tensor of this name, or a file that ends before it.
    pub fn tensor(&self, name: &str, device: &Device) -> Result<Tensor> {
        let stored = self
            .content
            .tensor(&mut &self.file, name, &Device::Cpu)
            .map_err(|error| {
                let error = without_backtrace(&error);
                self.refused(format!("tensor {name:?}: {error}"))
            })?;
        Ok(stored.dequantize(&Device::Cpu)?.to_device(device)?)
    }
}

/// The byte behind the last tensor's data.
fn end_of_tensors(content: &Content) -> u64 {
    let ends = content.tensor_infos.values().map(|info| {
        let kind = info.ggml_dtype;
        let blocks = info.shape.elem_count() / kind.block_size();
        let bytes = (blocks as u64).saturating_mul(kind.type_size() as u64);
        content
            .tensor_data_offset
            .saturating_add(info.offset)
            .saturating_add(bytes)
    });
    ends.max().unwrap_or(0)
}

fn count(value: &Value) -> Option<usize> {
    let number: i128 = match value {
        Value::U8(number) => (*number).into(),
        Value::I8(number) => (*number).into(),
        Value::U16(number) => (*number).into(),
        Value::I16(number) => (*number).into(),
        Value::U32(number) => (*number).into(),
        Value::I32(number) => (*number).into(),
        Value::U64(number) => (*number).into(),
        Value::I64(number) => (*number).into(),
        _ => return None,
    };
    usize::try_from(number).ok()
}
