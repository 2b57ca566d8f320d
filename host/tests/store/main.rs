//! The store as a user meets it: what is found, what is computed again, several processes at once, and what fails.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should fail where it stands"
)]

#[path = "../common/mod.rs"]
mod common;
mod comparisons;
mod failures;
mod kills;
mod processes;
mod reuse;
mod verbs;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{TINY, configs};
use serde_json::Value;

/// A folder with a store in it and a run directory for each name.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn store(&self) -> PathBuf {
        self.path("store")
    }

    /// `run` or `compare` of sandbox configurations, as small as may be but for `sets`, into the run directory `out`.
    fn command(&self, verb: &str, variants: &[&str], out: &str, sets: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_finegrain"));
        command
            .env_remove("FINEGRAIN_PLUGIN_PATH")
            .args([verb, "--quiet", "--out"])
            .arg(self.path(out))
            .arg("--store")
            .arg(self.store());
        for variant in variants {
            command.arg(configs(&format!("sandbox/{variant}.toml")));
        }
        for set in TINY.iter().chain(sets) {
            command.args(["--set", set]);
        }
        command
    }

    /// A run of one variant, which succeeds; what it says on standard error.
    fn run(&self, out: &str, sets: &[&str]) -> String {
        succeeds(&mut self.command("run", &["fine-token-ppo"], out, sets))
    }

    /// A verb of the store.
    fn verb(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_finegrain"))
            .arg("store")
            .args(args)
            .arg("--store")
            .arg(self.store())
            .output()
            .unwrap()
    }

    /// What a verb of the store that succeeds prints.
    fn prints(&self, args: &[&str]) -> String {
        let output = self.verb(args);
        assert!(
            output.status.success(),
            "{args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// What `store list` says, one value an artifact.
    fn list(&self) -> Vec<Value> {
        let list: Value = serde_json::from_str(&self.prints(&["list", "--json"])).unwrap();
        list["artifacts"].as_array().unwrap().clone()
    }

    /// The stages that a run has computed itself, and those that it has found.
    fn stages(&self, out: &str) -> (Vec<String>, Vec<String>) {
        let text = fs::read_to_string(self.path(out).join("run.json")).unwrap();
        let about: Value = serde_json::from_str(&text).unwrap();
        let of = |fresh: bool| {
            let stages = about["stages"].as_array().unwrap().iter();
            stages
                .filter(|stage| stage["computed_in_this_run"] == fresh)
                .map(|stage| stage["stage"].as_str().unwrap().to_owned())
                .collect()
        };
        (of(true), of(false))
    }

    /// What a run or a comparison has found out; without seconds, which differ between two that have computed it.
    fn tables(&self, out: &str) -> Value {
        let text = fs::read_to_string(self.path(out).join("result.json")).unwrap();
        let mut result: Value = serde_json::from_str(&text).unwrap();
        result.as_object_mut().unwrap().remove("costs");
        result
    }

    /// The only artifact of a stage.
    fn artifact(&self, stage: &str) -> PathBuf {
        let all = folders(&self.store().join(stage), "");
        let [one] = &all[..] else {
            panic!("one artifact of {stage}: {all:?}")
        };
        one.clone()
    }
}

/// The folders in `dir` whose names begin so.
fn folders(dir: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with(prefix)
        })
        .collect()
}

/// Runs a command that must succeed; what it says on standard error.
fn succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{message}");
    message
}

/// Runs a command that must fail with `code`; what it says on standard error.
fn fails(command: &mut Command, code: i32) -> String {
    let output = command.output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{message}");
    assert!(!message.contains("panicked"), "{message}");
    message
}
