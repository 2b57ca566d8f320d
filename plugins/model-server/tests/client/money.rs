//! Budgets.

use std::fs;
use std::path::Path;
use std::time::Duration;

use finegrain_model_server::options::{AnthropicOptions, ServerOptions};
use finegrain_model_server::testing::{Act, TestServer};
use finegrain_model_server::{Server, Usd};
use finegrain_sdk::serde_json::json;

use crate::support::{MODEL, call, claude, options, says};

/// What one answer of the test server costs: 100 tokens in, 20 out.
pub(crate) const ANSWER: Usd = Usd::from_pico(100 * 1_000_000 + 20 * 5_000_000);

/// A file with a price of the test model: 1 USD per million in, 5 out.
pub(crate) fn prices(folder: &Path) -> String {
    let path = folder.join("prices.toml");
    let text = format!(
        "[[price]]\nmodels = [\"{MODEL}\"]\nfrom = \"2026-01-01\"\ninput = 1.0\noutput = 5.0\n"
    );
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn the_call_ends_before_the_cap_and_goes_on_with_a_higher_one() {
    let dir = tempfile::tempdir().unwrap();
    let answers = dir.path().join("answers");
    let server =
        TestServer::start(|seen| Act::After(Duration::from_millis(2), Box::new(says(seen.text()))))
            .unwrap();
    let with = |budget: f64| {
        claude(&ServerOptions {
            max_tokens: 64,
            prices: Some(prices(dir.path())),
            budget_usd: Some(budget),
            ..options(&server)
        })
    };
    // 30 answers at 0.0002 USD would be 0.006.
    let called = call(&with(0.004), 30, Some(&answers));
    assert!(
        called.error().contains("budget of $0.004"),
        "{}",
        called.error()
    );
    let paid = server.count();
    assert!(Usd::from_pico(ANSWER.pico() * paid as u64) <= Usd::from_dollars(0.004));
    assert!(paid >= 10, "{paid}: the budget is used");
    assert_eq!(called.settled.len(), paid, "what was paid was pushed");
    // What is spent counts in the next call too.
    let again = call(&with(0.004), 30, Some(&answers));
    assert!(again.summary.is_err());
    assert_eq!((server.count(), again.settled.len()), (paid, paid));
    let more = call(&with(0.02), 30, Some(&answers));
    assert_eq!(more.settled.len(), 30);
    assert_eq!(server.count(), 30);
    let asked = more.summary().asked;
    assert_eq!(
        more.summary().usd,
        Some(Usd::from_pico(ANSWER.pico() * asked))
    );
    // All of it is there: no budget is too small for what is paid already.
    assert_eq!(call(&with(0.0), 30, Some(&answers)).settled.len(), 30);
}

#[test]
fn answers_from_before_there_was_a_price_count_too() {
    let dir = tempfile::tempdir().unwrap();
    let answers = dir.path().join("answers");
    let server = TestServer::start(|seen| says(seen.text())).unwrap();
    let unpriced = ServerOptions {
        max_tokens: 64,
        concurrency: 1,
        ..options(&server)
    };
    call(&claude(&unpriced), 5, Some(&answers));
    let priced = ServerOptions {
        prices: Some(prices(dir.path())),
        // Five answers are 0.001, and what one can cost at most is some 0.0015.
        budget_usd: Some(0.0026),
        ..unpriced
    };
    let called = call(&claude(&priced), 30, Some(&answers));
    assert!(called.error().contains("budget"), "{}", called.error());
    assert_eq!(server.count(), 6);
}

#[test]
fn a_request_that_a_killed_process_had_under_way_counts_at_its_most() {
    let dir = tempfile::tempdir().unwrap();
    let server = TestServer::start(|seen| says(seen.text())).unwrap();
    let options = ServerOptions {
        max_tokens: 64,
        prices: Some(prices(dir.path())),
        budget_usd: Some(0.0026),
        ..options(&server)
    };
    let key = call(&claude(&options), 1, None).settled[&0].tries[0]
        .key
        .clone();
    let sent = json!({"v": 1, "line": "sent", "id": "0/0", "key": key, "picodollars": 2_000_000_000_u64, "at": ""});
    let answers = dir.path().join("answers");
    fs::create_dir(&answers).unwrap();
    fs::write(answers.join("0.jsonl"), format!("{sent}\n")).unwrap();
    // 0.002 may be paid, and the next may cost 0.0015.
    let called = call(&claude(&options), 1, Some(&answers));
    assert!(
        called.error().contains("$0.002000 is spent"),
        "{}",
        called.error()
    );
    assert_eq!(server.count(), 1);
    // It turns out to have been free.
    let unpaid = json!({"v": 1, "line": "unpaid", "id": "0/0"});
    fs::write(answers.join("1.jsonl"), format!("{unpaid}\n")).unwrap();
    assert_eq!(call(&claude(&options), 1, Some(&answers)).settled.len(), 1);
}

#[test]
fn a_budget_without_a_price_is_refused() {
    let options = ServerOptions {
        model: "no-such-model".to_owned(),
        budget_usd: Some(1.0),
        ..ServerOptions::default()
    };
    let own = AnthropicOptions::default();
    let error = Server::anthropic("test", &options, &own).unwrap_err();
    assert!(error.message.contains("\"no-such-model\""), "{error}");
}

#[test]
fn without_a_price_the_cost_is_unknown_and_not_nothing() {
    let server = TestServer::start(|seen| says(seen.text())).unwrap();
    let called = call(&claude(&options(&server)), 1, None);
    assert_eq!(called.summary().usd, None);
    assert!(called.summary().to_string().contains("price not known"));
}
