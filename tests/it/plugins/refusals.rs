//! What is not loaded, and what is said about it: one line with exit code 4, and the process goes on.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use finegrain::plugins::PluginSearch;
use serde_json::json;
use tempfile::TempDir;

use super::batches::{Batch, context};
use super::build::{FIXTURES, root};
use super::fixtures::{registry, registry_with, search};
use super::other_sdk::{Change, judge_built_with};

/// The message of the one refusal of these libraries.
#[track_caller]
fn refusal(search: &PluginSearch) -> String {
    let error = registry(search).err().expect("it is refused");
    let message = error.to_string();
    assert_eq!(error.exit_code(), 4, "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
    assert!(error.hint_text().is_some(), "no hint: {message}");
    message
}

#[track_caller]
fn assert_refused(paths: &[PathBuf], parts: &[&str]) {
    let message = refusal(&search(paths));
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

/// A folder with a copy of a good plugin.
fn copied(mode: u32) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("libcopy.so");
    fs::copy(&FIXTURES["judge-shorter"], &path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    (folder, path)
}

/// A shared library that is no plugin: the C library of this process.
fn ordinary_library() -> PathBuf {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let path = maps
        .lines()
        .filter_map(|line| line.split_whitespace().nth(5))
        .find(|path| path.contains("/libc.so") || path.contains("/libc-"))
        .expect("this process uses the C library");
    path.into()
}

#[test]
fn what_is_no_plugin() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("libtext.so");
    fs::write(&text, "not a library\n").unwrap();
    assert_refused(&[text], &["libtext.so is refused", "not a shared library"]);

    let library = fs::read(&FIXTURES["judge-shorter"]).unwrap();
    let half = folder.path().join("libhalf.so");
    fs::write(&half, &library[..library.len() / 2]).unwrap();
    assert_refused(&[half], &["libhalf.so is refused"]);

    let ordinary = folder.path().join("libordinary.so");
    fs::copy(ordinary_library(), &ordinary).unwrap();
    assert_refused(
        &[ordinary],
        &["libordinary.so is refused", "no finegrain plugin"],
    );

    assert_refused(
        &[folder.path().join("libabsent.so")],
        &["libabsent.so", "No such file"],
    );
}

#[test]
fn what_others_could_have_changed() {
    let (folder, path) = copied(0o644);
    assert!(registry_with(std::slice::from_ref(&path)).is_ok());
    let link = folder.path().join("liblink.so");
    symlink(&path, &link).unwrap();
    assert_refused(&[link], &["liblink.so is refused", "symbolic link"]);

    let (_folder, path) = copied(0o666);
    assert_refused(&[path], &["everyone may write it"]);

    let (_folder, path) = copied(0o644);
    match std::os::unix::fs::chown(&path, Some(12_345), None) {
        Ok(()) => assert_refused(&[path], &["belongs to user 12345"]),
        Err(error) => {
            eprintln!("the check of the owner is skipped: only root can give files away ({error})");
        }
    }
}

#[test]
fn what_is_not_on_the_allow_list() {
    let (_folder, path) = copied(0o644);
    let allowing = |hash: &str| PluginSearch {
        allow: Some(vec![hash.to_owned()]),
        ..search(std::slice::from_ref(&path))
    };
    let message = refusal(&allowing(&"0".repeat(64)));
    assert!(message.contains("not on the allow-list"), "{message}");
    let hash = message
        .split(|c: char| !c.is_ascii_hexdigit())
        .find(|word| word.len() == 64)
        .expect("the message has the hash");
    assert!(registry(&allowing(hash)).is_ok());
}

#[test]
fn two_providers_of_one_name() {
    assert_refused(
        &[FIXTURES["second-gae"].clone()],
        &["advantage/gae", "finegrain itself", "libsecond_gae.so"],
    );
    assert_refused(
        &[FIXTURES["judge-shorter"].clone(), grown()],
        &["judge/shorter", "libjudge_shorter.so", "libgrown.so"],
    );
}

#[test]
fn a_plugin_whose_sdk_lays_a_type_out_differently() {
    let changes = [Change {
        file: "src/abi/context.rs",
        from: "    seed: u64,\n    step: u64,\n",
        to: "    step: u64,\n    seed: u64,\n",
    }];
    let library = judge_built_with("other-layout", "0.1.0", &changes);
    assert_refused(
        &[library],
        &["libother_layout.so is refused", "types differ"],
    );
}

#[test]
fn a_plugin_for_another_line_of_the_sdk() {
    let library = judge_built_with("other-line", "0.2.0", &[]);
    assert_refused(
        &[library],
        &["libother_line.so is refused", "0.2.0", "0.1.0"],
    );
}

/// A plugin built with a later SDK of the same line, whose host offers one more call and whose sink has one more, by which
/// verdicts go.
fn grown() -> PathBuf {
    let changes = [
        Change {
            file: "src/abi/context.rs",
            from: "    fn answers(&self) -> ROption<RVec<u8>> {\n        RNone\n    }\n",
            to: "    fn answers(&self) -> ROption<RVec<u8>> {\n        RNone\n    }\n\n    /// Appended later.\n    fn appended(&self) -> u64 {\n        7\n    }\n",
        },
        Change {
            file: "src/abi/judge.rs",
            from: "        self.push(row, verdict, preference, failure, reason)\n    }\n",
            to: "        self.push(row, verdict, preference, failure, reason)\n    }\n\n    /// Appended later.\n    fn appended(\n        &mut self,\n        row: u64,\n        verdict: VerdictAbi,\n        preference: f32,\n        reason: RStr<'_>,\n    ) -> RResult<(), ErrorAbi> {\n        self.push(row, verdict, preference, RStr::empty(), reason)\n    }\n",
        },
        Change {
            file: "src/abi/judge.rs",
            from: "                .push(row as u64, code, preference, failure, reason.into()),\n",
            to: "                .appended(row as u64, code, preference, reason.into()),\n",
        },
        Change {
            file: "src/abi/judge.rs",
            from: "        let (code, preference, failure) = crossing(&verdict);\n        received(\n            self.0\n                .appended",
            to: "        let (code, preference, _) = crossing(&verdict);\n        received(\n            self.0\n                .appended",
        },
    ];
    judge_built_with("grown", "0.1.9", &changes)
}

/// A plugin built with an earlier SDK of the same line, whose sinks have no call with an origin.
fn before_origins() -> PathBuf {
    let source = fs::read_to_string(root().join("sdk/src/abi/judge.rs")).unwrap();
    let part = |from: &str, to: &str| {
        let start = source.find(from).expect("the part begins");
        let length = source[start..].find(to).expect("the part ends") + to.len();
        source[start..start + length].to_owned()
    };
    let declared = part("\n    /// The same, with an [`Origin`]", "reason)\n    }\n");
    let sent = part(
        "\n    fn push_with_origin(\n        &mut self,\n        row: usize,",
        "))\n    }\n",
    );
    let taken = &source[source
        .find("impl JudgeSinkAbi for LocalSink")
        .expect("the host's side")..];
    let start = taken
        .find("\n    fn push_with_origin(")
        .expect("it takes origins");
    let end = start
        + taken[start..]
            .find("        })\n    }\n")
            .expect("and ends")
        + "        })\n    }\n".len();
    let changes = [declared.as_str(), sent.as_str(), &taken[start..end]].map(|from| Change {
        file: "src/abi/judge.rs",
        from,
        to: "",
    });
    judge_built_with("before-origins", "0.1.0", &changes)
}

/// Not a refusal: an SDK of the same line may grow.
#[test]
fn a_plugin_whose_sdk_has_one_more_method_loads() {
    assert_judges(grown());
}

/// Nor is this: its verdicts come without origins.
#[test]
fn a_plugin_whose_sdk_has_one_method_less_loads() {
    assert_judges(before_origins());
}

#[track_caller]
fn assert_judges(library: PathBuf) {
    let [found, expected] = [library, FIXTURES["judge-shorter"].clone()].map(|library| {
        let judge = registry_with(&[library])
            .unwrap()
            .judge("shorter", &json!({}))
            .unwrap();
        let batch = Batch::new(1, 4);
        judge.compare_all(&batch.comparisons(), &context()).unwrap()
    });
    assert_eq!(found.len(), 4);
    assert_eq!(found, expected);
}

#[test]
fn unknown_names_and_options_are_wrong_input() {
    let registry = registry_with(&[FIXTURES["reward-length-penalised"].clone()]).unwrap();
    for (name, options, parts) in [
        (
            "length-penalized",
            json!({}),
            ["length-penalized", "length-penalised"],
        ),
        (
            "length-penalised",
            json!({ "cost": 1.0 }),
            ["cost", "price"],
        ),
        (
            "length-penalised",
            json!({ "price": -1.0 }),
            ["price", "-1"],
        ),
        (
            "length-penalised",
            json!({ "price": "much" }),
            ["price", "much"],
        ),
    ] {
        let error = registry
            .reward(name, &options)
            .map(|_| ())
            .expect_err("it is refused");
        let message = format!("{error} {}", error.hint_text().unwrap_or_default());
        assert_eq!(error.exit_code(), 2, "{message}");
        for part in parts {
            assert!(message.contains(part), "{part:?} is not in: {message}");
        }
    }
}

/// The path of a library may have any name: only its extension counts, and only in folders.
#[test]
fn a_library_may_be_named_as_one_likes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("my judge");
    fs::copy(&FIXTURES["judge-shorter"], &path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(registry_with(&[path]).is_ok());
    let empty: &Path = folder.path();
    assert!(
        registry_with(&[empty.to_owned()])
            .unwrap()
            .judge("shorter", &json!({}))
            .is_err()
    );
}
