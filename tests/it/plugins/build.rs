//! Builds shared libraries with cargo and says where they are: each set once per test process.
//!
//! Everything goes into the target folder of these tests, in their own profile, so that what is already compiled is not
//! compiled again. Nothing is fetched: the fixtures' lock file names the versions of the main one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;

/// Where shared libraries lie, by the name of their package.
pub(super) type Libraries = BTreeMap<String, PathBuf>;

/// The first-party plugins.
pub(super) static FIRST_PARTY: LazyLock<Libraries> = LazyLock::new(|| {
    let packages = [
        "finegrain-advantage-gae",
        "finegrain-editor-human",
        "finegrain-editor-rubric",
        "finegrain-judge-rubric",
        "finegrain-reward-sequence",
        "finegrain-reward-token-average",
    ];
    build(&root(), &packages.map(|name| format!("--package={name}")))
});

/// The plugins under `tests/fixtures`.
pub(super) static FIXTURES: LazyLock<Libraries> =
    LazyLock::new(|| build(&root().join("tests/fixtures"), &["--workspace".to_owned()]));

/// The command itself.
pub(super) static COMMAND: LazyLock<PathBuf> = LazyLock::new(|| {
    let selection = ["--package=finegrain", "--bin=finegrain"].map(str::to_owned);
    let messages = cargo(&root(), &selection);
    let executable = messages.iter().find_map(|message| {
        let path = message["executable"].as_str()?;
        Some(PathBuf::from(path))
    });
    executable.expect("cargo says where the command lies")
});

/// The root of the workspace.
pub(super) fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("tests lies in the workspace").into()
}

/// The target folder of these tests.
pub(super) fn target() -> PathBuf {
    let temporary = Path::new(env!("CARGO_TARGET_TMPDIR"));
    temporary
        .parent()
        .expect("cargo puts it into the target folder")
        .into()
}

/// Builds the packages that `selection` selects of the workspace at `workspace`.
pub(super) fn build(workspace: &Path, selection: &[String]) -> Libraries {
    let selection = [&["--lib".to_owned()], selection].concat();
    cargo(workspace, &selection)
        .iter()
        .filter_map(library)
        .collect()
}

/// Builds what `selection` selects, and returns what cargo says about it.
fn cargo(workspace: &Path, selection: &[String]) -> Vec<Value> {
    let profile = if cfg!(debug_assertions) {
        "dev"
    } else {
        "release"
    };
    let output = Command::new(env!("CARGO"))
        .args(["build", "--offline", "--message-format=json"])
        .args(["--profile", profile])
        .args(selection)
        // The folder decides which .cargo/config.toml holds.
        .current_dir(workspace)
        .env("CARGO_TARGET_DIR", target())
        // The profile of both workspaces, for a crate of its own that has none: dependencies are not built again for it.
        .env("CARGO_PROFILE_RELEASE_DEBUG", "line-tables-only")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
        .env("CARGO_PROFILE_RELEASE_BUILD_OVERRIDE_OPT_LEVEL", "1")
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}: {}",
        workspace.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    let messages = String::from_utf8(output.stdout).expect("cargo writes UTF-8");
    let lines = messages.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("cargo writes JSON lines"))
        .collect()
}

/// Package and path, if a message of cargo is about a shared library.
fn library(message: &Value) -> Option<(String, PathBuf)> {
    let path = message["filenames"]
        .as_array()?
        .iter()
        .filter_map(Value::as_str)
        .find(|path| {
            std::path::Path::new(path)
                .extension()
                .is_some_and(|kind| kind == "so")
        })?;
    let kinds = message["target"]["kind"].as_array()?;
    if !kinds.iter().any(|kind| kind == "cdylib") {
        return None;
    }
    let name = message["target"]["name"].as_str()?;
    Some((name.replace('_', "-"), path.into()))
}
