//! Hashes the sources of the plugins that are linked in, so that a change of a built-in plugin's code changes its
//! fingerprint, and with it the keys of the stages that it decides. Authors of plugins need to do nothing for it.
//!
//! A plugin's hash is that of its crate's `src` and of those of the workspace's crates it depends on, the SDK included.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use sha2::{Digest, Sha256};
use toml::Table;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let host = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let root = host.join("..");
    let workspace = Workspace::read(&root)?;
    let mut list = String::from("&[\n");
    for package in workspace.dependencies(&host)? {
        let mut crates = BTreeSet::new();
        workspace.reach(&package, &mut crates)?;
        let mut hasher = Sha256::new();
        for name in crates {
            let source = workspace.folders[&name].join("src");
            println!("cargo::rerun-if-changed={}", source.display());
            hash_folder(&source, &name, &mut hasher)?;
        }
        let hash = hasher.finalize();
        let mut hex = String::new();
        for byte in hash {
            write!(hex, "{byte:02x}")?;
        }
        writeln!(list, "    ({package:?}, {hex:?}),")?;
    }
    list.push_str("]\n");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("built_in_sources.rs"), list)?;
    Ok(())
}

/// The crates of the workspace by name, with their folders.
struct Workspace {
    folders: BTreeMap<String, PathBuf>,
}

impl Workspace {
    fn read(root: &Path) -> Result<Self> {
        let manifest = manifest(root)?;
        let dependencies = manifest["workspace"]["dependencies"].as_table();
        let mut folders = BTreeMap::new();
        for (name, dependency) in dependencies.into_iter().flatten() {
            if let Some(path) = dependency.get("path").and_then(|path| path.as_str()) {
                folders.insert(name.clone(), root.join(path));
            }
        }
        Ok(Self { folders })
    }

    /// The crates of the workspace that the crate in `folder` depends on.
    fn dependencies(&self, folder: &Path) -> Result<Vec<String>> {
        let manifest = manifest(folder)?;
        let dependencies = manifest
            .get("dependencies")
            .and_then(|table| table.as_table());
        let names = dependencies.into_iter().flat_map(Table::keys);
        Ok(names
            .filter(|name| self.folders.contains_key(*name))
            .cloned()
            .collect())
    }

    /// Adds a crate and everything of the workspace that it depends on.
    fn reach(&self, name: &str, reached: &mut BTreeSet<String>) -> Result<()> {
        if reached.insert(name.to_owned()) {
            for dependency in self.dependencies(&self.folders[name])? {
                self.reach(&dependency, reached)?;
            }
        }
        Ok(())
    }
}

fn manifest(folder: &Path) -> Result<Table> {
    let path = folder.join("Cargo.toml");
    println!("cargo::rerun-if-changed={}", path.display());
    let text = fs::read_to_string(&path).map_err(|error| {
        format!(
            "{}: {error}; finegrain is built inside its workspace",
            path.display()
        )
    })?;
    Ok(text.parse()?)
}

/// Every Rust file below a folder, in the order of their names, each with its name in front.
fn hash_folder(folder: &Path, name: &str, hasher: &mut Sha256) -> Result<()> {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()?;
    entries.sort();
    for path in entries {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("{name}/{file}");
        if path.is_dir() {
            hash_folder(&path, &name, hasher)?;
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            let text = fs::read(&path)?;
            // The length in front, so that no text can pass for two files.
            hasher.update(format!("{name}\0{}\0", text.len()));
            hasher.update(text);
        }
    }
    Ok(())
}
