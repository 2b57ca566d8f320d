//! A disk that is full, files that may not grow or be written: errors that name the file, and nothing lost.
#![expect(clippy::print_stderr, reason = "tests say why they skip")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use super::common::configs;
use super::{Place, fails, folders, succeeds};

/// `command`, run by `shell` (a program and its options up to the script) with the script's first arguments before it.
fn run_by(shell: &[&str], script: &str, arguments: &[&Path], command: &Command) -> Command {
    let mut whole = Command::new(shell[0]);
    whole
        .env_remove("FINEGRAIN_PLUGIN_PATH")
        .args(&shell[1..])
        .args([script, "sh"])
        .args(arguments)
        .arg(command.get_program())
        .args(command.get_args());
    whole
}

fn run(place: &Place) -> Command {
    place.command("run", &["fine-token-ppo"], "a", &[])
}

/// Whether anything unfinished is left of a stage.
fn leftovers(place: &Place) -> bool {
    folders(&place.store(), "")
        .iter()
        .any(|stage| !folders(stage, ".").is_empty())
}

#[test]
fn a_full_disk_is_named_and_with_more_room_the_run_goes_on_where_it_was() {
    let own = ["unshare", "--map-root-user", "--mount", "sh", "-c"];
    let probe = Command::new(own[0])
        .args(&own[1..])
        .arg("mount -t tmpfs -o size=64k none /mnt")
        .output();
    if !probe.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: this environment does not let a test mount a small file system");
        return;
    }
    let place = Place::new();
    fs::create_dir(place.store()).unwrap();
    // The second run finds the first one's stages: its data is in run.json as found.
    let script = r#"
        store=$1; shift
        mount -t tmpfs -o size=400k none "$store" || exit 91
        "$@"; code=$?
        test $code = 2 || { echo "exit code $code" >&2; exit 92; }
        test -z "$(find "$store" -mindepth 2 -name '.*')" || { find "$store" >&2; exit 93; }
        mount -o remount,size=64m "$store" || exit 94
        exec "$@"
    "#;
    let said = succeeds(&mut run_by(&own, script, &[&place.store()], &run(&place)));
    for words in [
        "error: ",
        place.store().to_str().unwrap(),
        "No space left on device",
        "hint: make room",
        "store gc --dry-run",
    ] {
        assert!(said.contains(words), "no {words:?} in {said}");
    }
    assert!(place.stages("a").1.contains(&"data".to_owned()), "{said}");
}

#[test]
fn a_file_that_may_not_grow_is_named_and_nothing_half_is_left() {
    let place = Place::new();
    // Without the trap, the signal ends the process before it can say anything.
    let limited = r#"trap "" XFSZ; ulimit -f 200; exec "$@""#;
    let said = fails(&mut run_by(&["sh", "-c"], limited, &[], &run(&place)), 2);
    for words in ["model.safetensors", "File too large"] {
        assert!(said.contains(words), "no {words:?} in {said}");
    }
    assert!(!leftovers(&place));
    succeeds(&mut run(&place));
    assert_eq!(place.stages("a").1, ["data"]);
}

#[test]
fn a_store_that_may_not_be_written_is_named() {
    let place = Place::new();
    let store = place.store();
    fs::create_dir(&store).unwrap();
    fs::set_permissions(place.dir.path(), Permissions::from_mode(0o777)).unwrap();
    fs::set_permissions(&store, Permissions::from_mode(0o555)).unwrap();
    let mut command = run(&place);
    if rustix::process::geteuid().is_root() {
        // Modes do not bind root: the command runs as somebody else, if that one may execute it.
        let nobody = 65534;
        let reached = Command::new(env!("CARGO_BIN_EXE_finegrain"))
            .arg("--version")
            .uid(nobody)
            .gid(nobody)
            .output();
        if !reached.is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: root is bound by no mode, and others cannot execute the command");
            return;
        }
        command.uid(nobody).gid(nobody);
    }
    let said = fails(&mut command, 2);
    for words in [store.to_str().unwrap(), "Permission denied"] {
        assert!(said.contains(words), "no {words:?} in {said}");
    }
    fs::set_permissions(&store, Permissions::from_mode(0o755)).unwrap();
    assert_eq!(fs::read_dir(&store).unwrap().count(), 0);
}

#[test]
fn a_store_or_a_run_directory_below_a_file_is_named() {
    let place = Place::new();
    fs::write(place.path("file"), "").unwrap();
    for (store, out) in [("file/store", "out"), ("store", "file/out")] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_finegrain"));
        command
            .args(["run", &configs("sandbox/fine-token-ppo.toml"), "--out"])
            .arg(place.path(out))
            .arg("--store")
            .arg(place.path(store));
        let said = fails(&mut command, 2);
        for words in [place.path("file").to_str().unwrap(), "Not a directory"] {
            assert!(said.contains(words), "no {words:?} in {said}");
        }
    }
}
