//! The stamp of a plugin library, read from its ELF section before any of its code runs.
//!
//! Opening a library runs its constructors. What is no plugin, or was built for another SDK, is refused before that.

use std::path::Path;

use finegrain_sdk::export::{STAMP_MAGIC, STAMP_SECTION};
use object::{Architecture, Object, ObjectKind, ObjectSection};

use crate::error::{Error, Result};
use crate::plugins::trust::refused;

/// What `export_plugin!` wrote into a library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The symbol of the header.
    pub entry: String,
    /// Version of the plugin's crate.
    pub version: String,
    /// Version of the SDK that it was built with.
    pub sdk: String,
}

impl Stamp {
    /// The stamps of a library: one, or more where a plugin crate is linked into another.
    ///
    /// # Errors
    /// What is no shared library for this machine, a library without a stamp, or one for another SDK.
    pub fn read(path: &Path, library: &[u8]) -> Result<Vec<Self>> {
        let section = section(path, library)?;
        let stamps: Vec<Self> = std::str::from_utf8(&section)
            .ok()
            .and_then(|text| {
                // The linker may pad between stamps.
                let records = text.split('\0').filter(|record| !record.is_empty());
                records.map(Self::parse).collect()
            })
            .ok_or_else(|| {
                refused(
                    path,
                    "its stamp has a format that this finegrain does not know",
                )
                .hint(rebuild())
            })?;
        if stamps.is_empty() {
            return Err(no_plugin(path));
        }
        let compatible = |stamp: &&Self| line_of(&stamp.sdk) == line_of(finegrain_sdk::VERSION);
        if let Some(other) = stamps.iter().find(|stamp| !compatible(stamp)) {
            return Err(refused(
                path,
                &format!(
                    "it was built for finegrain-sdk {}, and this finegrain loads plugins for {}",
                    other.sdk,
                    finegrain_sdk::VERSION
                ),
            )
            .hint(rebuild()));
        }
        Ok(stamps)
    }

    fn parse(record: &str) -> Option<Self> {
        let mut lines = record.lines();
        if lines.next() != Some(STAMP_MAGIC) {
            return None;
        }
        let mut stamp = Self {
            entry: String::new(),
            version: String::new(),
            sdk: String::new(),
        };
        for line in lines {
            let (key, value) = line.split_once('=')?;
            match key {
                "entry" => value.clone_into(&mut stamp.entry),
                "version" => value.clone_into(&mut stamp.version),
                "sdk" => value.clone_into(&mut stamp.sdk),
                // A later SDK of the same line may say more.
                _ => {}
            }
        }
        let complete = !stamp.entry.is_empty() && !stamp.sdk.is_empty();
        complete.then_some(stamp)
    }
}

fn section(path: &Path, library: &[u8]) -> Result<Vec<u8>> {
    let not_a_library = |what: &str| {
        refused(path, &format!("{what}, not a shared library"))
            .hint("a plugin is a .so file that cargo builds from a crate of type cdylib")
    };
    let file = object::File::parse(library).map_err(|_| not_a_library("it is some other file"))?;
    if file.kind() != ObjectKind::Dynamic {
        return Err(not_a_library("it is an executable or an object file"));
    }
    if file.architecture() != native() {
        return Err(refused(
            path,
            &format!(
                "it is built for {:?}, and this machine is {}",
                file.architecture(),
                std::env::consts::ARCH
            ),
        )
        .hint("build the plugin on this machine"));
    }
    let section = file.section_by_name(STAMP_SECTION);
    let bytes = section.map(|section| section.uncompressed_data());
    match bytes {
        None => Err(no_plugin(path)),
        Some(Ok(bytes)) => Ok(bytes.into_owned()),
        Some(Err(error)) => Err(refused(path, &format!("its stamp cannot be read: {error}"))),
    }
}

fn native() -> Architecture {
    match std::env::consts::ARCH {
        "x86_64" => Architecture::X86_64,
        "aarch64" => Architecture::Aarch64,
        "riscv64" => Architecture::Riscv64,
        _ => Architecture::Unknown,
    }
}

fn no_plugin(path: &Path) -> Error {
    refused(path, "it is a shared library, but no finegrain plugin")
        .hint("the crate needs a line `finegrain_sdk::export_plugin!();`")
}

/// What to do about a library for another SDK.
pub(super) fn rebuild() -> String {
    format!(
        "rebuild the plugin with finegrain-sdk {}",
        finegrain_sdk::VERSION
    )
}

/// The part of a version that must agree: the major number, and the minor one while the major is 0.
fn line_of(version: &str) -> (&str, &str) {
    let mut numbers = version.split('.');
    match (numbers.next(), numbers.next()) {
        (Some("0"), Some(minor)) => ("0", minor),
        (major, _) => (major.unwrap_or_default(), ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(bytes: &[u8]) -> String {
        let error = Stamp::read(Path::new("lib.so"), bytes).unwrap_err();
        assert_eq!(error.exit_code(), 4);
        assert!(error.hint_text().is_some());
        error.to_string()
    }

    #[test]
    fn what_is_no_library_is_refused_in_one_line() {
        assert_eq!(
            refusal(b"hello"),
            "plugin lib.so is refused: it is some other file, not a shared library"
        );
    }

    #[test]
    fn a_library_without_a_stamp_is_no_plugin() {
        // The C library that this process runs with.
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let libc = maps
            .lines()
            .filter_map(|line| line.split_whitespace().nth(5))
            .find(|path| path.contains("/libc.so"))
            .expect("a dynamically linked test binary");
        assert!(
            refusal(&std::fs::read(libc).unwrap())
                .ends_with("it is a shared library, but no finegrain plugin")
        );
    }

    #[test]
    fn a_stamp_is_parsed_and_later_keys_are_ignored() {
        let record = "finegrain-plugin 1\nentry=e\nversion=1.2.3\nsdk=0.1.4\nlater=x";
        assert_eq!(
            Stamp::parse(record),
            Some(Stamp {
                entry: "e".into(),
                version: "1.2.3".into(),
                sdk: "0.1.4".into(),
            })
        );
        assert_eq!(Stamp::parse("finegrain-plugin 2\nentry=e\nsdk=0.1.0"), None);
        assert_eq!(Stamp::parse("finegrain-plugin 1\nversion=1.2.3"), None);
    }

    #[test]
    fn versions_of_one_line_agree() {
        assert_eq!(line_of("0.1.0"), line_of("0.1.9"));
        assert_ne!(line_of("0.1.0"), line_of("0.2.0"));
        assert_eq!(line_of("1.0.0"), line_of("1.7.2"));
        assert_ne!(line_of("1.0.0"), line_of("2.0.0"));
    }
}
