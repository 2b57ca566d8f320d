//! Where plugins are looked for: files that the configuration names, `FINEGRAIN_PLUGIN_PATH`, and `plugins/` beside the
//! executable. Never the current directory.
//!
//! A folder is scanned for `*.so`, not recursively, in the order of the names. What is found is loaded or refused; nothing
//! is skipped in silence.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The environment variable with a colon-separated list of files and folders.
pub const PATH_VARIABLE: &str = "FINEGRAIN_PLUGIN_PATH";

/// Where to look for plugins beside the built-in ones, and what to accept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PluginSearch {
    /// Files that must be there, in this order; a folder stands for the libraries in it.
    pub paths: Vec<PathBuf>,
    /// Whether [`PATH_VARIABLE`] and `plugins/` beside the executable are looked at.
    pub use_environment: bool,
    /// SHA-256 of the libraries that may be loaded, in hexadecimal; `None` for any library that passes the other checks.
    pub allow: Option<Vec<String>>,
}

impl PluginSearch {
    /// The built-in plugins alone.
    pub fn built_in() -> Self {
        Self::default()
    }

    /// The library files, each once, in the order in which they are loaded.
    ///
    /// # Errors
    /// A path that is named and is not there, or a folder that cannot be read.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for path in &self.paths {
            expand(path, "the configuration names it", &mut files)?;
        }
        if self.use_environment {
            let variable = std::env::var_os(PATH_VARIABLE).unwrap_or_default();
            for path in std::env::split_paths(&variable) {
                // An empty element is what `"$VARIABLE:more"` leaves behind, not the current directory.
                if !path.as_os_str().is_empty() {
                    expand(&path, "FINEGRAIN_PLUGIN_PATH names it", &mut files)?;
                }
            }
            if let Some(folder) = beside_executable().filter(|folder| folder.is_dir()) {
                expand(&folder, "it lies beside the executable", &mut files)?;
            }
        }
        let mut unique: Vec<PathBuf> = Vec::new();
        for file in files {
            if !unique.contains(&file) {
                unique.push(file);
            }
        }
        Ok(unique)
    }
}

fn beside_executable() -> Option<PathBuf> {
    Some(std::env::current_exe().ok()?.parent()?.join("plugins"))
}

/// Appends `path`, or the libraries in it where it is a folder.
fn expand(path: &Path, reason: &str, files: &mut Vec<PathBuf>) -> Result<()> {
    let cannot = |error: &std::io::Error| {
        Error::plugin(format!("cannot read plugin {}: {error}", path.display())).hint(format!(
            "{reason}; correct the path or build the plugin first"
        ))
    };
    // Absolute: the loader searches the system's library folders for a name without a slash.
    let path = std::path::absolute(path).map_err(|error| cannot(&error))?;
    // The link itself, for a link to a file is refused later, with its own message.
    let metadata = std::fs::symlink_metadata(&path).map_err(|error| cannot(&error))?;
    let is_folder = metadata.is_dir() || (metadata.is_symlink() && path.is_dir());
    if !is_folder {
        files.push(path);
        return Ok(());
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&path).map_err(|error| cannot(&error))? {
        let file = entry.map_err(|error| cannot(&error))?.path();
        if file.extension().is_some_and(|extension| extension == "so") {
            found.push(file);
        }
    }
    found.sort();
    files.append(&mut found);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_stands_for_its_libraries_in_order_and_each_file_comes_once() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.so", "a.so", "notes.txt"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        std::fs::create_dir(folder.path().join("deeper")).unwrap();
        std::fs::write(folder.path().join("deeper/c.so"), "").unwrap();
        let search = PluginSearch {
            paths: vec![folder.path().join("b.so"), folder.path().to_owned()],
            ..PluginSearch::built_in()
        };
        let names: Vec<_> = search.files().unwrap();
        assert_eq!(
            names,
            [folder.path().join("b.so"), folder.path().join("a.so")]
        );
    }

    #[test]
    fn a_missing_file_is_refused_with_its_path() {
        let search = PluginSearch {
            paths: vec!["/nowhere/libmine.so".into()],
            ..PluginSearch::built_in()
        };
        let error = search.files().unwrap_err();
        assert_eq!(error.exit_code(), 4);
        assert!(
            error
                .to_string()
                .starts_with("cannot read plugin /nowhere/libmine.so: No such file")
        );
        assert!(
            error
                .hint_text()
                .unwrap()
                .starts_with("the configuration names it")
        );
    }
}
