//! Where the libraries of CUDA are. They are loaded when a GPU is asked for, so one binary runs with and without one; and they
//! may lie inside a Python environment rather than on the system's path.
#![allow(
    unsafe_code,
    reason = "loading a shared library runs its initialisers; these are NVIDIA's"
)]

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use libloading::os::unix::{Library as Handle, RTLD_GLOBAL, RTLD_NOW};

use crate::error::{Error, Result, said_by_loader};

/// Folders to look in first, separated as in PATH.
pub(super) const FOLDERS: &str = "FINEGRAIN_CUDA_LIBRARIES";

/// A library that CUDA programs need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    /// The driver; it comes with the system's NVIDIA driver, never from Python.
    Driver,
    /// The compiler of kernels.
    Nvrtc,
    /// Matrix products.
    Cublas,
}

impl Library {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Driver, Self::Nvrtc, Self::Cublas];

    /// The names that it has, newest first.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Self::Driver => &["libcuda.so.1"],
            Self::Nvrtc => &["libnvrtc.so.13", "libnvrtc.so.12"],
            Self::Cublas => &["libcublas.so.13", "libcublas.so.12"],
        }
    }
}

/// Loads a library and says where it was found: a path, or a bare name that the system's loader knew. It stays loaded, and
/// later loads by its name find it.
///
/// # Errors
/// It is nowhere: wrong input, with where it was looked for.
pub fn find(library: Library) -> Result<PathBuf> {
    static FOUND: Mutex<Vec<(Library, PathBuf)>> = Mutex::new(Vec::new());
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, path)) = found.iter().find(|(other, _)| *other == library) {
        return Ok(path.clone());
    }
    let (named, python) = (named_folders(), python_folders());
    let mut candidates = Vec::new();
    for &name in library.names() {
        candidates.extend(named.iter().map(|folder| folder.join(name)));
        candidates.push(PathBuf::from(name));
        candidates.extend(python.iter().map(|folder| folder.join(name)));
    }
    let mut reason = String::new();
    for path in candidates {
        if path.components().count() > 1 && !path.is_file() {
            continue;
        }
        match load_companions(library, &path).and_then(|()| load(&path)) {
            Ok(()) => {
                found.push((library, path.clone()));
                return Ok(path);
            }
            Err(error) => reason = error,
        }
    }
    let folders = named.iter().chain(&python);
    let folders: Vec<_> = folders.map(|folder| folder.display().to_string()).collect();
    let places = match folders.as_slice() {
        [] => "the system's path".to_owned(),
        folders => format!("the system's path and {}", folders.join(", ")),
    };
    let hint = match library {
        Library::Driver => "install NVIDIA's driver, or --set device.kind=cpu".to_owned(),
        _ => format!(
            "install CUDA 12 or 13 (pip install nvidia-cublas nvidia-cuda-nvrtc is enough) or name its folder in {FOLDERS}"
        ),
    };
    Err(Error::input(format!(
        "{} was not found; looked for it on {places} ({reason})",
        library.names().join(" or "),
    ))
    .hint(hint))
}

/// Loads what a library asks the loader for by a bare name, without saying that it lies in its own folder: NVRTC its built-in
/// functions, when it compiles.
fn load_companions(library: Library, path: &Path) -> Result<(), String> {
    let (Library::Nvrtc, Some(folder)) = (library, path.parent()) else {
        return Ok(());
    };
    let mut companions = entries(folder).filter(|path| starts_with(path, "libnvrtc-builtins.so."));
    companions.try_for_each(|path| load(&path))
}

fn load(path: &Path) -> Result<(), String> {
    // SAFETY: these are NVIDIA's libraries by their names; their initialisers have no preconditions.
    let handle = unsafe { Handle::open(Some(path), RTLD_NOW | RTLD_GLOBAL) };
    // Never unloaded: functions are called until the process ends.
    let kept = handle.map(std::mem::forget);
    kept.map_err(|error| said_by_loader(&error))
}

/// A folder to look in before all others: where tests have their libraries.
#[cfg(test)]
pub(super) fn look_in(folder: PathBuf) {
    let _ = FIRST.set(folder);
}

#[cfg(test)]
static FIRST: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();

fn named_folders() -> Vec<PathBuf> {
    #[cfg(test)]
    if let Some(folder) = FIRST.get() {
        return vec![folder.clone()];
    }
    std::env::var_os(FOLDERS).map_or_else(Vec::new, |all| std::env::split_paths(&all).collect())
}

/// `nvidia/*/lib` of the active Python environment, or of the system's Python.
fn python_folders() -> Vec<PathBuf> {
    let roots = ["VIRTUAL_ENV", "CONDA_PREFIX"]
        .into_iter()
        .filter_map(|name| std::env::var_os(name).map(PathBuf::from))
        .chain(["/usr/local".into(), "/usr".into()]);
    let mut folders = Vec::new();
    for lib in roots.map(|root| root.join("lib")) {
        for python in entries(&lib).filter(|path| starts_with(path, "python3")) {
            for packages in ["site-packages", "dist-packages"] {
                let nvidia = python.join(packages).join("nvidia");
                folders.extend(entries(&nvidia).map(|part| part.join("lib")));
            }
        }
    }
    folders.retain(|folder| folder.is_dir());
    folders.sort();
    folders
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path()))
}

fn starts_with(path: &Path, prefix: &str) -> bool {
    path.file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What lies beside NVRTC is loaded before it; what cannot be is the reason why NVRTC cannot.
    #[test]
    fn the_built_in_functions_beside_the_compiler_are_loaded() {
        let folder = tempfile::tempdir().expect("a folder");
        let compiler = folder.path().join("libnvrtc.so.13");
        assert_eq!(load_companions(Library::Nvrtc, &compiler), Ok(()));
        let companion = folder.path().join("libnvrtc-builtins.so.13.0");
        std::fs::write(&companion, "no library").expect("a file");
        let refused = load_companions(Library::Nvrtc, &compiler).expect_err("no library");
        assert!(refused.contains("libnvrtc-builtins.so.13.0"), "{refused}");
        assert_eq!(load_companions(Library::Cublas, &compiler), Ok(()));
    }
}
