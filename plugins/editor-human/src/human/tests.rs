//! What comes of a file: matches, lines that match nothing, and refusals with their line.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use finegrain_sdk::context::LogLevel;
use finegrain_sdk::kinds::{EditOutcome, EditRequests, EditSink, Editor};
use finegrain_sdk::{CallContext, ErrorCode, Plugin, Result, TextBatch};

use super::Human;
use crate::options::{MatchBy, Options, Repeats};

static NOT_CANCELLED: AtomicBool = AtomicBool::new(false);

/// A file of edits that is gone when the test ends.
struct EditFile(PathBuf);

impl EditFile {
    fn new(content: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "finegrain-editor-human-{}-{}.jsonl",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        std::fs::File::create(&path)
            .and_then(|mut file| file.write_all(content.as_bytes()))
            .expect("the temporary folder is writable");
        Self(path)
    }

    fn options(&self) -> Options {
        Options {
            path: self.0.display().to_string(),
            ..Options::default()
        }
    }

    fn refusal(&self, options: Options) -> String {
        let error = Human::new(options).expect_err("the file is wrong");
        assert_eq!(error.code, ErrorCode::INVALID_OPTIONS);
        error.message.replace(&self.0.display().to_string(), "FILE")
    }
}

impl Drop for EditFile {
    fn drop(&mut self) {
        // A file left behind in the temporary folder harms nothing.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[derive(Default)]
struct Collected(Vec<(usize, EditOutcome)>);

impl EditSink for Collected {
    fn push(&mut self, row: usize, outcome: EditOutcome) -> Result<()> {
        self.0.push((row, outcome));
        Ok(())
    }
}

/// The outcomes for requests (id, prompt, response), and the warnings.
fn edit(options: Options, requests: &[[&str; 3]]) -> (Vec<EditOutcome>, Vec<String>) {
    edit_with_seed(options, requests, 0)
}

fn edit_with_seed(
    options: Options,
    requests: &[[&str; 3]],
    seed: u64,
) -> (Vec<EditOutcome>, Vec<String>) {
    let column = |which: usize| {
        let mut offsets = vec![0];
        let mut text = String::new();
        for request in requests {
            text += request[which];
            offsets.push(text.len() as u64);
        }
        (text, offsets)
    };
    let columns = [column(0), column(1), column(2)];
    let batch = |which: usize| {
        TextBatch::new(columns[which].0.as_bytes(), &columns[which].1).expect("offsets fit")
    };
    let warnings = Mutex::new(Vec::new());
    let log = |level: LogLevel, line: &str| {
        assert_eq!(level, LogLevel::Warn);
        warnings
            .lock()
            .expect("no thread panicked")
            .push(line.to_owned());
    };
    let context = CallContext {
        seed,
        step: 0,
        threads: 1,
        cancel: &NOT_CANCELLED,
        log: &log,
        progress: &|_, _| {},
        answers: None,
    };
    let requests = EditRequests {
        ids: batch(0),
        prompts: batch(1),
        responses: batch(2),
    };
    let mut sink = Collected::default();
    let path = options.path.clone();
    Human::new(options)
        .and_then(|editor| editor.edit(&requests, &mut sink, &context))
        .expect("a valid file");
    let rows: Vec<usize> = sink.0.iter().map(|(row, _)| *row).collect();
    assert_eq!(rows, (0..requests.ids.rows()).collect::<Vec<_>>());
    let outcomes = sink.0.into_iter().map(|(_, outcome)| match outcome {
        EditOutcome::Refused(reason) => EditOutcome::Refused(reason.replace(&path, "FILE")),
        EditOutcome::Failed(reason) => EditOutcome::Failed(reason.replace(&path, "FILE")),
        other => other,
    });
    let outcomes = outcomes.collect();
    let warnings = warnings.into_inner().expect("no thread panicked");
    (
        outcomes,
        warnings
            .iter()
            .map(|line| line.replace(&path, "FILE"))
            .collect(),
    )
}

fn edited(text: &str) -> EditOutcome {
    EditOutcome::Edited(text.to_owned())
}

fn refused(reason: &str) -> EditOutcome {
    EditOutcome::Refused(reason.to_owned())
}

#[test]
fn every_request_gets_its_line_or_a_reason() {
    let file = EditFile::new(concat!(
        "\u{feff}{\"id\": \"a\", \"edited\": \"two apples\"}\n",
        "\n",
        "{\"id\": 7, \"edited\": [\"one pear\", \"a pear\"], \"response\": \"one pears\"}\n",
        "{\"id\": \"same\", \"edited\": \"fine\"}\r\n",
        "{\"id\": \"skipped\", \"edited\": null}\n",
        "{\"id\": \"blank\", \"edited\": \" \"}\n",
        "{\"id\": \"stale\", \"edited\": \"new\", \"response\": \"an older response\"}\n",
        "{\"id\": \"left over\", \"edited\": \"x\"}\n",
    ));
    let (outcomes, warnings) = edit(
        file.options(),
        &[
            ["7", "p", "one pears"],
            ["a", "p", "two apple"],
            ["same", "p", "fine"],
            ["nowhere", "p", "r"],
            ["skipped", "p", "r"],
            ["blank", "p", "r"],
            ["stale", "p", "the response"],
        ],
    );
    assert_eq!(
        outcomes,
        [
            edited("one pear"),
            edited("two apples"),
            EditOutcome::Unchanged,
            refused("no edit in FILE"),
            refused("skipped by the annotator (FILE:5)"),
            refused("the edit is empty (FILE:6)"),
            EditOutcome::Failed("FILE:7 edits another response than this one".to_owned()),
        ]
    );
    assert_eq!(
        warnings,
        ["FILE: 1 of 7 edits belong to no response of this call: left over"]
    );
}

#[test]
fn text_matches_prompt_and_response_under_any_field_names() {
    let file = EditFile::new(concat!(
        "{\"instruction\": \"p1\", \"output\": \"r\", \"fixed\": \"one\"}\n",
        "{\"instruction\": \"p2\", \"output\": \"r\", \"fixed\": \"two\"}\n",
    ));
    let options = Options {
        match_by: MatchBy::Text,
        prompt_field: "instruction".to_owned(),
        response_field: "output".to_owned(),
        edited_field: "fixed".to_owned(),
        ..file.options()
    };
    let (outcomes, warnings) = edit(
        options,
        &[["x", "p2", "r"], ["y", "p1", "r"], ["z", "p1", "r "]],
    );
    assert_eq!(
        outcomes,
        [edited("two"), edited("one"), refused("no edit in FILE")]
    );
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn a_warning_names_the_first_lines_only() {
    let lines: Vec<String> = (1..=8)
        .map(|i| format!("{{\"id\": \"e{i}\", \"edited\": \"x\"}}"))
        .collect();
    let (_, warnings) = edit(
        EditFile::new(&lines.join("\n")).options(),
        &[["e2", "p", "r"]],
    );
    assert_eq!(
        warnings,
        ["FILE: 7 of 8 edits belong to no response of this call: e1, e3, e4, e5, e6, …"]
    );
}

#[test]
fn repeated_edits_are_refused_or_chosen_as_asked() {
    let file = EditFile::new(concat!(
        "{\"id\": \"a\", \"edited\": \"first\"}\n",
        "{\"id\": \"b\", \"edited\": \"other\"}\n",
        "{\"id\": \"a\", \"edited\": \"last\"}\n",
    ));
    assert_eq!(
        file.refusal(file.options()),
        "FILE:3: edits the same response as line 1 (a); set `repeats` to \"first\", \"last\" or \"random\" to choose one"
    );
    let chosen = |repeats, seed| {
        let options = Options {
            repeats,
            ..file.options()
        };
        edit_with_seed(options, &[["a", "p", "r"]], seed)
            .0
            .remove(0)
    };
    assert_eq!(chosen(Repeats::First, 0), edited("first"));
    assert_eq!(chosen(Repeats::Last, 0), edited("last"));
    let draws: Vec<EditOutcome> = (0..32).map(|seed| chosen(Repeats::Random, seed)).collect();
    assert_eq!(chosen(Repeats::Random, 3), draws[3]);
    assert!(draws.contains(&edited("first")) && draws.contains(&edited("last")));
}

#[test]
fn a_wrong_line_is_named() {
    for (content, message) in [
        ("", "FILE: no edits in this file"),
        ("[1]\n", "FILE:1: not a JSON object"),
        (
            "{\"id\": \"a\", \"edited\": \"x\"}\n{\"id\": \"b\", \"edit\": \"y\"}\n",
            "FILE:2: no field `edited`; this line has: id, edit",
        ),
        (
            "{\"id\": null, \"edited\": \"x\"}\n",
            "FILE:1: no field `id`; this line has: id, edited",
        ),
        (
            "{\"id\": \"a\", \"edited\": 3}\n",
            "FILE:1: `edited` is a number; it must be a text or a list of texts",
        ),
        (
            "{\"id\": \"a\", \"edited\": [{}]}\n",
            "FILE:1: `edited` is an object; its first element must be a text",
        ),
        (
            "{\"id\": \"a\", \"edited\": []}\n",
            "FILE:1: `edited` is an empty list",
        ),
    ] {
        let file = EditFile::new(content);
        assert_eq!(file.refusal(file.options()), message);
    }
    let broken = EditFile::new("{\"id\": \"a\",\n");
    let message = broken.refusal(broken.options());
    assert!(message.starts_with("FILE:1: not JSON: "), "{message}");
}

#[test]
fn a_path_is_required_and_must_exist() {
    let empty = Human::new(Options::default()).expect_err("no path");
    assert_eq!(
        empty.message,
        "`path` is empty; it must name a JSONL file of edits"
    );
    let options = Options {
        path: "no/such/file.jsonl".to_owned(),
        ..Options::default()
    };
    let absent = Human::new(options).expect_err("no file");
    assert!(
        absent.message.starts_with("no/such/file.jsonl: "),
        "{absent}"
    );
}
