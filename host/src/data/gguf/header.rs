//! Why a file cannot be opened as GGUF, in words: what it is instead, which tensor has a type that is not read, where it ends.
//!
//! candle reads files; this looks again at one that candle refused, because its messages have numbers where files have names.

use std::io::{self, BufReader, Read, Seek};

use super::TYPES;

/// How a GGUF file begins.
const MAGIC: &[u8; 4] = b"GGUF";

/// Bytes of a file that is none which a message shows.
const SHOWN: usize = 32;

/// A reason, and what to do.
pub(super) struct Reason {
    pub(super) found: String,
    pub(super) hint: String,
}

impl Reason {
    fn new(found: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            found: found.into(),
            hint: hint.into(),
        }
    }
}

/// What a file is that does not begin as GGUF files do.
pub(super) fn foreign(start: &[u8]) -> Option<Reason> {
    if start.starts_with(MAGIC) {
        return None;
    }
    if start.len() < MAGIC.len() {
        let bytes = start.len();
        return Some(Reason::new(
            format!("not a GGUF that is read: it has {bytes} bytes"),
            CUT,
        ));
    }
    let hint = if start.starts_with(b"version https://git-lfs") {
        "it is what Git LFS leaves in the place of a file; fetch the file itself with `git lfs pull`"
    } else if start.trim_ascii_start().starts_with(b"<") {
        "it is a web page; the download was answered with one, perhaps because it needs a login"
    } else if start.starts_with(b"PK") {
        "it is a zip archive, as PyTorch writes weights; only safetensors and GGUF are read"
    } else {
        "a GGUF file begins with the letters GGUF"
    };
    let shown = &start[..start.len().min(SHOWN)];
    let looks = match std::str::from_utf8(shown) {
        Ok(text) => format!("{text:?}"),
        Err(_) => format!("the bytes {:02x?}", &shown[..MAGIC.len()]),
    };
    Some(Reason::new(
        format!("not a GGUF that is read: it begins with {looks}"),
        hint,
    ))
}

const CUT: &str = "the download was cut off, perhaps; fetch the file again";

/// What is wrong with the header of a file that begins as GGUF files do, where it is one of the usual things.
pub(super) fn wrong(file: &mut (impl Read + Seek)) -> Option<Reason> {
    if file.rewind().is_err() {
        return None;
    }
    match Header::new(file).and_then(|mut header| header.first_unread_type()) {
        Ok(Some((tensor, number))) => {
            let kind = type_name(number).map_or_else(|| format!("number {number}"), str::to_owned);
            Some(Reason::new(
                format!("tensor {tensor:?} is stored as {kind}; accepted: {TYPES}"),
                "take a file of the model in another type, such as Q8_0 or Q4_K_M",
            ))
        }
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Some(Reason::new(
            "not a GGUF that is read: it ends in the middle of its header",
            CUT,
        )),
        _ => None,
    }
}

/// How far a file that holds less than its header says is from whole.
pub(super) fn cut_off(bytes: u64, needed: u64) -> Reason {
    Reason::new(
        format!("the file has {bytes} bytes, and its tensors reach to byte {needed}"),
        CUT,
    )
}

/// The names of storage types by their numbers, where they are not read. Source: ggml.h, `enum ggml_type`.
const UNREAD: [(u32, &str); 27] = [
    (4, "Q4_2"),
    (5, "Q4_3"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (31, "Q4_0_4_4"),
    (32, "Q4_0_4_8"),
    (33, "Q4_0_8_8"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (36, "IQ4_NL_4_4"),
    (37, "IQ4_NL_4_8"),
    (38, "IQ4_NL_8_8"),
    (39, "MXFP4"),
    (40, "NVFP4"),
    (41, "Q1_0"),
];

/// The highest number below which all that are not in [`UNREAD`] are read, and BF16 beyond.
const READ_BELOW: u32 = 16;
const BF16: u32 = 30;

fn type_name(number: u32) -> Option<&'static str> {
    let named = UNREAD.iter().find(|(known, _)| *known == number);
    named.map(|(_, name)| *name)
}

fn is_read(number: u32) -> bool {
    type_name(number).is_none() && (number < READ_BELOW || number == BF16)
}

/// A walk through the header. Source: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.
struct Header<R> {
    file: BufReader<R>,
    /// In the first version lengths have 32 bits.
    short: bool,
}

impl<R: Read + Seek> Header<R> {
    fn new(file: R) -> io::Result<Self> {
        let mut file = BufReader::new(file);
        let mut start = [0; 8];
        file.read_exact(&mut start)?;
        // Lengths of another version, or of the other byte order, would be misread; the reader of values names the version.
        if !matches!(start[4..], [1..=3, 0, 0, 0]) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(Self {
            file,
            short: start[4] == 1,
        })
    }

    /// Name and type of the first tensor whose type is not read.
    fn first_unread_type(&mut self) -> io::Result<Option<(String, u32)>> {
        let (tensors, keys) = (self.length()?, self.length()?);
        for _ in 0..keys {
            let key = self.length()?;
            self.skip(key)?;
            let kind = self.number()?;
            self.skip_value(kind)?;
        }
        for _ in 0..tensors {
            let length = self.length()?;
            let mut name = Vec::new();
            self.file.by_ref().take(length).read_to_end(&mut name)?;
            let dimensions = u64::from(self.number()?);
            self.skip(dimensions * self.width())?;
            let kind = self.number()?;
            self.skip(8)?;
            if !is_read(kind) {
                return Ok(Some((String::from_utf8_lossy(&name).into_owned(), kind)));
            }
        }
        Ok(None)
    }

    /// Bytes of a length.
    fn width(&self) -> u64 {
        if self.short { 4 } else { 8 }
    }

    fn number(&mut self) -> io::Result<u32> {
        let mut bytes = [0; 4];
        self.file.read_exact(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn length(&mut self) -> io::Result<u64> {
        if self.short {
            return Ok(self.number()?.into());
        }
        let mut bytes = [0; 8];
        self.file.read_exact(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Reads past bytes; seeking would go beyond the end of a file without a word.
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        let read = io::copy(&mut self.file.by_ref().take(bytes), &mut io::sink())?;
        if read == bytes {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    fn skip_value(&mut self, kind: u32) -> io::Result<()> {
        match kind {
            0 | 1 | 7 => self.skip(1),
            2 | 3 => self.skip(2),
            4..=6 => self.skip(4),
            10..=12 => self.skip(8),
            8 => {
                let length = self.length()?;
                self.skip(length)
            }
            9 => {
                let (kind, count) = (self.number()?, self.length()?);
                (0..count).try_for_each(|_| self.skip_value(kind))
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// A header with one key of every kind and two tensors, the second of the type `kind`.
    fn header(kind: u32) -> Vec<u8> {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        let text = |bytes: &mut Vec<u8>, text: &str| {
            bytes.extend((text.len() as u64).to_le_bytes());
            bytes.extend(text.as_bytes());
        };
        bytes.extend(2u64.to_le_bytes());
        bytes.extend(13u64.to_le_bytes());
        for (kind, size) in [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8]
            .into_iter()
            .enumerate()
        {
            text(&mut bytes, "a.key");
            bytes.extend((kind as u32).to_le_bytes());
            match kind {
                8 => text(&mut bytes, "a text"),
                9 => {
                    bytes.extend(8u32.to_le_bytes());
                    bytes.extend(2u64.to_le_bytes());
                    text(&mut bytes, "one");
                    text(&mut bytes, "two");
                }
                _ => bytes.extend(vec![7; size]),
            }
        }
        for (name, kind) in [("first.weight", 0), ("second.weight", kind)] {
            text(&mut bytes, name);
            bytes.extend(2u32.to_le_bytes());
            bytes.extend([0; 16]);
            bytes.extend(kind.to_le_bytes());
            bytes.extend([0; 8]);
        }
        bytes
    }

    #[test]
    fn types_that_are_not_read_are_named_with_their_tensor() {
        for (number, name) in [
            (20, "IQ4_NL"),
            (23, "IQ4_XS"),
            (39, "MXFP4"),
            (99, "number 99"),
        ] {
            let reason = wrong(&mut Cursor::new(header(number))).expect("a reason");
            let expected = format!("tensor \"second.weight\" is stored as {name}; accepted: F32");
            assert!(reason.found.starts_with(&expected), "{}", reason.found);
        }
        for number in [0, 1, 8, 14, 30] {
            assert!(
                wrong(&mut Cursor::new(header(number))).is_none(),
                "{number}"
            );
        }
    }

    #[test]
    fn a_header_that_ends_early_is_a_download_that_was_cut_off() {
        let whole = header(0);
        for length in [9, 30, 100, whole.len() - 5] {
            let reason = wrong(&mut Cursor::new(&whole[..length])).expect("a reason");
            assert!(reason.found.contains("ends in the middle of its header"));
        }
    }

    #[test]
    fn what_is_no_gguf_is_shown() {
        for (start, found, hint) in [
            (
                &b"<!DOCTYPE html><html>"[..],
                "it begins with \"<!DOCTYPE html>",
                "a web page",
            ),
            (
                b"version https://git-lfs.github.com/spec/v1\n",
                "begins with \"version",
                "git lfs pull",
            ),
            (
                b"PK\x03\x04\xff\xfe\0\0",
                "the bytes [50, 4b, 03, 04]",
                "PyTorch",
            ),
            (b"GG", "it has 2 bytes", "cut off"),
        ] {
            let reason = foreign(start).expect("a reason");
            assert!(reason.found.contains(found), "{}", reason.found);
            assert!(reason.hint.contains(hint), "{}", reason.hint);
        }
        assert!(foreign(b"GGUF\x03\0\0\0").is_none());
    }
}
