//! The four network plugins against a real server: llama.cpp's, over both APIs, then with nobody there to ask.

use std::cell::RefCell;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicBool;

use finegrain_sdk::batch::TextBatch;
use finegrain_sdk::kinds::{
    Comparisons, EditOutcome, EditRequests, EditSink, Editor, Judge, JudgeSink, Verdict,
};
use finegrain_sdk::{CallContext, Plugin, Result, options};
use finegrain_tests::shared;
use serde_json::json;

use crate::gguf::smollm2;

/// How many edits, and how many verdicts, are asked for through each plugin.
const ROWS: usize = 20;

/// llama.cpp's server; it ends with this value.
struct LlamaServer {
    child: Child,
    url: String,
}

impl LlamaServer {
    /// Starts it; `None`, with the reason printed, where it cannot run.
    fn start(model: &Path) -> Option<Self> {
        let script = shared("models/llama-server")?;
        let Some(python) = std::env::var_os("FINEGRAIN_PYTHON") else {
            eprintln!("skipped: FINEGRAIN_PYTHON names no Python with xllamacpp");
            return None;
        };
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port().to_string();
        drop(free);
        let mut child = Command::new(python)
            .arg(script)
            .arg(model)
            .args(["--port", &port, "--parallel", "4", "--context", "8192"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("FINEGRAIN_PYTHON runs");
        // It says its address when it listens, and nothing where a module is missing.
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = lines
            .map_while(std::result::Result::ok)
            .find(|line| line.starts_with("http://"));
        let Some(url) = url else {
            child.wait().unwrap();
            eprintln!("skipped: FINEGRAIN_PYTHON lacks xllamacpp");
            return None;
        };
        Some(Self { child, url })
    }
}

impl Drop for LlamaServer {
    fn drop(&mut self) {
        // One that has ended already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Texts one after the other, as batches have them.
struct Column(String, Vec<u64>);

impl Column {
    fn of(texts: impl Iterator<Item = String>) -> Self {
        let mut column = Self(String::new(), vec![0]);
        for text in texts {
            column.0 += &text;
            column.1.push(column.0.len() as u64);
        }
        column
    }

    fn batch(&self) -> TextBatch<'_> {
        TextBatch::new(self.0.as_bytes(), &self.1).unwrap()
    }
}

/// What came of each row.
struct Outcomes<T>(RefCell<Vec<Option<T>>>);

impl<T: Clone> Outcomes<T> {
    fn new() -> Self {
        Self(RefCell::new(vec![None; ROWS]))
    }

    fn put(&self, row: usize, outcome: T) {
        let before = self.0.borrow_mut()[row].replace(outcome);
        assert!(before.is_none(), "row {row} came twice");
    }

    fn all(self) -> Vec<T> {
        self.0
            .into_inner()
            .into_iter()
            .map(Option::unwrap)
            .collect()
    }
}

impl EditSink for &Outcomes<EditOutcome> {
    fn push(&mut self, row: usize, outcome: EditOutcome) -> Result<()> {
        self.put(row, outcome);
        Ok(())
    }
}

impl JudgeSink for &Outcomes<(Verdict, String)> {
    fn push(&mut self, row: usize, verdict: Verdict, reason: &str) -> Result<()> {
        self.put(row, (verdict, reason.to_owned()));
        Ok(())
    }
}

fn context(answers: &Path) -> CallContext<'_> {
    static GO: AtomicBool = AtomicBool::new(false);
    CallContext {
        seed: 0,
        step: 0,
        threads: 2,
        cancel: &GO,
        log: &|_, _| {},
        progress: &|_, _| {},
        answers: Some(answers),
    }
}

/// The options of a plugin; a small model rambles, so answers are short and asked for once.
fn options_of<P: Plugin>(url: &str, replay: bool) -> P {
    let json = json!({"model": "smollm2", "base_url": url, "max_tokens": 48, "tries": 1, "temperature": 0.0, "replay": replay});
    P::new(options::parse(&json.to_string()).unwrap()).unwrap()
}

fn sum(row: usize) -> (String, String, String) {
    let (a, b) = (row % 7 + 2, row / 7 + 3);
    (
        format!("What is {a} plus {b}?"),
        format!("The sum is {}.", a + b),
        format!("The sum is {}.", a + b + 1),
    )
}

fn edits<E: Editor>(url: &str, answers: &Path, replay: bool) -> Vec<EditOutcome> {
    let ids = Column::of((0..ROWS).map(|row| row.to_string()));
    let prompts = Column::of((0..ROWS).map(|row| sum(row).0));
    let responses = Column::of((0..ROWS).map(|row| sum(row).2));
    let requests = EditRequests {
        ids: ids.batch(),
        prompts: prompts.batch(),
        responses: responses.batch(),
    };
    let outcomes = Outcomes::new();
    let editor: E = options_of(url, replay);
    editor
        .edit(&requests, &mut &outcomes, &context(answers))
        .unwrap();
    outcomes.all()
}

fn verdicts<J: Judge>(url: &str, answers: &Path, replay: bool) -> Vec<(Verdict, String)> {
    let ids = Column::of((0..ROWS).map(|row| row.to_string()));
    let prompts = Column::of((0..ROWS).map(|row| sum(row).0));
    let a = Column::of((0..ROWS).map(|row| sum(row).1));
    let b = Column::of((0..ROWS).map(|row| sum(row).2));
    let comparisons = Comparisons {
        ids: ids.batch(),
        prompts: prompts.batch(),
        a: a.batch(),
        b: b.batch(),
    };
    let outcomes = Outcomes::new();
    let judge: J = options_of(url, replay);
    judge
        .compare(&comparisons, &mut &outcomes, &context(answers))
        .unwrap();
    outcomes.all()
}

/// A model of 135 million parameters edits and judges badly: what is held is that every row has one outcome, that what was
/// answered is kept, and that it is read the same way once there is no server.
#[test]
fn what_llama_cpp_answered_is_read_again_without_it() {
    let Some(model) = smollm2() else { return };
    let Some(server) = LlamaServer::start(&model) else {
        return;
    };
    let folders: Vec<_> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
    let at = |n: usize| -> PathBuf { folders[n].path().to_owned() };
    let openai = format!("{}/v1", server.url);
    let claude = server.url.clone();
    let ask = |replay: bool| {
        (
            edits::<finegrain_editor_openai::OpenAi>(&openai, &at(0), replay),
            edits::<finegrain_editor_claude::Claude>(&claude, &at(1), replay),
            verdicts::<finegrain_judge_openai::OpenAi>(&openai, &at(2), replay),
            verdicts::<finegrain_judge_claude::Claude>(&claude, &at(3), replay),
        )
    };
    let asked = ask(false);
    drop(server);
    let read = ask(true);
    assert_eq!(asked, read);
    let parsed = asked
        .2
        .iter()
        .filter(|(verdict, _)| !matches!(verdict, Verdict::Failed(_)));
    assert!(
        parsed.count() > 0,
        "a schema makes verdicts parse: {:?}",
        asked.2
    );
    for (name, outcomes) in [("openai", &asked.0), ("claude", &asked.1)] {
        let of = |wanted: fn(&EditOutcome) -> bool| outcomes.iter().filter(|it| wanted(it)).count();
        eprintln!(
            "editor-{name}: {} edited, {} unchanged, {} others",
            of(|it| matches!(it, EditOutcome::Edited(_))),
            of(|it| matches!(it, EditOutcome::Unchanged)),
            of(|it| !matches!(it, EditOutcome::Edited(_) | EditOutcome::Unchanged)),
        );
    }
}
