//! Fields that a server refuses.

use std::sync::atomic::AtomicBool;

use finegrain_model_server::options::ServerOptions;
use finegrain_model_server::testing::{Act, TestServer, openai_error};
use finegrain_model_server::{Schema, Step, ask};
use finegrain_sdk::CallContext;
use finegrain_sdk::serde_json::json;

use crate::support::{call, chat, chats, options, question};

/// A server that takes neither `max_tokens` nor a schema.
fn picky() -> TestServer {
    TestServer::start(|seen| {
        let refuse = |field: &str| {
            let words =
                format!("Unsupported parameter: '{field}' is not supported with this model.");
            let error = openai_error(
                "invalid_request_error",
                "unsupported_parameter",
                Some(field),
                &words,
            );
            Act::reply(400, error)
        };
        for field in ["max_tokens", "response_format"] {
            if seen.body.get(field).is_some() {
                return refuse(field);
            }
        }
        chats(seen.text())
    })
    .unwrap()
}

#[test]
fn a_field_that_is_refused_by_name_is_left_out_from_there_on() {
    let server = picky();
    let mut options = options(&server);
    options.concurrency = 1;
    let called = call(&chat(&options), 5, None);
    assert_eq!(called.settled.len(), 5);
    assert_eq!(server.count(), 6, "one refusal for all");
    let last = server.requests().pop().unwrap();
    assert_eq!(last.path, "/chat/completions");
    assert_eq!(last.body["max_completion_tokens"], 4096);
}

#[test]
fn a_replay_finds_answers_in_the_form_in_which_they_were_asked() {
    let dir = tempfile::tempdir().unwrap();
    let server = picky();
    call(&chat(&options(&server)), 3, Some(dir.path()));
    let count = server.count();
    let replay = ServerOptions {
        replay: true,
        ..options(&server)
    };
    let called = call(&chat(&replay), 3, Some(dir.path()));
    assert_eq!(called.text(2), "question 2");
    assert_eq!(server.count(), count);
}

#[test]
fn a_refused_schema_is_left_out_and_the_answer_says_so() {
    let server = picky();
    let context = CallContext {
        seed: 1,
        step: 0,
        threads: 1,
        cancel: &AtomicBool::new(false),
        log: &|_, _| {},
        progress: &|_, _| {},
        answers: None,
    };
    let mut structured = Vec::new();
    ask(
        &chat(&options(&server)),
        2,
        |row| {
            let mut question = question(row);
            question.schema = Some(Schema {
                name: "verdict".to_owned(),
                schema: json!({"type": "object"}),
            });
            Ok(question)
        },
        |_, _| Step::Done,
        &mut |_, settled| {
            structured.push(settled.tries[0].structured);
            Ok(())
        },
        &context,
        None,
    )
    .unwrap();
    assert_eq!(structured, [false, false]);
}
