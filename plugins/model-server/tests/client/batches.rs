//! Batches: results in any order, kills, interrupts, expiry; and every question is paid once.

mod doubts;
mod fates;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use finegrain_model_server::answers::Folder;
use finegrain_model_server::options::{AnthropicOptions, ServerOptions};
use finegrain_model_server::testing::{Act, Batches, Fate, Seen, TestServer, anthropic};
use finegrain_model_server::{Answer, Server, Step, Usd, cancel_batch};
use finegrain_sdk::ErrorCode;
use finegrain_sdk::serde_json::{Value, json};

use crate::money::{self, ANSWER};
use crate::support::{Called, MODEL, call, call_with, question, says};

const URL: &str = "FINEGRAIN_BATCHES_URL";
const FOLDER: &str = "FINEGRAIN_BATCHES_FOLDER";
/// Rows of most tests: one goes singly, the others in a batch.
const ROWS: usize = 30;

/// What one answer in a batch costs: half.
const HALF: Usd = Usd::from_pico(ANSWER.pico() / 2);

/// A file with the test model's price, in a batch the half.
fn prices(folder: &Path) -> String {
    let path = money::prices(folder);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text + "batch = 0.5\n").unwrap();
    path
}

/// The text of the last message.
fn text(params: &Value) -> &str {
    let messages = params["messages"].as_array().unwrap();
    messages.last().unwrap()["content"].as_str().unwrap()
}

fn answered(params: &Value) -> Fate {
    let content = json!([{"type": "text", "text": format!("to {}", text(params))}]);
    Fate::Succeeded(anthropic(MODEL, &content, "end_turn"))
}

/// A server of single answers and these batches, and how many single questions it was asked.
fn start(batches: &Batches) -> (TestServer, Arc<AtomicUsize>) {
    start_with(batches, |_, act| act)
}

fn start_with(
    batches: &Batches,
    change: impl Fn(&Seen, Act) -> Act + Send + Sync + 'static,
) -> (TestServer, Arc<AtomicUsize>) {
    let (batches, singles) = (batches.clone(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&singles);
    let server = TestServer::start_for_all(move |seen| {
        if let Some(act) = batches.act(seen) {
            return change(seen, act);
        }
        if seen.method == "GET" {
            return Act::reply(404, "{}");
        }
        counted.fetch_add(1, Ordering::Relaxed);
        says(&format!("to {}", seen.text()))
    });
    (server.unwrap(), singles)
}

fn with(url: String, folder: &Path, batch: bool) -> Server {
    let options = ServerOptions {
        model: MODEL.to_owned(),
        base_url: url,
        prices: Some(prices(folder)),
        max_tokens: 64,
        ..ServerOptions::default()
    };
    Server::anthropic("test", &options, &own(batch)).unwrap()
}

fn own(batch: bool) -> AnthropicOptions {
    AnthropicOptions {
        batch,
        batch_poll_seconds: 1,
        ..AnthropicOptions::default()
    }
}

fn all_are_there(called: &Called, rows: usize) {
    assert_eq!(called.settled.len(), rows, "{:?}", called.log);
    for row in 0..rows {
        assert_eq!(called.text(row), format!("to question {row}"));
    }
}

/// Every question was answered once, in a batch or singly.
fn paid_once(batches: &Batches, singles: usize, rows: usize) {
    let paid = batches.paid();
    assert!(paid.values().all(|times| *times == 1), "{paid:?}");
    assert_eq!(paid.len() + singles, rows, "{paid:?}");
}

#[test]
fn results_in_any_order_go_to_their_rows_at_half_the_price_and_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let answers = dir.path().join("answers");
    let batches = Batches::new(1, |params, _| answered(params));
    let (server, singles) = start(&batches);
    let claude = with(server.url(), dir.path(), true);
    let called = call(&claude, ROWS, Some(&answers));
    all_are_there(&called, ROWS);
    // One goes first, for a batch is only found to be wrong at its end.
    assert_eq!(singles.load(Ordering::Relaxed), 1);
    assert_eq!(batches.sizes(), [ROWS - 1]);
    paid_once(&batches, 1, ROWS);
    let batch_usd = Usd::from_pico(HALF.pico() * (ROWS as u64 - 1));
    assert_eq!(called.summary().usd, Some(ANSWER.plus(batch_usd)));
    assert_eq!(
        (called.summary().asked, called.summary().kept),
        (ROWS as u64, 0)
    );
    let folder = Folder::open(&answers).unwrap();
    let verified = folder.verify().unwrap();
    assert_eq!((verified.sound, verified.lost), (ROWS, 0), "{verified:?}");
    let tiers = folder
        .list()
        .unwrap()
        .into_iter()
        .filter_map(|it| it.record.tier);
    assert_eq!(tiers.filter(|tier| tier == "batch").count(), ROWS - 1);
    let known = folder.batches();
    assert_eq!((known.len(), known[0].1), (1, ROWS - 1));
    assert_eq!(known[0].0.id.as_deref(), Some("msgbatch_0"));
    assert_eq!(known[0].0.ended.as_deref(), Some("read"));

    // Again, and without batches: nothing is sent, for the key is the same.
    let before = server.count();
    for batch in [true, false] {
        let again = call(&with(server.url(), dir.path(), batch), ROWS, Some(&answers));
        all_are_there(&again, ROWS);
        assert_eq!(again.summary().kept, ROWS as u64);
    }
    assert_eq!(server.count(), before);
    // A proven shape needs no single question: ten more rows are too few for a batch, thirty are not.
    all_are_there(&call(&claude, 2 * ROWS, Some(&answers)), 2 * ROWS);
    assert_eq!(batches.sizes(), [ROWS - 1, ROWS]);
    all_are_there(&call(&claude, 2 * ROWS + 10, Some(&answers)), 2 * ROWS + 10);
    assert_eq!(batches.sizes(), [ROWS - 1, ROWS]);
    paid_once(&batches, 11, 2 * ROWS + 10);
}

#[test]
fn a_call_without_a_folder_is_refused_before_anything_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let batches = Batches::new(0, |params, _| answered(params));
    let (server, singles) = start(&batches);
    let called = call(&with(server.url(), dir.path(), true), ROWS, None);
    assert!(called.error().contains("folder"), "{}", called.error());
    assert_eq!(
        (singles.load(Ordering::Relaxed), batches.ids().len()),
        (0, 0)
    );
}

#[test]
fn a_kill_between_intent_and_id_never_pays_twice() {
    let dir = tempfile::tempdir().unwrap();
    let batches = Batches::new(2, |params, _| answered(params));
    // The server makes the batch, and its reply does not come in time.
    let (server, singles) = start_with(&batches, |seen, act| {
        if seen.method == "POST" {
            Act::After(Duration::from_mins(1), Box::new(act))
        } else {
            act
        }
    });
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "batches::child", "--ignored", "--nocapture"])
        .env(URL, server.url())
        .env(FOLDER, dir.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while batches.ids().is_empty() {
        if let Some(status) = child.try_wait().unwrap() {
            panic!("the child ended by itself: {status}");
        }
        thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let answers = dir.path().join("answers");
    let folder = Folder::open(&answers).unwrap();
    assert_eq!(
        folder.batches()[0].0.id,
        None,
        "killed before it knew the id"
    );
    // Batches of others lie in the list too: older, of as many requests.
    let called = call(&with(server.url(), dir.path(), true), ROWS, Some(&answers));
    all_are_there(&called, ROWS);
    assert_eq!(batches.sizes(), [ROWS - 1]);
    paid_once(&batches, singles.load(Ordering::Relaxed), ROWS);
    let folder = Folder::open(&answers).unwrap();
    assert_eq!(folder.batches()[0].0.id.as_deref(), Some("msgbatch_0"));
    assert_eq!(folder.batches()[0].0.ended.as_deref(), Some("read"));
}

#[test]
#[ignore = "the child of the test above, which kills it"]
fn child() {
    let Ok(url) = env::var(URL) else {
        eprintln!("skipped: {URL} is not set, for this is no child of the test above");
        return;
    };
    let folder = PathBuf::from(env::var(FOLDER).unwrap());
    call(
        &with(url, &folder, true),
        ROWS,
        Some(&folder.join("answers")),
    );
}

#[test]
fn a_batch_that_never_arrived_is_posted_again_and_another_ones_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let answers = dir.path().join("answers");
    let posts = AtomicUsize::new(0);
    let batches = Batches::new(0, |params, _| answered(params));
    let posted = batches.clone();
    let server = TestServer::start_for_all(move |seen| {
        let is_post = seen.method == "POST" && seen.path.ends_with("/batches");
        if is_post && posts.fetch_add(1, Ordering::Relaxed) == 0 {
            // Somebody else's batch of the same size at the same time, and this one is lost.
            let mut other = seen.clone();
            for request in other.body["requests"].as_array_mut().unwrap() {
                request["custom_id"] = "other".into();
                request["params"] = json!({"messages": [{"content": "other"}]});
            }
            posted.act(&other);
            return Act::Reset;
        }
        match posted.act(seen) {
            Some(act) => act,
            None if seen.method == "GET" => Act::reply(404, "{}"),
            None => says(&format!("to {}", seen.text())),
        }
    })
    .unwrap();
    let called = call(&with(server.url(), dir.path(), true), ROWS, Some(&answers));
    all_are_there(&called, ROWS);
    assert_eq!(batches.sizes(), [ROWS - 1, ROWS - 1]);
    let mut paid = batches.paid();
    assert_eq!(paid.remove("other"), Some(ROWS - 1));
    assert!(paid.values().all(|times| *times == 1), "{paid:?}");
    let folder = Folder::open(&answers).unwrap();
    let ends: Vec<_> = folder
        .batches()
        .iter()
        .map(|it| it.0.ended.clone())
        .collect();
    assert_eq!(
        ends,
        [Some("never arrived".to_owned()), Some("read".to_owned())]
    );
}

#[test]
fn an_interrupt_leaves_the_batch_at_work_and_any_later_call_takes_its_answers() {
    let dir = tempfile::tempdir().unwrap();
    let answers = dir.path().join("answers");
    let batches = Batches::new(3, |params, _| answered(params));
    let (server, singles) = start(&batches);
    let cancel = AtomicBool::new(false);
    let called = thread::scope(|scope| {
        scope.spawn(|| {
            while batches.ids().is_empty() {
                thread::sleep(Duration::from_millis(1));
            }
            cancel.store(true, Ordering::Relaxed);
        });
        let claude = with(server.url(), dir.path(), true);
        call_with(&claude, ROWS, Some(&answers), &cancel, |_, _| Step::Done)
    });
    assert_eq!(
        called.summary.as_ref().unwrap_err().code,
        ErrorCode::CANCELLED
    );
    let said = called
        .log
        .iter()
        .any(|line| line.contains("msgbatch_0 goes on at the server"));
    assert!(said, "{:?}", called.log);
    // Fewer rows, and no batches asked for: the batch is waited for all the same, and what is another call's stays there.
    let few = call(&with(server.url(), dir.path(), false), 10, Some(&answers));
    all_are_there(&few, 10);
    let folder = Folder::open(&answers).unwrap();
    assert_eq!(
        (folder.batches()[0].0.ended.clone(), folder.batches()[0].1),
        (None, 9)
    );
    all_are_there(
        &call(&with(server.url(), dir.path(), true), ROWS, Some(&answers)),
        ROWS,
    );
    assert_eq!(batches.sizes(), [ROWS - 1]);
    paid_once(&batches, singles.load(Ordering::Relaxed), ROWS);
    let folder = Folder::open(&answers).unwrap();
    assert_eq!(folder.batches()[0].0.ended.as_deref(), Some("read"));
}

#[test]
fn further_tries_go_in_a_batch_where_they_are_many_and_singly_where_they_are_few() {
    for (refused, sizes, singly) in [(50, vec![59, 50], 1), (5, vec![59], 1 + 5)] {
        let dir = tempfile::tempdir().unwrap();
        let answers = dir.path().join("answers");
        let batches = Batches::new(0, |params, _| answered(params));
        let (server, singles) = start(&batches);
        let next = |row: usize, tries: &[Answer]| match tries {
            // The row that goes first has no second try.
            [only] if (1..=refused).contains(&row) => {
                Step::Ask(question(row).then(only.text().unwrap(), format!("again {row}")))
            }
            _ => Step::Done,
        };
        let claude = with(server.url(), dir.path(), true);
        let called = call_with(&claude, 60, Some(&answers), &AtomicBool::new(false), next);
        assert_eq!(called.settled.len(), 60, "{:?}", called.summary);
        assert_eq!(called.text(1), "to again 1");
        assert_eq!(called.settled[&1].tries.len(), 2);
        assert_eq!(
            (batches.sizes(), singles.load(Ordering::Relaxed)),
            (sizes, singly)
        );
        assert_eq!(called.summary().asked, 60 + refused as u64);
    }
}

#[test]
fn a_batch_has_as_many_questions_as_the_budget_reaches_at_half_the_price() {
    let dir = tempfile::tempdir().unwrap();
    let answers = dir.path().join("answers");
    let batches = Batches::new(0, |params, _| answered(params));
    let (server, singles) = start(&batches);
    let with_budget = |budget: f64| {
        let options = ServerOptions {
            model: MODEL.to_owned(),
            base_url: server.url(),
            prices: Some(prices(dir.path())),
            max_tokens: 64,
            budget_usd: Some(budget),
            ..ServerOptions::default()
        };
        Server::anthropic("test", &options, &own(true)).unwrap()
    };
    // A question costs 0.0001 in a batch, and some 0.0007 at most.
    let called = call(&with_budget(0.008), 100, Some(&answers));
    assert!(called.error().contains("budget"), "{}", called.error());
    let paid = batches.paid().len() as u64;
    let spent =
        Usd::from_pico(HALF.pico() * paid + ANSWER.pico() * singles.load(Ordering::Relaxed) as u64);
    assert!(spent <= Usd::from_dollars(0.008), "{spent}");
    assert!(paid > 20, "{:?}", batches.sizes());
    let called = call(&with_budget(1.0), 100, Some(&answers));
    all_are_there(&called, 100);
    paid_once(&batches, singles.load(Ordering::Relaxed), 100);
}
