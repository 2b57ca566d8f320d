//! A plugin built against another SDK: the SDK as it is, with one thing in its source changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::build::{build, root, target};

/// One replacement in a file of the SDK, named below `sdk`.
pub(super) struct Change<'a> {
    pub(super) file: &'a str,
    pub(super) from: &'a str,
    pub(super) to: &'a str,
}

/// One workspace is written and built at a time.
static BUILDING: Mutex<()> = Mutex::new(());

/// Builds the judge of the fixtures as a crate called `name`, against an SDK with this version and these changes.
///
/// Its workspace stays in the target folder and a file is only written where it differs, so that a second run builds nothing.
pub(super) fn judge_built_with(name: &str, version: &str, changes: &[Change<'_>]) -> PathBuf {
    let _building = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    let workspace = target().join("fixtures").join(name);
    // Cargo names what it compiles after the folder below the workspace: another `sdk` would take the real one's place.
    let sdk = format!("sdk-{name}");
    for file in files_below(&root().join("sdk")) {
        let relative = file.strip_prefix(root().join("sdk")).unwrap();
        let mut text = fs::read_to_string(&file).unwrap();
        for change in changes
            .iter()
            .filter(|change| relative == Path::new(change.file))
        {
            assert!(
                text.contains(change.from),
                "{} has no {:?}",
                change.file,
                change.from
            );
            text = text.replace(change.from, change.to);
        }
        write(&workspace.join(&sdk).join(relative), &text);
    }
    let judge = root().join("tests/fixtures/good/judge-shorter");
    for file in files_below(&judge) {
        let text = fs::read_to_string(&file)
            .unwrap()
            .replace("../../../../sdk", &format!("../{sdk}"))
            .replace("name = \"judge-shorter\"", &format!("name = \"{name}\""));
        write(
            &workspace
                .join("judge")
                .join(file.strip_prefix(&judge).unwrap()),
            &text,
        );
    }
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let members = r#"members = ["host", "sdk", "plugins/*", "tests", "tests/emulator"]"#;
    let default = "default-members = [\"host\"]\n";
    let package = concat!("version = \"", env!("CARGO_PKG_VERSION"), "\"");
    for part in [members, default, package] {
        assert!(manifest.contains(part), "Cargo.toml has no {part:?}");
    }
    let manifest = manifest
        .replace(members, &format!("members = [\"{sdk}\", \"judge\"]"))
        .replace(default, "")
        .replacen(package, &format!("version = \"{version}\""), 1);
    write(&workspace.join("Cargo.toml"), &manifest);
    // The versions of the fixtures; cargo drops what is not needed.
    if !workspace.join("Cargo.lock").exists() {
        fs::copy(
            root().join("tests/fixtures/Cargo.lock"),
            workspace.join("Cargo.lock"),
        )
        .unwrap();
    }
    build(&workspace, &[format!("--package={name}")])[name].clone()
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files
}

fn write(path: &Path, text: &str) {
    if fs::read_to_string(path).is_ok_and(|present| present == text) {
        return;
    }
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}
