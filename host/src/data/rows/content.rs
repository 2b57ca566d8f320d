//! From a file to its text: unpacked, without a byte order mark, known to be UTF-8.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::{ACCEPTED, strangers};
use crate::error::{Error, Result};

/// How gzipped bytes begin.
const GZIP: &[u8] = b"\x1f\x8b";

/// How a Parquet file begins.
const PARQUET: &[u8] = b"PAR1";

/// What some programs write in front of UTF-8.
const BYTE_ORDER_MARK: &str = "\u{feff}";

/// What a file is, by its bytes.
pub(super) enum Content {
    /// A text, not empty.
    Text(String),
    /// Parquet, which has a reader of its own.
    Parquet,
}

/// Looks into a file.
///
/// # Errors
/// What is neither a text in UTF-8 nor Parquet, by its name; an empty file.
pub(super) fn open(path: &Path) -> Result<Content> {
    let mut bytes = fs::read(path).map_err(|error| Error::io("read", path, &error))?;
    if bytes.starts_with(GZIP) {
        bytes = unpacked(path, &bytes)?;
    }
    if bytes.starts_with(PARQUET) {
        return Ok(Content::Parquet);
    }
    if let Some(stranger) = strangers::known(&bytes) {
        return Err(stranger.refused(path));
    }
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => return Err(not_utf8(path, &error)),
    };
    let text = match text.strip_prefix(BYTE_ORDER_MARK) {
        Some(rest) => rest.to_owned(),
        None => text,
    };
    if text.trim().is_empty() {
        return Err(Error::input(format!(
            "{}: the file is empty; accepted: {ACCEPTED}",
            path.display()
        )));
    }
    Ok(Content::Text(text))
}

fn unpacked(path: &Path, packed: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    MultiGzDecoder::new(packed)
        .read_to_end(&mut bytes)
        .map_err(|error| {
            Error::input(format!(
                "{}: the gzip file is damaged or cut off: {error}",
                path.display()
            ))
            .hint("copy it again; `gzip -t FILE` checks one")
        })?;
    Ok(bytes)
}

fn not_utf8(path: &Path, error: &std::string::FromUtf8Error) -> Error {
    let at = error.utf8_error().valid_up_to();
    let bytes = error.as_bytes();
    let line = bytes[..at].split(|&byte| byte == b'\n').count();
    Error::input(format!(
        "{}:{line}: not UTF-8: found the byte 0x{:02X}; accepted: {ACCEPTED}",
        path.display(),
        bytes[at]
    ))
    .hint("a file from Windows is often in another encoding: `iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW`")
}
