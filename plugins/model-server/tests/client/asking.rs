//! Rows, follow-ups, and what is kept of them.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use finegrain_model_server::options::{AnthropicOptions, ServerOptions};
use finegrain_model_server::testing::{Act, TestServer};
use finegrain_model_server::{End, Question, Server, Step, ask};
use finegrain_sdk::CallContext;

use crate::support::{MODEL, call, call_with, claude, options, question, says, stops};

#[test]
fn every_row_is_pushed_once_with_its_own_answer_and_no_more_are_under_way_than_allowed() {
    let server = TestServer::start(|seen| {
        let answer = says(&format!("answer to {}", seen.text()));
        Act::After(Duration::from_millis(5), Box::new(answer))
    })
    .unwrap();
    let called = call(&claude(&options(&server)), 100, None);
    for row in 0..100 {
        assert_eq!(called.text(row), format!("answer to question {row}"));
    }
    assert!(
        (2..=8).contains(&server.most_under_way()),
        "{}",
        server.most_under_way()
    );
    let summary = called.summary();
    assert_eq!(
        (summary.settled, summary.asked, summary.kept),
        (100, 100, 0)
    );
    assert_eq!((summary.usage.input, summary.usage.output), (10_000, 2000));
    assert_eq!(summary.models[MODEL], 100);
    let request = &server.requests()[0];
    assert_eq!(request.path, "/v1/messages");
    assert_eq!(request.headers["anthropic-version"], "2023-06-01");
    assert_eq!(request.headers["content-type"], "application/json");
    assert!(
        !request.headers.contains_key("x-api-key"),
        "no key was named"
    );
    assert!(
        called
            .log
            .iter()
            .any(|line| line.contains("nothing is kept")),
        "{:?}",
        called.log
    );
}

#[test]
fn a_second_call_finds_all_answers_and_sends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = TestServer::start(|seen| says(seen.text())).unwrap();
    let first = call(&claude(&options(&server)), 20, Some(dir.path()));
    // Other settings, the same questions.
    let other = ServerOptions {
        concurrency: 3,
        timeout_seconds: 5,
        replay: true,
        ..options(&server)
    };
    let again = call(&claude(&other), 20, Some(dir.path()));
    assert_eq!(server.count(), 20);
    assert_eq!((again.summary().asked, again.summary().kept), (0, 20));
    for row in 0..20 {
        assert_eq!(first.text(row), again.text(row));
    }
}

#[test]
fn a_replay_names_the_first_row_and_key_that_are_not_there_after_pushing_those_that_are() {
    let dir = tempfile::tempdir().unwrap();
    let server = TestServer::start(|seen| says(seen.text())).unwrap();
    call(&claude(&options(&server)), 3, Some(dir.path()));
    let replay = ServerOptions {
        replay: true,
        ..options(&server)
    };
    let called = call(&claude(&replay), 5, Some(dir.path()));
    assert_eq!(called.settled.len(), 3);
    assert!(called.error().contains("2 rows") && called.error().contains("\"row-3\""));
    assert!(
        called.error().contains("with the key "),
        "{}",
        called.error()
    );
    assert_eq!(server.count(), 3);
}

#[test]
fn a_follow_up_is_a_question_of_its_own_and_is_kept_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let server = TestServer::start(|seen| match seen.text() {
        "less" => says("small"),
        _ => says("large"),
    })
    .unwrap();
    let next = |row: usize, tries: &[finegrain_model_server::Answer]| match tries {
        [only] if row == 1 => Step::Ask(question(row).then(only.text().unwrap(), "less")),
        _ => Step::Done,
    };
    let cancel = AtomicBool::new(false);
    for sent in [3, 3] {
        let called = call_with(
            &claude(&options(&server)),
            2,
            Some(dir.path()),
            &cancel,
            next,
        );
        assert_eq!((called.text(0), called.text(1)), ("large", "small"));
        assert_eq!(called.settled[&1].tries.len(), 2);
        assert_ne!(
            called.settled[&1].tries[0].key,
            called.settled[&1].tries[1].key
        );
        assert_eq!(server.count(), sent);
    }
}

#[test]
fn a_follow_up_without_a_new_question_is_a_named_failure_and_no_circle() {
    let server = TestServer::start(|seen| says(seen.text())).unwrap();
    let cancel = AtomicBool::new(false);
    let called = call_with(&claude(&options(&server)), 1, None, &cancel, |row, _| {
        Step::Ask(question(row))
    });
    assert_eq!(called.failure(0), "asked twice");
}

#[test]
fn an_answer_that_was_cut_off_is_asked_once_with_twice_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let server = TestServer::start(
        |seen| match (seen.text(), seen.body["max_tokens"].as_u64()) {
            ("question 0", Some(8192)) => says("whole"),
            _ => stops("a par", "max_tokens"),
        },
    )
    .unwrap();
    for _ in 0..2 {
        let called = call(&claude(&options(&server)), 2, Some(dir.path()));
        assert_eq!(called.text(0), "whole");
        assert_eq!(called.failure(1), "cut off");
        assert_eq!(server.count(), 4);
    }
}

#[test]
fn an_empty_answer_is_asked_once_more_and_both_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let server = TestServer::start(|seen| match (seen.text(), seen.again) {
        ("question 0", 1) => says("there"),
        _ => says(" "),
    })
    .unwrap();
    for _ in 0..2 {
        let called = call(&claude(&options(&server)), 2, Some(dir.path()));
        assert_eq!(called.text(0), "there");
        assert_eq!(called.failure(1), "empty");
        assert_eq!(server.count(), 4);
    }
}

#[test]
fn refusals_are_counted_by_category_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let server = TestServer::start(|_| stops("", "refusal")).unwrap();
    for _ in 0..2 {
        let called = call(&claude(&options(&server)), 4, Some(dir.path()));
        assert!(matches!(called.settled[&0].end, End::Refused { .. }));
        assert_eq!(called.summary().refused["unnamed"], 4);
        assert_eq!(server.count(), 4);
    }
}

#[test]
fn rows_with_the_same_question_are_asked_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = TestServer::start(|seen| {
        Act::After(Duration::from_millis(30), Box::new(says(seen.text())))
    })
    .unwrap();
    let mut rows = Vec::new();
    let context = CallContext {
        seed: 1,
        step: 0,
        threads: 1,
        cancel: &AtomicBool::new(false),
        log: &|_, _| {},
        progress: &|_, _| {},
        answers: None,
    };
    let summary = ask(
        &claude(&options(&server)),
        6,
        |row| {
            Ok(Question::new(
                format!("row-{row}"),
                "s",
                format!("{}", row % 2),
            ))
        },
        |_, _| Step::Done,
        &mut |row, _| {
            rows.push(row);
            Ok(())
        },
        &context,
        Some(dir.path()),
    )
    .unwrap();
    assert_eq!((server.count(), rows.len()), (2, 6));
    assert_eq!((summary.asked, summary.kept), (2, 4));
}

#[test]
fn no_rows_are_no_error_and_nothing_is_sent_or_written() {
    let dir = tempfile::tempdir().unwrap();
    let server = TestServer::start(|seen| says(seen.text())).unwrap();
    let called = call(&claude(&options(&server)), 0, Some(dir.path()));
    assert_eq!(called.summary().settled, 0);
    assert_eq!(server.count(), 0);
    assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none());
}

#[test]
fn a_model_that_changes_under_its_name_is_warned_of() {
    let dir = tempfile::tempdir().unwrap();
    let server = TestServer::start(|seen| {
        let Act::Reply { status, body, .. } = says("Mars") else {
            unreachable!()
        };
        let name = format!("{MODEL}-{}", seen.text());
        Act::reply(status, body.replace(MODEL, &name))
    })
    .unwrap();
    let called = call(&claude(&options(&server)), 2, Some(dir.path()));
    assert_eq!(called.summary().models.len(), 2);
    let warned = called
        .log
        .iter()
        .filter(|line| line.starts_with("Warn") && line.contains("before"));
    assert_eq!(warned.count(), 1, "{:?}", called.log);
}

#[test]
fn options_that_name_no_model_or_no_address_are_refused() {
    let make =
        |options: ServerOptions| Server::anthropic("test", &options, &AnthropicOptions::default());
    assert!(
        make(ServerOptions::default())
            .unwrap_err()
            .message
            .contains("`model`")
    );
    let wrong = ServerOptions {
        model: MODEL.to_owned(),
        base_url: "localhost:8080".to_owned(),
        ..ServerOptions::default()
    };
    assert!(make(wrong).unwrap_err().message.contains("base_url"));
}
