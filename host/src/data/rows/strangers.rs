//! Files that are not read, known by their first bytes, each with a sentence and the way out.

use std::path::Path;

use super::ACCEPTED;
use crate::error::Error;

/// A kind of file that is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stranger {
    /// What it is, with its article.
    is: &'static str,
    /// How to get rows out of it.
    hint: &'static str,
}

const fn stranger(is: &'static str, hint: &'static str) -> Stranger {
    Stranger { is, hint }
}

const UTF_16: Stranger = stranger(
    "a text in UTF-16",
    "`iconv -f UTF-16 -t UTF-8 FILE > NEW` converts it",
);

/// Python's libraries read what is written by them.
const ARROW: Stranger = stranger(
    "an Arrow file",
    "in Python: datasets.Dataset.from_file(FILE).to_json(NEW)",
);

/// By first bytes, longer beginnings before those that they begin with.
const BEGINNINGS: [(&[u8], Stranger); 22] = [
    (
        b"\xff\xfe\0\0",
        stranger(
            "a text in UTF-32",
            "`iconv -f UTF-32 -t UTF-8 FILE > NEW` converts it",
        ),
    ),
    (b"\xff\xfe", UTF_16),
    (b"\xfe\xff", UTF_16),
    // Without a mark; every text that is read begins with a character of ASCII.
    (b"{\0", UTF_16),
    (b"[\0", UTF_16),
    (b"\0{", UTF_16),
    (b"\0[", UTF_16),
    (
        b"version https://git-lfs",
        stranger(
            "a pointer of Git LFS, not the file itself",
            "`git lfs pull` in its repository fetches the file",
        ),
    ),
    (
        b"PK\x03\x04",
        stranger(
            "a zip archive or an Excel sheet",
            "unpack it, or save the sheet as CSV",
        ),
    ),
    (
        b"\x28\xb5\x2f\xfd",
        stranger("packed with zstd", "`zstd -d FILE` unpacks it"),
    ),
    (
        b"\xfd7zXZ\0",
        stranger("packed with xz", "`xz -d FILE` unpacks it"),
    ),
    (
        b"BZh",
        stranger("packed with bzip2", "`bzip2 -d FILE` unpacks it"),
    ),
    (b"7z\xbc\xaf", stranger("a 7z archive", "unpack it")),
    (b"ARROW1", ARROW),
    (b"\xff\xff\xff\xff", ARROW),
    (
        b"SQLite format 3",
        stranger(
            "an SQLite data base",
            "sqlite3 -csv -header FILE 'select * from TABLE' > NEW.csv",
        ),
    ),
    (
        b"\x93NUMPY",
        stranger("an array of NumPy", "write its rows as JSONL"),
    ),
    (
        b"\x89HDF",
        stranger("an HDF5 file", "write its rows as JSONL"),
    ),
    (b"\x80\x03", PICKLE),
    (b"\x80\x04", PICKLE),
    (b"\x80\x05", PICKLE),
    (b"%PDF", stranger("a PDF", "write its rows as JSONL")),
];

const PICKLE: Stranger = stranger("a pickle of Python", "write its rows as JSONL");

const HTML: Stranger = stranger(
    "an HTML page, which servers answer with instead of a file",
    "fetch the file again by its raw address",
);

const TAR: Stranger = stranger("a tar archive", "`tar -xf FILE` unpacks it");

/// Where a tar archive has its mark.
const TAR_MARK: (usize, &[u8]) = (257, b"ustar");

/// The kind of a file that is not read, where these bytes tell it.
pub(super) fn known(bytes: &[u8]) -> Option<Stranger> {
    let begins = |(beginning, stranger): &(&[u8], Stranger)| {
        bytes.starts_with(beginning).then_some(*stranger)
    };
    if let Some(stranger) = BEGINNINGS.iter().find_map(begins) {
        return Some(stranger);
    }
    if bytes
        .get(TAR_MARK.0..)
        .is_some_and(|rest| rest.starts_with(TAR_MARK.1))
    {
        return Some(TAR);
    }
    let text = bytes.trim_ascii_start();
    let page = [&b"<!doctype"[..], b"<html", b"<?xml", b"<head"]
        .iter()
        .any(|tag| {
            text.get(..tag.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(tag))
        });
    page.then_some(HTML)
}

impl Stranger {
    /// The error that such a file is.
    pub(super) fn refused(self, path: &Path) -> Error {
        Error::input(format!(
            "{}: the file is {}; accepted: {ACCEPTED}",
            path.display(),
            self.is
        ))
        .hint(self.hint)
    }
}
