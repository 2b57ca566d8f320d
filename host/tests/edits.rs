//! `finegrain edits` on a run, on its artifact in the store, and on a file.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should fail where it stands"
)]

mod common;

use std::fs;

use common::{TINY, configs, finegrain, refused, stages};
use serde_json::Value;

#[track_caller]
fn printed(args: &[&str]) -> String {
    let output = finegrain(args);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {message}");
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn json(args: &[&str]) -> Value {
    serde_json::from_str(&printed(args)).unwrap()
}

#[test]
fn edits_of_a_run_are_measured_shown_checked_and_judged() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (run, store) = (place("run"), place("store"));
    let config = configs("sandbox/fine-token-ppo.toml");
    let mut args = vec!["run", &config, "--quiet", "--out", &run, "--store", &store];
    for set in &TINY {
        args.extend(["--set", set]);
    }
    printed(&args);

    let stats = json(&["edits", "stats", &run, "--store", &store, "--json"]);
    assert_eq!(stats["unit"], "tokens");
    let edited = &stats["outcomes"][0];
    assert_eq!(edited["outcome"], "edited");
    assert_eq!(
        edited["rows"].as_u64().unwrap(),
        stats["measured"].as_u64().unwrap() + stats["unmeasured"].as_u64().unwrap()
    );
    assert_eq!(stats["asked"], Value::Null, "the rubric asks nobody");
    let text = printed(&["edits", "stats", &run, "--store", &store]);
    assert!(text.contains("tokens of the run's own tokenizer"), "{text}");

    // The artifact has the same edits; without the run, sizes are in words.
    let [artifact] = &stages(store.as_ref(), "edits")[..] else {
        panic!("one edits stage")
    };
    let hash = artifact.file_name().unwrap().to_str().unwrap();
    let of_store = json(&["edits", "stats", hash, "--store", &store, "--json"]);
    assert_eq!(of_store["outcomes"], stats["outcomes"]);
    assert_eq!(of_store["unit"], "words");
    // And so has the file that the stage wrote, as far as it goes.
    let answers = artifact.join("answers_train.jsonl");
    let of_file = json(&["edits", "stats", answers.to_str().unwrap(), "--json"]);
    let held_out = fs::read_to_string(artifact.join("answers_held_out.jsonl")).unwrap();
    assert_eq!(
        of_file["rows"].as_u64().unwrap() + held_out.lines().count() as u64,
        stats["rows"].as_u64().unwrap()
    );

    let worst = json(&[
        "edits", "diff", &run, "--store", &store, "--worst", "--n", "3", "--json",
    ]);
    let shares: Vec<f64> = worst["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["figures"]["share"].as_f64().unwrap())
        .collect();
    assert!(shares.is_sorted_by(|a, b| a >= b), "{shares:?}");
    assert_eq!(shares[0], stats["share_changed"]["max"].as_f64().unwrap());
    let id = worst["rows"][0]["edit"]["id"].as_str().unwrap();
    let text = printed(&["edits", "diff", &run, "--store", &store, "--id", id]);
    // Standard output is no terminal here.
    assert!(text.starts_with(&format!("{id}: ")), "{text}");
    assert!(text.contains("[-") || text.contains("{+"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text:?}");

    let judged = json(&[
        "edits", "check", &run, "--store", &store, "--judge", &config, "--n", "10", "--json",
    ]);
    let rate = &judged["judged"]["rate"];
    let edits = edited["rows"].as_u64().unwrap();
    assert_eq!(rate["n"].as_u64().unwrap(), edits.min(10));
    // The rubric judges by the defects that its editor repairs.
    assert!(rate["rate"].as_f64().unwrap() > 0.5, "{rate}");
    assert_eq!(rate["failures"], 0);
    let again = json(&[
        "edits", "check", &run, "--store", &store, "--judge", &config, "--n", "10", "--json",
    ]);
    assert_eq!(judged, again);
    let text = printed(&[
        "edits", "check", &run, "--store", &store, "--judge", &config, "--n", "10",
    ]);
    assert!(text.contains("the edit is better: "), "{text}");
}

#[test]
fn what_is_no_minimal_edit_ends_a_strict_check() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("edits.jsonl");
    fs::write(
        &path,
        r#"{"id": "a", "prompt": "p", "response": "one two three four five six", "edited": "one two three four five seven"}
{"id": "b", "prompt": "p", "response": "one two three four five six", "edited": "entirely other words stand here now"}
"#,
    )
    .unwrap();
    let path = path.to_str().unwrap();
    let text = printed(&["edits", "check", path]);
    assert!(
        text.contains("1 of 2 edits would be set aside (50.0%)"),
        "{text}"
    );
    assert!(
        text.contains("b: changed-words 1.000 (limit 0.4)"),
        "{text}"
    );
    // What was found is printed, and the exit code says that it was.
    let strict = finegrain(&["edits", "check", path, "--strict"]);
    assert_eq!(strict.status.code(), Some(1));
    assert_eq!(String::from_utf8(strict.stdout).unwrap(), text);
    let message = String::from_utf8(strict.stderr).unwrap();
    assert!(
        message.contains("1 of 2 edits would be set aside"),
        "{message}"
    );
    refused(
        &["edits", "diff", path, "--id", "c"],
        2,
        &["--id c", "2 rows and none of this id"],
    );
    refused(
        &["edits", "stats", path, "--edited", "after"],
        2,
        &["none of 2 rows is an edit", "no key `after`"],
    );
}
