//! Calls with everything they report, and answers of the test server.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use finegrain_model_server::options::{AnthropicOptions, OpenAiOptions, ServerOptions};
use finegrain_model_server::testing::{Act, TestServer, anthropic, openai};
use finegrain_model_server::{Answer, End, Question, Server, Settled, Step, Summary, ask};
use finegrain_sdk::serde_json::json;
use finegrain_sdk::{CallContext, Result};

pub(crate) const MODEL: &str = "test-model";

/// Options for the server under test.
pub(crate) fn options(server: &TestServer) -> ServerOptions {
    ServerOptions {
        model: MODEL.to_owned(),
        base_url: server.url(),
        concurrency: 8,
        ..ServerOptions::default()
    }
}

/// A Claude on the server under test.
pub(crate) fn claude(options: &ServerOptions) -> Server {
    Server::anthropic("test", options, &AnthropicOptions::default()).unwrap()
}

/// A chat on the server under test.
pub(crate) fn chat(options: &ServerOptions) -> Server {
    Server::openai("test", options, &OpenAiOptions::default()).unwrap()
}

/// Anthropic's answer with a text.
pub(crate) fn says(text: &str) -> Act {
    stops(text, "end_turn")
}

/// Anthropic's answer with a text and a reason to stop.
pub(crate) fn stops(text: &str, reason: &str) -> Act {
    let content = json!([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": text}]);
    Act::reply(200, anthropic(MODEL, &content, reason).to_string())
}

/// OpenAI's answer with a text.
pub(crate) fn chats(text: &str) -> Act {
    Act::reply(200, openai(MODEL, text, "stop").to_string())
}

/// What came of a call.
#[derive(Debug)]
pub(crate) struct Called {
    pub(crate) summary: Result<Summary>,
    pub(crate) settled: BTreeMap<usize, Settled>,
    pub(crate) log: Vec<String>,
}

impl Called {
    /// The text of a row.
    pub(crate) fn text(&self, row: usize) -> &str {
        match &self.settled[&row].end {
            End::Text(text) => text,
            other => panic!("row {row}: {other:?}"),
        }
    }

    /// The name of a row's failure.
    pub(crate) fn failure(&self, row: usize) -> &'static str {
        match &self.settled[&row].end {
            End::Failed(failure) => failure.kind.name(),
            other => panic!("row {row}: {other:?}"),
        }
    }

    pub(crate) fn summary(&self) -> &Summary {
        self.summary.as_ref().unwrap()
    }

    pub(crate) fn error(&self) -> &str {
        &self.summary.as_ref().unwrap_err().message
    }
}

/// The question about a row: its number in words of its own.
pub(crate) fn question(row: usize) -> Question {
    Question::new(
        format!("row-{row}"),
        "You answer.",
        format!("question {row}"),
    )
}

/// Asks one question a row.
pub(crate) fn call(server: &Server, rows: usize, answers: Option<&Path>) -> Called {
    call_with(server, rows, answers, &AtomicBool::new(false), |_, _| {
        Step::Done
    })
}

/// Asks with follow-ups, and a flag to interrupt by.
pub(crate) fn call_with(
    server: &Server,
    rows: usize,
    answers: Option<&Path>,
    cancel: &AtomicBool,
    next: impl Fn(usize, &[Answer]) -> Step + Sync,
) -> Called {
    let log = Mutex::new(Vec::new());
    let mut settled = BTreeMap::new();
    let context = CallContext {
        seed: 1,
        step: 0,
        threads: 1,
        cancel,
        log: &|level, line| log.lock().unwrap().push(format!("{level:?}: {line}")),
        progress: &|_, _| {},
        answers: None,
    };
    let summary = ask(
        server,
        rows,
        |row| Ok(question(row)),
        next,
        &mut |row, end| {
            assert!(settled.insert(row, end).is_none(), "row {row} twice");
            Ok(())
        },
        &context,
        answers,
    );
    Called {
        summary,
        settled,
        log: log.into_inner().unwrap(),
    }
}
