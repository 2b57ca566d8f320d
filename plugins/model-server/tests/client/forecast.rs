//! Forecasts.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use finegrain_model_server::options::ServerOptions;
use finegrain_model_server::testing::{Act, TestServer};
use finegrain_model_server::{Answer, Server, Step, estimate, forecast};
use finegrain_sdk::forecast::{Bounds, Forecast};
use finegrain_sdk::{CallContext, Result};

use crate::money::{ANSWER, prices};
use crate::support::{call, call_with, chat, claude, options, question, says};

fn foresee_with(
    server: &Server,
    rows: usize,
    tries: u32,
    answers: Option<&Path>,
    next: impl Fn(usize, &[Answer]) -> Step + Sync,
) -> Result<Forecast> {
    let context = CallContext {
        seed: 1,
        step: 0,
        threads: 1,
        cancel: &AtomicBool::new(false),
        log: &|_, _| {},
        progress: &|_, _| {},
        answers,
    };
    forecast(
        server,
        rows,
        |row| Ok(question(row)),
        next,
        tries,
        &context,
        answers,
    )
}

fn foresee(server: &Server, rows: usize, tries: u32, answers: Option<&Path>) -> Forecast {
    foresee_with(server, rows, tries, answers, |_, _| Step::Done).unwrap()
}

#[test]
fn nothing_is_sent_no_key_is_read_and_no_folder_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let server = TestServer::start(|seen| says(seen.text())).unwrap();
    let options = ServerOptions {
        api_key_env: "FINEGRAIN_NO_SUCH_KEY".to_owned(),
        prices: Some(prices(dir.path())),
        budget_usd: Some(1.0),
        max_tokens: 100,
        ..options(&server)
    };
    let answers = dir.path().join("answers");
    for server in [claude(&options), chat(&options)] {
        let forecast = foresee(&server, 10, 3, Some(&answers));
        assert_eq!(forecast.requests, Bounds { from: 10, to: 30 });
        assert_eq!(
            forecast.output_tokens,
            Bounds {
                from: 200,
                to: 3000
            }
        );
        // A question is some 150 characters as it is sent; later tries read what was said before.
        let Bounds { from, to } = forecast.input_tokens;
        assert!((300..700).contains(&from), "{from}");
        assert_eq!(to, 3 * from + 10 * (200 + 400));
        // 1 USD per million in, 5 out.
        let usd = forecast.usd.unwrap();
        assert!((usd.from - (from as f64 + 5.0 * 200.0) / 1e6).abs() < 1e-12);
        assert!((usd.to - (to as f64 + 5.0 * 3000.0) / 1e6).abs() < 1e-12);
        assert_eq!(
            (forecast.budget_usd, forecast.spent_usd),
            (Some(1.0), Some(0.0))
        );
        assert_eq!((forecast.kept, forecast.measured_on), (0, 0));
    }
    assert_eq!(server.count(), 0);
    assert!(!answers.exists());
}

#[test]
fn without_a_price_the_cost_is_unknown_and_not_nothing() {
    let server = TestServer::start(|seen| says(seen.text())).unwrap();
    let forecast = foresee(&claude(&options(&server)), 3, 1, None);
    assert_eq!((forecast.usd, forecast.spent_usd), (None, None));
    assert_eq!(forecast.requests, Bounds { from: 3, to: 3 });
}

#[test]
fn what_is_kept_is_not_asked_again_and_tells_how_long_answers_are() {
    let dir = tempfile::tempdir().unwrap();
    let answers = dir.path().join("answers");
    let server = TestServer::start(|seen| says(seen.text())).unwrap();
    let claude = claude(&ServerOptions {
        prices: Some(prices(dir.path())),
        max_tokens: 100,
        ..options(&server)
    });
    call(&claude, 6, Some(&answers));
    let forecast = foresee(&claude, 10, 2, Some(&answers));
    assert_eq!((forecast.kept, forecast.measured_on), (6, 6));
    assert_eq!(forecast.requests, Bounds { from: 4, to: 8 });
    // The server counts 100 tokens in and 20 out for every question of this test.
    assert_eq!(forecast.input_tokens.from, 400);
    assert_eq!(forecast.output_tokens, Bounds { from: 80, to: 800 });
    let spent = forecast.spent_usd.unwrap();
    assert!((spent - 6.0 * ANSWER.dollars()).abs() < 1e-12);
    assert!((forecast.usd.unwrap().from - 4.0 * ANSWER.dollars()).abs() < 1e-12);
    let all = foresee(&claude, 6, 2, Some(&answers));
    assert_eq!(all.requests, Bounds::default());
    assert_eq!(all.usd, Some(Bounds::default()));
    assert_eq!(server.count(), 6);
}

#[test]
fn a_row_on_its_second_try_has_one_try_less_and_equal_questions_are_one() {
    let dir = tempfile::tempdir().unwrap();
    let server = TestServer::start(|seen| match seen.text() {
        "again" => Act::reply(400, "{}"),
        text => says(text),
    })
    .unwrap();
    let claude = claude(&options(&server));
    let next = |row: usize, tries: &[Answer]| match tries {
        [only] => Step::Ask(question(row).then(only.text().unwrap_or_default(), "again")),
        _ => Step::Done,
    };
    let cancel = AtomicBool::new(false);
    call_with(&claude, 1, Some(dir.path()), &cancel, next);
    let forecast = foresee_with(&claude, 1, 2, Some(dir.path()), next).unwrap();
    assert_eq!(forecast.kept, 1);
    assert_eq!(forecast.requests, Bounds { from: 1, to: 1 });

    let context = CallContext {
        seed: 1,
        step: 0,
        threads: 1,
        cancel: &cancel,
        log: &|_, _| {},
        progress: &|_, _| {},
        answers: None,
    };
    let same = finegrain_model_server::forecast(
        &claude,
        5,
        |row| Ok(question(row % 2)),
        |_, _| Step::Done,
        1,
        &context,
        None,
    )
    .unwrap();
    assert_eq!(same.requests, Bounds { from: 2, to: 2 });
    assert!(same.input_tokens.from >= 2 * estimate::likely("question 1"));
}
