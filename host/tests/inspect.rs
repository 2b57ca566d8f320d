//! `finegrain inspect` on a run that the command has made.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should fail where it stands"
)]

mod common;

use common::{TINY, configs, finegrain, refused};

#[test]
fn a_real_run_is_shown_in_a_hundred_columns_without_escapes() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (out, store, config) = (
        place("run"),
        place("store"),
        configs("sandbox/fine-token-ppo.toml"),
    );
    let mut args = vec!["run", "--quiet", "--out", &out, "--store", &store, &config];
    for set in &TINY {
        args.extend(["--set", set]);
    }
    let output = finegrain(&args);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let output = finegrain(&["inspect", &out, "--metric", "*"]);
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "fine-token-ppo, seed 1",
        "reward/token-average",
        "computed",
        "policy/entropy",
        "Best samples",
        "Worst samples",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    assert!(
        text.lines().all(|line| line.chars().count() <= 100),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'));
    let output = finegrain(&["inspect", &out, "--json", "--metric", "reward/total"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["run"]["seed"], 1);
    assert!(json["metrics"][0]["values"][0].is_number(), "{json}");
    let text =
        String::from_utf8(finegrain(&["inspect", dir.path().to_str().unwrap()]).stdout).unwrap();
    assert!(text.contains(&format!("finegrain inspect {out}")), "{text}");
    refused(
        &["inspect", &store],
        2,
        &["is not a run directory", "hint:"],
    );
    refused(
        &["inspect", &place("absent")],
        2,
        &["is not a directory", "hint:"],
    );
}
