//! Batches of which it is not clear who has what: answers of other calls, batches that may have been made, results that are gone.

use super::*;

/// Asks about all rows in a batch and interrupts it, so that the batch is open and its id known.
fn leave_open(batches: &Batches, server: &Server, answers: &Path) {
    let cancel = AtomicBool::new(false);
    let called = thread::scope(|scope| {
        scope.spawn(|| {
            while batches.ids().is_empty() {
                thread::sleep(Duration::from_millis(1));
            }
            cancel.store(true, Ordering::Relaxed);
        });
        call_with(server, ROWS, Some(answers), &cancel, |_, _| Step::Done)
    });
    let code = called.summary.as_ref().unwrap_err().code;
    assert_eq!(code, ErrorCode::CANCELLED);
    let folder = Folder::open(answers).unwrap();
    assert!(folder.batches()[0].0.id.is_some());
}

/// The first reading has gone over the others' answers when it is cut; the second does not meet them again.
#[test]
fn answers_of_other_calls_stay_at_the_server_though_the_results_were_cut() {
    let dir = tempfile::tempdir().unwrap();
    let answers = dir.path().join("answers");
    let batches = Batches::new(3, |params, _| answered(params));
    let reads = AtomicUsize::new(0);
    let (server, singles) = start_with(&batches, move |seen, act| match act {
        Act::Reply { body, .. }
            if seen.path.ends_with("/results") && reads.fetch_add(1, Ordering::Relaxed) == 0 =>
        {
            // All lines but the last one, which is a row's of the first ten.
            let lines: Vec<&str> = body.lines().collect();
            Act::reply(200, lines[..lines.len() - 1].join("\n") + "\n")
        }
        act => act,
    });
    leave_open(&batches, &with(server.url(), dir.path(), true), &answers);
    let few = call(&with(server.url(), dir.path(), false), 10, Some(&answers));
    all_are_there(&few, 10);
    let folder = Folder::open(&answers).unwrap();
    assert_eq!(
        folder.batches()[0].0.ended,
        None,
        "others have answers in it"
    );
    let all = call(&with(server.url(), dir.path(), true), ROWS, Some(&answers));
    all_are_there(&all, ROWS);
    assert_eq!(batches.sizes(), [ROWS - 1]);
    paid_once(&batches, singles.load(Ordering::Relaxed), ROWS);
}

/// A server that makes the batch, and replies something else once.
#[test]
fn a_batch_that_may_have_been_made_is_looked_for_whatever_the_reply_says_of_another_try() {
    for status in [408, 409, 500] {
        let dir = tempfile::tempdir().unwrap();
        let answers = dir.path().join("answers");
        let batches = Batches::new(0, |params, _| answered(params));
        let posts = AtomicUsize::new(0);
        let (server, singles) = start_with(&batches, move |seen, act| {
            let is_post = seen.method == "POST" && seen.path.ends_with("/batches");
            if is_post && posts.fetch_add(1, Ordering::Relaxed) == 0 {
                return Act::reply(status, "oops").with("x-should-retry", "false");
            }
            act
        });
        let claude = with(server.url(), dir.path(), true);
        all_are_there(&call(&claude, ROWS, Some(&answers)), ROWS);
        assert_eq!(batches.sizes(), [ROWS - 1]);
        paid_once(&batches, singles.load(Ordering::Relaxed), ROWS);
    }
}

#[test]
fn a_batch_whose_results_the_server_has_taken_away_is_asked_again_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let answers = dir.path().join("answers");
    let batches = Batches::new(3, |params, _| answered(params));
    let archived = Arc::new(AtomicBool::new(false));
    let is_archived = Arc::clone(&archived);
    let (server, _) = start_with(&batches, move |seen, act| match act {
        Act::Reply { body, .. }
            if seen.path.ends_with("/msgbatch_0") && is_archived.load(Ordering::Relaxed) =>
        {
            let mut batch: Value = finegrain_sdk::serde_json::from_str(&body).unwrap();
            batch["processing_status"] = "ended".into();
            batch["archived_at"] = batch["created_at"].clone();
            Act::reply(200, batch.to_string())
        }
        act => act,
    });
    let claude = with(server.url(), dir.path(), true);
    leave_open(&batches, &claude, &answers);
    archived.store(true, Ordering::Relaxed);
    let called = call(&claude, ROWS, Some(&answers));
    all_are_there(&called, ROWS);
    let says = |line: &String| line.contains("msgbatch_0 is older than the server keeps results");
    assert!(called.log.iter().any(says), "{:?}", called.log);
    let folder = Folder::open(&answers).unwrap();
    assert_eq!(folder.batches()[0].0.ended.as_deref(), Some("gone"));
    assert_eq!(batches.sizes(), [ROWS - 1, ROWS - 1]);
}

#[test]
fn a_server_that_takes_no_batch_for_limits_ends_the_call() {
    let dir = tempfile::tempdir().unwrap();
    let answers = dir.path().join("answers");
    let batches = Batches::new(0, |params, _| answered(params));
    let (server, _) = start_with(&batches, |seen, act| {
        if seen.method == "POST" && seen.path.ends_with("/batches") {
            return Act::reply(429, "slow").with("retry-after-ms", "1");
        }
        act
    });
    let called = call(&with(server.url(), dir.path(), true), ROWS, Some(&answers));
    assert!(
        called.error().contains("takes no batch, 51 times"),
        "{}",
        called.error()
    );
    let waits = called
        .log
        .iter()
        .filter(|line| line.contains("the batch waits"));
    assert_eq!(waits.count(), 50);
    let folder = Folder::open(&answers).unwrap();
    assert_eq!(folder.batches()[0].0.ended.as_deref(), Some("refused"));
}

/// What the open batch costs is spent already, though this call asks singly.
#[test]
fn a_budget_is_not_passed_beside_a_batch_that_is_at_work() {
    let dir = tempfile::tempdir().unwrap();
    let answers = dir.path().join("answers");
    let batches = Batches::new(3, |params, _| answered(params));
    let (server, _) = start(&batches);
    leave_open(&batches, &with(server.url(), dir.path(), true), &answers);
    // Enough for the batch and its single one, and for a few questions more.
    let cap = Usd::from_pico(HALF.pico() * (ROWS as u64 - 1) + 9 * ANSWER.pico());
    let options = ServerOptions {
        model: MODEL.to_owned(),
        base_url: server.url(),
        prices: Some(prices(dir.path())),
        max_tokens: 64,
        budget_usd: Some(cap.dollars()),
        ..ServerOptions::default()
    };
    let claude = Server::anthropic("test", &options, &own(false)).unwrap();
    let called = call(&claude, 2 * ROWS, Some(&answers));
    assert!(called.error().contains("budget"), "{}", called.error());
    let folder = Folder::open(&answers).unwrap();
    let spent = folder.list().unwrap().into_iter();
    let spent = spent.filter_map(|it| it.record.picodollars).sum::<u64>();
    assert!(Usd::from_pico(spent) <= cap, "{}", Usd::from_pico(spent));
    assert_eq!(
        batches.sizes(),
        [ROWS - 1],
        "what was asked for was single questions"
    );
}
