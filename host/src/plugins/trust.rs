//! Which files may be loaded, and that the bytes that were checked are the bytes that are loaded.
//!
//! A plugin has all the rights of the process, and nothing here changes that: these checks only keep other users of the
//! machine from choosing what is loaded. The file is read once; its bytes are hashed and copied into sealed memory, and
//! the loader maps that memory. A rebuild of the file does not touch a run that is under way.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// What is accepted beyond the checks of the file itself.
#[derive(Clone, Debug, Default)]
pub struct TrustPolicy {
    /// SHA-256 in lower-case hexadecimal of the libraries that may be loaded; `None` for all.
    allow: Option<Vec<String>>,
}

impl TrustPolicy {
    /// A policy with this allow-list.
    ///
    /// # Errors
    /// An entry that is no SHA-256 in hexadecimal.
    pub fn new(allow: Option<&[String]>) -> Result<Self> {
        for entry in allow.unwrap_or_default() {
            if entry.len() != 64 || !entry.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(Error::input(format!(
                    "the allow-list of plugins has \"{entry}\", and only SHA-256 in 64 hexadecimal digits is accepted"
                ))
                .hint("sha256sum FILE prints it"));
            }
        }
        Ok(Self {
            allow: allow.map(|entries| entries.iter().map(|e| e.to_ascii_lowercase()).collect()),
        })
    }
}

/// A library that passed: its bytes, and their hash.
#[derive(Debug)]
pub struct TrustedFile {
    /// Where it was read from.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Their SHA-256 in lower-case hexadecimal.
    pub sha256: String,
}

impl TrustedFile {
    /// Reads a library and checks that it may be loaded.
    ///
    /// # Errors
    /// A symbolic link, something that is no regular file, a file that everyone may write or that another user owns, a hash
    /// that is not on the allow-list.
    pub fn read(path: &Path, policy: &TrustPolicy) -> Result<Self> {
        let mut file = open(path)?;
        check_file(path, &file)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)
            .map_err(|error| refused(path, &format!("it cannot be read: {error}")))?;
        let sha256 = hexadecimal(&Sha256::digest(&bytes));
        if policy
            .allow
            .as_ref()
            .is_some_and(|allowed| !allowed.contains(&sha256))
        {
            return Err(refused(
                path,
                &format!("its SHA-256 {sha256} is not on the allow-list"),
            )
            .hint("review the library, then add the hash to the allow-list"));
        }
        Ok(Self {
            path: path.to_owned(),
            bytes,
            sha256,
        })
    }

    /// The bytes in sealed memory, which nobody can change any more.
    pub(super) fn seal(&self) -> Result<File> {
        let sealed = || -> std::io::Result<File> {
            let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
            let mut memory = File::from(rustix::fs::memfd_create("finegrain-plugin", flags)?);
            memory.write_all(&self.bytes)?;
            let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
            rustix::fs::fcntl_add_seals(&memory, seals)?;
            Ok(memory)
        };
        sealed().map_err(|error| {
            refused(
                &self.path,
                &format!("its bytes cannot be sealed in memory: {error}"),
            )
        })
    }
}

fn open(path: &Path) -> Result<File> {
    // NONBLOCK: opening a named pipe would wait for somebody to write.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => Ok(File::from(file)),
        Err(Errno::LOOP) => {
            Err(refused(path, "it is a symbolic link")
                .hint("name the file that the link points to"))
        }
        Err(error) => Err(refused(path, &format!("it cannot be opened: {error}"))),
    }
}

fn check_file(path: &Path, file: &File) -> Result<()> {
    let stat = rustix::fs::fstat(file)
        .map_err(|error| refused(path, &format!("it cannot be examined: {error}")))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(refused(path, "it is not a regular file"));
    }
    if Mode::from_raw_mode(stat.st_mode).contains(Mode::WOTH) {
        return Err(
            refused(path, "everyone may write it").hint(format!("chmod o-w {}", path.display()))
        );
    }
    let me = rustix::process::geteuid().as_raw();
    if stat.st_uid != 0 && stat.st_uid != me {
        return Err(refused(
            path,
            &format!("it belongs to user {}, not to you or root", stat.st_uid),
        )
        .hint("copy it into a folder of your own"));
    }
    Ok(())
}

/// The error of a library that is not loaded, with the reason.
pub(super) fn refused(path: &Path, reason: &str) -> Error {
    Error::plugin(format!("plugin {} is refused: {reason}", path.display()))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// SHA-256 of "abc", FIPS 180-2 appendix B.1.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn abc() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lib.so");
        std::fs::write(&path, "abc").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        (folder, path)
    }

    fn refusal(path: &Path) -> String {
        let error = TrustedFile::read(path, &TrustPolicy::default()).unwrap_err();
        assert_eq!(error.exit_code(), 4);
        error.to_string()
    }

    #[test]
    fn a_plain_file_of_mine_passes_with_its_hash() {
        let (_folder, path) = abc();
        let file = TrustedFile::read(&path, &TrustPolicy::default()).unwrap();
        assert_eq!(
            (file.bytes.as_slice(), file.sha256.as_str()),
            (&b"abc"[..], ABC)
        );
    }

    #[test]
    fn links_folders_and_pipes_are_refused() {
        let (folder, path) = abc();
        let link = folder.path().join("link.so");
        symlink(&path, &link).unwrap();
        assert!(refusal(&link).ends_with("it is a symbolic link"));
        assert!(refusal(folder.path()).ends_with("it is not a regular file"));
        let pipe = folder.path().join("pipe.so");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, Mode::RUSR).unwrap();
        assert!(refusal(&pipe).ends_with("it is not a regular file"));
    }

    #[test]
    fn a_file_that_everyone_may_write_is_refused() {
        let (_folder, path) = abc();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
        assert!(refusal(&path).ends_with("everyone may write it"));
    }

    #[test]
    fn the_allow_list_takes_hashes_alone() {
        let (_folder, path) = abc();
        let policy = |entry: &str| TrustPolicy::new(Some(&[entry.to_owned()]));
        assert!(TrustedFile::read(&path, &policy(&ABC.to_uppercase()).unwrap()).is_ok());
        let error = TrustedFile::read(&path, &policy(&"0".repeat(64)).unwrap()).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with(&format!("{ABC} is not on the allow-list"))
        );
        assert_eq!(policy("lib.so").unwrap_err().exit_code(), 2);
        assert!(TrustedFile::read(&path, &TrustPolicy::new(Some(&[])).unwrap()).is_err());
    }

    #[test]
    fn sealed_bytes_cannot_be_changed() {
        let (_folder, path) = abc();
        let file = TrustedFile::read(&path, &TrustPolicy::default()).unwrap();
        let mut memory = file.seal().unwrap();
        assert_eq!(
            memory.write(b"x").unwrap_err().kind(),
            std::io::ErrorKind::PermissionDenied
        );
        assert!(memory.set_len(1).is_err());
    }
}
