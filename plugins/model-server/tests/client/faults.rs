//! Faults of servers and networks.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use finegrain_model_server::Step;
use finegrain_model_server::testing::{Act, TestServer, anthropic_error};
use std::sync::atomic::AtomicBool;

use crate::support::{call, call_with, chat, chats, claude, options, says};

/// A server that does `act` at the first request of each row, and answers at the second.
fn once(act: impl Fn() -> Act + Send + Sync + 'static) -> TestServer {
    TestServer::start(move |seen| match seen.again {
        0 => act(),
        _ => says(seen.text()),
    })
    .unwrap()
}

#[test]
fn an_answer_that_is_lost_is_asked_again_and_counted_as_possibly_paid() {
    let acts: [fn() -> Act; 7] = [
        || Act::Reset,
        || Act::Close,
        || Act::Garbage,
        || match says("Mars") {
            Act::Reply { body, .. } => Act::Cut(body),
            other => other,
        },
        || Act::reply(200, "<html>Please log in</html>"),
        || Act::reply(200, r#"{"type":"message","content":[]}"#),
        || Act::reply(504, anthropic_error("timeout_error", "late")),
    ];
    for act in acts {
        let server = once(act);
        let called = call(&claude(&options(&server)), 2, None);
        assert_eq!(called.text(1), "question 1", "{:?}", act());
        assert_eq!(called.summary().possibly_paid, 2, "{:?}", act());
        assert_eq!((server.count(), called.summary().retries), (4, 2));
    }
}

#[test]
fn an_error_of_the_server_is_asked_again_and_was_free() {
    for status in [409, 500, 503, 529] {
        let server = once(move || Act::reply(status, anthropic_error("api_error", "oops")));
        let called = call(&claude(&options(&server)), 2, None);
        assert_eq!(called.text(0), "question 0");
        assert_eq!(
            (called.summary().possibly_paid, called.summary().retries),
            (0, 2),
            "{status}"
        );
    }
}

#[test]
fn what_may_be_paid_is_sent_three_times_at_most() {
    let dir = tempfile::tempdir().unwrap();
    let server = TestServer::start(|_| Act::reply(200, "{\"type\":\"mess")).unwrap();
    let called = call(&claude(&options(&server)), 1, Some(dir.path()));
    assert_eq!(called.failure(0), "unreadable");
    assert_eq!((server.count(), called.summary().possibly_paid), (3, 3));
}

#[test]
fn a_row_that_the_server_rejects_fails_alone_and_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let server = TestServer::start(|seen| match seen.text() {
        "question 0" => Act::reply(400, anthropic_error("invalid_request_error", "bad text")),
        "question 1" => Act::reply(413, "<html><body>Request Entity Too Large</body></html>"),
        _ => says(seen.text()),
    })
    .unwrap();
    for count in [3, 5] {
        let called = call(&claude(&options(&server)), 3, Some(dir.path()));
        assert_eq!(
            (called.failure(0), called.failure(1)),
            ("rejected", "too large")
        );
        assert_eq!(called.text(2), "question 2");
        assert_eq!(server.count(), count);
    }
}

#[test]
fn a_refusal_for_limits_holds_everyone_as_long_as_the_server_says() {
    let came = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&came);
    let server = TestServer::start(move |seen| {
        noted.lock().unwrap().push(Instant::now());
        if (10..14).contains(&seen.number) {
            let error = anthropic_error("rate_limit_error", "slow down");
            return Act::reply(429, error).with("retry-after-ms", "400");
        }
        Act::After(Duration::from_millis(5), Box::new(says(seen.text())))
    })
    .unwrap();
    let called = call(&claude(&options(&server)), 40, None);
    assert_eq!(called.settled.len(), 40);
    assert_eq!(
        (called.summary().retries, called.summary().possibly_paid),
        (4, 0)
    );
    // Between those that were under way and the next there is the pause.
    let came = came.lock().unwrap();
    let longest = came.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(longest >= Some(Duration::from_millis(390)), "{longest:?}");
}

#[test]
fn limits_that_an_answer_says_are_used_up_are_waited_for() {
    let start = Instant::now();
    let server = TestServer::start(|seen| {
        let answer = chats(seen.text());
        if seen.number == 0 {
            return answer
                .with("x-ratelimit-remaining-requests", "0")
                .with("x-ratelimit-reset-requests", "300ms");
        }
        answer
    })
    .unwrap();
    let mut options = options(&server);
    options.concurrency = 1;
    let called = call(&chat(&options), 2, None);
    assert_eq!(called.settled.len(), 2);
    assert!(
        start.elapsed() >= Duration::from_millis(300),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn an_answer_that_does_not_come_in_time_is_given_up_and_may_be_paid() {
    let server = TestServer::start(|seen| match seen.again {
        0 => Act::Stall(Duration::from_secs(20)),
        _ => says(seen.text()),
    })
    .unwrap();
    let mut options = options(&server);
    options.timeout_seconds = 1;
    let start = Instant::now();
    let called = call(&claude(&options), 1, None);
    assert_eq!(called.text(0), "question 0");
    assert_eq!(called.summary().possibly_paid, 1);
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_panic_about_one_row_is_that_rows_failure() {
    let server = TestServer::start(|seen| says(seen.text())).unwrap();
    let cancel = AtomicBool::new(false);
    let called = call_with(&claude(&options(&server)), 10, None, &cancel, |row, _| {
        assert!(row != 3, "no threes");
        Step::Done
    });
    assert_eq!(called.settled.len(), 10);
    assert_eq!(called.failure(3), "panicked");
    assert_eq!(called.text(4), "question 4");
}
