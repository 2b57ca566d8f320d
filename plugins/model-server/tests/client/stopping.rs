//! Ends of a call before its rows end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use finegrain_model_server::testing::{Act, TestServer, anthropic_error};
use finegrain_model_server::{Step, ask};
use finegrain_sdk::{CallContext, Error, ErrorCode};

use crate::support::{call, call_with, claude, options, question, says};

#[test]
fn a_refused_key_ends_the_call_at_once_and_no_row_is_said_to_have_failed() {
    for (status, kind) in [
        (401, "authentication_error"),
        (403, "permission_error"),
        (402, "billing_error"),
        (404, "not_found_error"),
    ] {
        let server =
            TestServer::start(move |_| Act::reply(status, anthropic_error(kind, "no such thing")))
                .unwrap();
        let called = call(&claude(&options(&server)), 100, None);
        assert!(called.settled.is_empty());
        assert!(
            called.error().contains("no such thing"),
            "{}",
            called.error()
        );
        assert!(server.count() <= 8, "{}", server.count());
    }
}

#[test]
fn a_redirect_is_not_followed_and_ends_the_call() {
    let elsewhere = TestServer::start(|seen| says(seen.text())).unwrap();
    let url = elsewhere.url();
    for status in [301, 302, 303, 307, 308] {
        let url = url.clone();
        let server =
            TestServer::start(move |_| Act::reply(status, "").with("location", url.clone()))
                .unwrap();
        let called = call(&claude(&options(&server)), 3, None);
        assert!(
            called.error().contains("not followed"),
            "{}",
            called.error()
        );
    }
    assert_eq!(elsewhere.count(), 0);
}

#[test]
fn an_interrupted_call_keeps_the_answers_under_way_and_hands_out_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let server = TestServer::start(|seen| {
        Act::After(Duration::from_millis(300), Box::new(says(seen.text())))
    })
    .unwrap();
    let cancel = AtomicBool::new(false);
    let start = Instant::now();
    let called = thread::scope(|scope| {
        scope.spawn(|| {
            while server.count() < 8 {
                thread::sleep(Duration::from_millis(1));
            }
            cancel.store(true, Ordering::Relaxed);
        });
        let server = claude(&options(&server));
        call_with(&server, 100, Some(dir.path()), &cancel, |_, _| Step::Done)
    });
    assert_eq!(
        called.summary.as_ref().unwrap_err().code,
        ErrorCode::CANCELLED
    );
    assert!(start.elapsed() < Duration::from_secs(5));
    // Eight were under way: all of them are answered, pushed and kept.
    assert_eq!((server.count(), called.settled.len()), (8, 8));
    let again = call(&claude(&options(&server)), 100, Some(dir.path()));
    assert_eq!((again.summary().kept, server.count()), (8, 100));
}

#[test]
fn a_sink_that_fails_ends_the_call_with_its_error() {
    let server = TestServer::start(|seen| says(seen.text())).unwrap();
    let context = CallContext {
        seed: 1,
        step: 0,
        threads: 1,
        cancel: &AtomicBool::new(false),
        log: &|_, _| {},
        progress: &|_, _| {},
        answers: None,
    };
    let error = ask(
        &claude(&options(&server)),
        1000,
        |row| Ok(question(row)),
        |_, _| Step::Done,
        &mut |_, _| Err(Error::plugin("the disk is full")),
        &context,
        None,
    )
    .unwrap_err();
    assert_eq!(error.message, "the disk is full");
    assert!(server.count() < 100, "{}", server.count());
}

#[test]
fn a_folder_that_is_none_ends_the_call_before_anything_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "no folder").unwrap();
    let server = TestServer::start(|seen| says(seen.text())).unwrap();
    let called = call(&claude(&options(&server)), 3, Some(&file));
    assert!(called.error().contains("file"), "{}", called.error());
    assert_eq!(server.count(), 0);
}

#[test]
fn a_question_that_cannot_be_made_ends_the_call_and_names_its_row() {
    let server = TestServer::start(|seen| says(seen.text())).unwrap();
    let context = CallContext {
        seed: 1,
        step: 0,
        threads: 1,
        cancel: &AtomicBool::new(false),
        log: &|_, _| {},
        progress: &|_, _| {},
        answers: None,
    };
    let error = ask(
        &claude(&options(&server)),
        3,
        |row| match row {
            2 => Err(Error::plugin("the template has no such field")),
            row => Ok(question(row)),
        },
        |_, _| Step::Done,
        &mut |_, _| Ok(()),
        &context,
        None,
    )
    .unwrap_err();
    assert_eq!(error.row, Some(2));
}
