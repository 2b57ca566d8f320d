//! Files that are written whole or not at all: temporary name beside the target, fsync, rename, fsync of the folder.

use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::error::{Error, Result};

/// Writes `bytes` to `path` so that a reader, or whoever starts after a crash, sees the old file or the new one and
/// never a part of it. Creates missing parent folders.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    // A temporary file in another folder could lie on another file system, where a rename is a copy.
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let fail = |error: std::io::Error| Error::io("write", path, &error);
    fs::create_dir_all(folder).map_err(|error| Error::io("create", folder, &error))?;
    let mut file = tempfile::Builder::new()
        .prefix(".partial-")
        // The process's umask applies, as for any file; tempfile's own default keeps others from reading.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .map_err(fail)?;
    file.write_all(bytes).map_err(fail)?;
    file.as_file().sync_all().map_err(fail)?;
    file.persist(path).map_err(|error| fail(error.error))?;
    // The rename itself is durable only once the folder is.
    sync_folder(folder)
}

/// Waits until the names in a folder are on disk.
pub fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| Error::io("sync", folder, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_the_file_and_leaves_nothing_else() -> Result<()> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("new/folder/file.txt");
        write_atomic(&path, b"first")?;
        write_atomic(&path, b"second")?;
        assert_eq!(fs::read(&path).expect("the file"), b"second");
        let parent = path.parent().expect("a parent");
        assert_eq!(fs::read_dir(parent).expect("the folder").count(), 1);
        Ok(())
    }

    #[test]
    fn a_failed_write_leaves_the_old_content_and_no_temporary_file() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("target");
        fs::create_dir(&path).expect("a folder in the way");
        let error =
            write_atomic(&path, b"bytes").expect_err("a folder cannot be replaced by a file");
        assert!(error.to_string().contains("cannot write"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).expect("the folder").count(), 1);
    }
}
