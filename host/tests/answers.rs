//! `finegrain answers` on batches: listed from the folder, canceled at the server, given up.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should fail where it stands"
)]

mod common;

use std::collections::BTreeMap;
use std::fs;

use common::{finegrain, refused};
use finegrain_model_server::testing::{Batches, Fate, Seen, TestServer};
use serde_json::{Value, json};

/// What a command prints on standard output.
fn prints(args: &[&str]) -> String {
    let output = finegrain(args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn batches_are_listed_canceled_at_their_server_and_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let batches = Batches::new(1000, |_, _| Fate::Canceled);
    let shared = batches.clone();
    let server = TestServer::start_for_all(move |seen: &Seen| shared.act(seen).unwrap()).unwrap();
    // As a killed run leaves them: one posted, one whose id nobody knows.
    let post = json!({"requests": [{"custom_id": "a", "params": {}}]});
    let posted = Seen {
        method: "POST".into(),
        path: "/v1/messages/batches".into(),
        headers: BTreeMap::default(),
        body: post,
        number: 0,
        again: 0,
    };
    batches.act(&posted);
    let intent = |id: &str, keys: &[&str], at: &str| json!({"line": "intent", "v": 1, "id": id, "base_url": server.url(), "keys": keys, "picodollars": null, "at": at});
    let lines = [
        intent("0/0", &["ab", "cd"], "2026-11-27T10:00:00Z"),
        json!({"line": "batch", "v": 1, "id": "0/0", "batch": "msgbatch_0"}),
        intent("0/1", &["ef"], "2026-11-27T11:00:00Z"),
    ];
    let store = dir.path().join("store");
    fs::create_dir_all(store.join("paid")).unwrap();
    let lines = lines.map(|line| line.to_string() + "\n");
    fs::write(store.join("paid/0.jsonl"), lines.concat()).unwrap();
    let store = store.to_str().unwrap();

    let table = prints(&["answers", "batches", "--store", store]);
    for words in [
        "msgbatch_0",
        "open, id not known yet",
        "2 batches, 2 open",
        "2026-11-27T10:00:00Z",
    ] {
        assert!(table.contains(words), "no {words:?} in {table}");
    }
    let list: Value =
        serde_json::from_str(&prints(&["answers", "batches", "--store", store, "--json"])).unwrap();
    assert_eq!(
        (&list[0]["questions"], &list[0]["answered"]),
        (&json!(2), &json!(0))
    );
    assert_eq!(
        (&list[1]["batch"], &list[1]["open"]),
        (&Value::Null, &json!(true))
    );

    let said = prints(&["answers", "cancel-batch", "msgbatch_0", "--store", store]);
    assert!(said.contains("msgbatch_0 is canceling"), "{said}");
    refused(
        &["answers", "cancel-batch", "msgbatch_7", "--store", store],
        2,
        &["no batch \"msgbatch_7\"", "finegrain answers batches"],
    );
    let said = prints(&["answers", "give-up-batch", "0/1", "--store", store]);
    assert!(said.contains("1 of its questions"), "{said}");
    let table = prints(&["answers", "batches", "--store", store]);
    assert!(
        table.contains("2 batches, 1 open") && table.contains("given up"),
        "{table}"
    );
    refused(
        &["answers", "give-up-batch", "0/1", "--store", store],
        2,
        &["no batch \"0/1\""],
    );
}
