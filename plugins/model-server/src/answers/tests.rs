use std::fs::{self, OpenOptions};
use std::io::Write;
use std::thread;

use finegrain_sdk::serde_json::json;

use super::*;
use crate::outcome::Reply;
use crate::usd::Usd;

const ADDRESS: &str = "http://127.0.0.1:1";
/// Computed with sha256sum.
const VECTOR: &str = "0214331d02863c758500a929970e63162fbe5e0cfdad4787a19e8faf86617b45";

fn body(text: &str) -> finegrain_sdk::serde_json::Value {
    json!({"max_tokens": 9, "messages": [{"content": text, "role": "user"}], "model": "m", "temperature": 0.7})
}

fn key_of(text: &str) -> String {
    key(&Asked {
        api: "anthropic-messages",
        version: "2023-06-01",
        base_url: ADDRESS,
        body: &body(text),
        sample: 0,
        attempt: 0,
    })
}

/// The record of an answer `said` to `text`.
fn record(id: &str, text: &str, said: &str) -> Record {
    let response =
        crate::testing::anthropic("m-1", &json!([{"type": "text", "text": said}]), "end_turn")
            .to_string();
    Record {
        v: 1,
        id: id.to_owned(),
        key: key_of(text),
        plugin: "editor".to_owned(),
        row: "p1".to_owned(),
        template: String::new(),
        template_hash: String::new(),
        api: "anthropic-messages".to_owned(),
        version: "2023-06-01".to_owned(),
        base_url: ADDRESS.to_owned(),
        sample: 0,
        attempt: 0,
        structured: false,
        model_asked: "m".to_owned(),
        model_answered: "m-1".to_owned(),
        request: body(text),
        sha256: sha256(response.as_bytes()),
        response,
        request_id: None,
        tier: None,
        input_tokens: Some(100),
        output_tokens: Some(20),
        picodollars: Some(5),
        tries: 1,
        possibly_paid: 0,
        started: String::new(),
        seconds: 0.1,
        kept: String::new(),
    }
}

fn keep(layer: &Layer, text: &str, said: &str) -> Record {
    let id = layer.sent(&key_of(text), Some(Usd::from_pico(9))).unwrap();
    layer.keep(record(&id, text, said)).unwrap().0
}

fn said(folder: &Path, text: &str) -> Option<Reply> {
    let record = Layer::open(folder).unwrap().find(&key_of(text)).unwrap()?;
    Some(record.read().unwrap().reply)
}

fn text(text: &str) -> Reply {
    Reply::Text(text.to_owned())
}

fn only_file(folder: &Path) -> std::path::PathBuf {
    let mut files = fs::read_dir(folder).unwrap();
    let file = files.next().unwrap().unwrap().path();
    assert!(files.next().is_none());
    file
}

#[test]
fn the_key_is_the_hash_of_what_is_sent_and_of_nothing_else() {
    // sha256 of {"api":"a","attempt":0,"base_url":"http://h","body":{"model":"m"},"sample":0,"version":""}
    let body = json!({"model": "m"});
    let asked = Asked {
        api: "a",
        version: "",
        base_url: "http://h",
        body: &body,
        sample: 0,
        attempt: 0,
    };
    assert_eq!(key(&asked), VECTOR);
    let other = json!({"model": "n"});
    let different = [
        Asked { api: "b", ..asked },
        Asked {
            version: "1",
            ..asked
        },
        Asked {
            base_url: "http://i",
            ..asked
        },
        Asked {
            body: &other,
            ..asked
        },
        Asked { sample: 1, ..asked },
        Asked {
            attempt: 1,
            ..asked
        },
    ];
    for other in different {
        assert_ne!(key(&other), VECTOR, "{other:?}");
    }
}

#[test]
fn a_kept_answer_is_found_by_the_next_process() {
    let dir = tempfile::tempdir().unwrap();
    let layer = Layer::open(dir.path()).unwrap();
    assert!(
        fs::read_dir(dir.path()).unwrap().next().is_none(),
        "nothing is written before it is needed"
    );
    keep(&layer, "a", "Mars");
    assert!(layer.find(&key_of("a")).unwrap().is_some());
    assert_eq!(said(dir.path(), "a"), Some(text("Mars")));
    assert_eq!(said(dir.path(), "b"), None);
}

#[test]
fn a_torn_last_line_is_skipped_and_said_and_its_request_may_be_paid() {
    let dir = tempfile::tempdir().unwrap();
    let layer = Layer::open(dir.path()).unwrap();
    keep(&layer, "a", "Mars");
    keep(&layer, "b", "Venus");
    drop(layer);
    let file = only_file(dir.path());
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 10]).unwrap();
    let layer = Layer::open(dir.path()).unwrap();
    assert!(layer.find(&key_of("a")).unwrap().is_some());
    assert!(layer.find(&key_of("b")).unwrap().is_none());
    let remarks = layer.remarks();
    assert!(
        remarks.len() == 1 && remarks[0].contains("has no end"),
        "{remarks:?}"
    );
    assert_eq!(layer.lost(&key_of("a")), Usd::ZERO);
    assert_eq!(layer.lost(&key_of("b")), Usd::from_pico(9));
}

#[test]
fn a_line_that_is_none_is_skipped_and_said_and_those_after_it_count() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("0.jsonl"),
        "garbage\n{\"v\":1,\"line\":\"new\"}\n",
    )
    .unwrap();
    keep(&Layer::open(dir.path()).unwrap(), "a", "Mars");
    let layer = Layer::open(dir.path()).unwrap();
    let remarks = layer.remarks();
    assert!(
        remarks[0].contains("0.jsonl:1") && remarks[1].contains("0.jsonl:2"),
        "{remarks:?}"
    );
    assert!(layer.find(&key_of("a")).unwrap().is_some());
}

#[test]
fn lines_of_a_later_version_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("0.jsonl"),
        "{\"v\":2,\"line\":\"answer\"}\n",
    )
    .unwrap();
    let error = Layer::open(dir.path()).unwrap_err();
    assert!(error.message.contains("later version"), "{error}");
}

#[test]
fn the_first_kept_answer_wins_whatever_the_names_of_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (
        Layer::open(dir.path()).unwrap(),
        Layer::open(dir.path()).unwrap(),
    );
    keep(&one, "other", "-");
    keep(&two, "a", "first");
    keep(&one, "a", "second");
    assert_eq!(said(dir.path(), "a"), Some(text("first")));
    let verified = Folder::open(dir.path()).unwrap().verify().unwrap();
    assert_eq!((verified.sound, verified.surplus), (3, 1));
}

#[test]
fn what_another_process_keeps_is_seen_at_the_next_look() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (
        Layer::open(dir.path()).unwrap(),
        Layer::open(dir.path()).unwrap(),
    );
    keep(&two, "a", "Mars");
    assert!(one.find(&key_of("a")).unwrap().is_none());
    thread::sleep(std::time::Duration::from_millis(1050));
    one.look_again().unwrap();
    assert!(one.find(&key_of("a")).unwrap().is_some());
}

#[test]
fn many_threads_keep_their_answers_whole() {
    let dir = tempfile::tempdir().unwrap();
    let layer = Layer::open(dir.path()).unwrap();
    thread::scope(|scope| {
        for thread in 0..16 {
            let layer = &layer;
            scope.spawn(move || {
                for number in 0..20 {
                    keep(layer, &format!("{thread} {number}"), "Mars");
                }
            });
        }
    });
    // Each is where the index says, in this process and in the next.
    for thread in 0..16 {
        for number in 0..20 {
            assert!(
                layer
                    .find(&key_of(&format!("{thread} {number}")))
                    .unwrap()
                    .is_some()
            );
        }
    }
    drop(layer);
    let folder = Folder::open(dir.path()).unwrap();
    let verified = folder.verify().unwrap();
    assert_eq!((verified.sound, verified.lost), (320, 0));
    assert_eq!(
        folder.cost().unwrap()[&("editor".to_owned(), "m".to_owned())].usd,
        Usd::from_pico(1600)
    );
}

#[test]
fn a_damaged_answer_is_not_used_and_said() {
    let dir = tempfile::tempdir().unwrap();
    keep(&Layer::open(dir.path()).unwrap(), "a", "Mars");
    let file = only_file(dir.path());
    let damaged = fs::read_to_string(&file).unwrap().replace("Mars", "Pars");
    fs::write(&file, damaged).unwrap();
    let layer = Layer::open(dir.path()).unwrap();
    assert!(layer.find(&key_of("a")).unwrap().is_none());
    assert!(layer.remarks()[0].contains("hash"));
    let verified = Folder::open(dir.path()).unwrap().verify().unwrap();
    assert_eq!((verified.sound, verified.damaged.len()), (0, 1));
}

#[test]
fn a_forgotten_answer_is_asked_again_and_the_new_one_counts() {
    let dir = tempfile::tempdir().unwrap();
    keep(&Layer::open(dir.path()).unwrap(), "a", "Mars");
    let mut folder = Folder::open(dir.path()).unwrap();
    assert!(folder.forget(&["0"]).is_err() || key_of("a").starts_with('0'));
    assert_eq!(folder.forget(&[&key_of("a")[..12]]).unwrap(), 1);
    assert!(folder.list().unwrap().is_empty());
    assert_eq!(said(dir.path(), "a"), None);
    keep(&Layer::open(dir.path()).unwrap(), "a", "Venus");
    assert_eq!(said(dir.path(), "a"), Some(text("Venus")));
    let folder = Folder::open(dir.path()).unwrap();
    assert_eq!(folder.show(&key_of("a")).unwrap().len(), 1);
    assert_eq!(folder.list().unwrap()[0].reply, Ok(text("Venus")));
}

#[test]
fn a_request_that_ended_for_free_is_not_lost() {
    let dir = tempfile::tempdir().unwrap();
    let layer = Layer::open(dir.path()).unwrap();
    let free = layer.sent(&key_of("a"), None).unwrap();
    layer.unpaid(free).unwrap();
    layer.sent(&key_of("b"), Some(Usd::from_pico(7))).unwrap();
    drop(layer);
    assert_eq!(
        Folder::open(dir.path()).unwrap().lost(),
        (1, Usd::from_pico(7))
    );
}

#[test]
fn a_folder_that_cannot_be_written_says_so_and_that_nothing_more_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let mut file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .open(&path)
        .unwrap();
    file.write_all(b"no folder").unwrap();
    let log = log::Log::new(&path).unwrap();
    let error = log
        .append(
            &record::Line::Forget {
                v: 1,
                ids: Vec::new(),
            },
            true,
        )
        .unwrap_err();
    assert!(error.message.contains("nothing more is asked"), "{error}");
}

#[test]
fn a_model_that_answers_under_a_new_name_is_noticed_once() {
    let dir = tempfile::tempdir().unwrap();
    let layer = Layer::open(dir.path()).unwrap();
    let keep = |id: &str, model: &str| {
        let mut record = record(id, id, "Mars");
        record.model_answered = model.to_owned();
        layer.keep(record).unwrap().1
    };
    assert_eq!(keep("1", "m-1"), None);
    assert_eq!(keep("2", "m-1"), None);
    assert!(keep("3", "m-2").is_some());
    assert_eq!(keep("4", "m-2"), None);
}
