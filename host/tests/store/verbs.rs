//! `finegrain store list`, `show`, `verify` and `gc`.

use std::fs;

use finegrain::pipeline::store::sha256;
use serde_json::Value;

use super::Place;
use super::common::refused;

#[test]
fn artifacts_are_listed_with_who_uses_them_and_shown_by_the_beginning_of_a_hash() {
    let place = Place::new();
    place.run("one", &[]);
    place.run("two", &["ppo.learning_rate=0.002"]);
    let list = place.list();
    assert_eq!(list.len(), 12);
    let runs = |entry: &Value| entry["used_by"].as_array().unwrap().len();
    for entry in &list {
        let shared =
            !["ppo", "evaluate", "token_views"].contains(&entry["stage"].as_str().unwrap());
        assert_eq!(runs(entry), if shared { 2 } else { 1 }, "{entry}");
        assert!(entry["bytes"].as_u64().unwrap() > 0);
        assert!(entry["wall_seconds"].is_f64() && entry["damage"].is_null());
    }
    assert_eq!(list[0]["stage"], "data", "the oldest first");
    let page = place.prints(&["list"]);
    for entry in &list {
        assert!(page.contains(entry["hash"].as_str().unwrap()), "{page}");
    }
    assert!(page.contains("12 artifacts, "), "{page}");

    let hash = |stage: &str| {
        let of = list.iter().find(|entry| entry["stage"] == stage).unwrap();
        of["hash"].as_str().unwrap().to_owned()
    };
    let sft = hash("sft");
    let page = place.prints(&["show", &format!("sft/{}", &sft[..6])]);
    let words = [
        format!("sft/{sft} in "),
        "\"epochs\": 1".to_owned(),
        format!("Made from:\ndata/{}\n", hash("data")),
        "model/model.safetensors".to_owned(),
        place.path("two").display().to_string(),
    ];
    for words in &words {
        assert!(page.contains(words.as_str()), "no {words:?} in {page}");
    }
    let shown: Value = serde_json::from_str(&place.prints(&["show", &sft, "--json"])).unwrap();
    let files = shown["record"]["files"].as_array().unwrap();
    let file = &files[0];
    let bytes = fs::read(place.artifact("sft").join(file["name"].as_str().unwrap())).unwrap();
    assert_eq!(file["bytes"], bytes.len());
    assert_eq!(file["sha256"], sha256(&bytes));
    assert_eq!(
        shown["record"]["inputs"][0],
        format!("data/{}", hash("data"))
    );
}

#[test]
fn what_is_asked_for_must_be_one_artifact_and_a_store() {
    let place = Place::new();
    place.run("one", &[]);
    place.run("two", &["ppo.learning_rate=0.002"]);
    let store = place.store();
    let store = store.to_str().unwrap();
    let show = |hash: &str, words: &[&str]| {
        refused(&["store", "show", hash, "--store", store], 2, words);
    };
    show("ppo/", &["is the beginning of 2 hashes: ppo/"]);
    assert!(place.prints(&["show", "sft/"]).starts_with("sft/"));
    show("xyz", &["is no hash", "hint"]);
    // Ten hashes begin with sixteen digits: somewhere two share the first, or all differ.
    let list = place.list();
    let hashes: Vec<&str> = list
        .iter()
        .map(|entry| entry["hash"].as_str().unwrap())
        .collect();
    for digit in "0123456789abcdef".chars() {
        let digit = digit.to_string();
        let having: Vec<&&str> = hashes
            .iter()
            .filter(|hash| hash.starts_with(&digit))
            .collect();
        match having[..] {
            [] => show(&digit, &["no artifact's hash begins with"]),
            [one] => assert!(place.prints(&["show", &digit]).contains(*one)),
            _ => {
                let mut words = vec!["is the beginning of"];
                words.extend(having.iter().map(|hash| **hash));
                show(&digit, &words);
            }
        }
    }
    let none = place.path("none");
    for verb in ["list", "verify", "gc"] {
        let args = ["store", verb, "--store", none.to_str().unwrap()];
        refused(&args, 2, &["no store at", "none"]);
    }
    assert!(!none.exists());
    let args = ["store", "gc", "--store", store, "--older-than", "week"];
    refused(&args, 2, &["--older-than", "accepted: weeks, days"]);
}

#[test]
fn a_check_names_every_damage_exits_with_1_and_changes_nothing_unless_asked_to() {
    let place = Place::new();
    place.run("one", &[]);
    let sound = place.prints(&["verify"]);
    assert_eq!(sound.lines().count(), 9);
    assert!(
        sound.lines().all(|line| line.contains(": sound, ")),
        "{sound}"
    );

    let dir = place.artifact("edits");
    let hash = dir.file_name().unwrap().to_str().unwrap().to_owned();
    let file = dir.join("edits.jsonl");
    let mut bytes = fs::read(&file).unwrap();
    bytes.pop();
    fs::write(&file, &bytes).unwrap();
    for args in [&["verify"][..], &["verify", &hash[..10]]] {
        let output = place.verb(args);
        assert_eq!(output.status.code(), Some(1));
        let page = String::from_utf8(output.stdout).unwrap();
        let words = format!(
            "edits/{hash}: damaged: edits.jsonl has {} bytes instead of {}",
            bytes.len(),
            bytes.len() + 1
        );
        assert!(page.contains(&words), "{page}");
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains("1 of "), "{message}");
    }
    assert!(dir.is_dir());
    // Another artifact is still sound.
    let sft = place.artifact("sft");
    let sft = format!("sft/{}", sft.file_name().unwrap().to_str().unwrap());
    assert!(place.prints(&["verify", &sft]).starts_with(&sft));

    let output = place.verb(&["verify", "--set-aside", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = rows.as_array().unwrap();
    let row = rows.iter().find(|row| row["stage"] == "edits").unwrap();
    assert_eq!(row["state"], "damaged");
    assert!(!dir.exists());
    assert!(std::path::Path::new(row["set_aside"].as_str().unwrap()).is_dir());
    assert_eq!(place.prints(&["verify"]).lines().count(), 8);
    place.run("one", &[]);
    assert_eq!(place.stages("one").0, ["edits"]);
}

#[test]
fn garbage_is_what_no_existing_run_directory_uses() {
    let place = Place::new();
    place.run("keep", &[]);
    place.run("drop", &["ppo.learning_rate=0.002"]);
    let all = place.list().len();
    assert!(place.prints(&["gc"]).contains("removed 0 folders"));
    assert_eq!(place.list().len(), all);

    fs::remove_dir_all(place.path("drop")).unwrap();
    let would = place.prints(&["gc", "--dry-run"]);
    assert!(would.contains("would remove 3 folders, "), "{would}");
    assert!(
        would.contains("no existing run directory uses it"),
        "{would}"
    );
    assert_eq!(place.list().len(), all);
    let young = place.prints(&["gc", "--older-than", "7d"]);
    assert!(
        young.contains("removed 0 folders") && young.contains("3 too young"),
        "{young}"
    );
    let did = place.prints(&["gc"]);
    assert!(did.contains("removed 3 folders, "), "{did}");
    assert_eq!(place.list().len(), all - 3);
    // The run that is left has all it needs.
    place.run("keep", &[]);
    assert!(place.stages("keep").0.is_empty());
    fs::remove_dir_all(place.path("keep")).unwrap();
    // Nine artifacts, and the answers of the editor.
    let did = place.prints(&["gc"]);
    assert!(did.contains("removed 10 folders, "), "{did}");
    assert!(place.list().is_empty());
}

/// As after a run on a machine whose clock was ahead, or with a clock that was set back since.
#[test]
fn an_artifact_of_the_future_is_listed_used_and_never_old() {
    let place = Place::new();
    place.run("one", &[]);
    let dir = place.artifact("sft");
    let record = dir.join("stage.json");
    let mut value: Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    value["finished"] = "2999-01-01T00:00:00Z".into();
    let text = serde_json::to_vec_pretty(&value).unwrap();
    fs::write(&record, &text).unwrap();
    let seal = format!("{}  stage.json\n", sha256(&text));
    fs::write(dir.join("stage.sha256"), seal).unwrap();

    let list = place.list();
    let last = list.last().unwrap();
    assert_eq!(
        (&last["stage"], &last["age_seconds"]),
        (&"sft".into(), &0.into())
    );
    assert!(place.prints(&["list"]).contains("sft"));
    assert_eq!(place.run("two", &[]), "");
    assert!(place.stages("two").0.is_empty());
    for run in ["one", "two"] {
        fs::remove_dir_all(place.path(run)).unwrap();
    }
    let did = place.prints(&["gc", "--older-than", "0s"]);
    assert!(did.contains("0 too young"), "{did}");
    assert!(place.list().is_empty());
}
