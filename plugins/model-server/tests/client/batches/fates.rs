//! What becomes of a batch and its questions: expired, refused, cancelled, cut off, forgotten.

use super::*;

#[test]
fn what_expired_is_asked_again_and_what_was_finished_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let answers = dir.path().join("answers");
    let batches = Batches::new(0, |params, before| {
        let row: usize = text(params)
            .trim_start_matches("question ")
            .parse()
            .unwrap();
        if before == 0 && row.is_multiple_of(2) {
            Fate::Expired
        } else {
            answered(params)
        }
    });
    let (server, singles) = start(&batches);
    let called = call(&with(server.url(), dir.path(), true), 60, Some(&answers));
    all_are_there(&called, 60);
    assert_eq!(batches.sizes(), [59, 29]);
    paid_once(&batches, singles.load(Ordering::Relaxed), 60);
    assert_eq!(called.summary().retries, 29);
}

#[test]
fn what_always_expires_fails_as_unavailable_and_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let answers = dir.path().join("answers");
    let batches = Batches::new(0, |_, _| Fate::Expired);
    let (server, _) = start(&batches);
    let called = call(&with(server.url(), dir.path(), true), ROWS, Some(&answers));
    assert_eq!(called.failure(ROWS - 1), "unavailable");
    assert_eq!(batches.sizes(), [29, 29, 29]);
    assert_eq!(Folder::open(&answers).unwrap().list().unwrap().len(), 1);
}

#[test]
fn an_empty_account_ends_the_call_and_what_was_answered_is_pushed_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let answers = dir.path().join("answers");
    let batches = Batches::new(0, |params, before| {
        let row: usize = text(params)
            .trim_start_matches("question ")
            .parse()
            .unwrap();
        if before == 0 && row >= 10 {
            return Fate::Errored(
                "invalid_request_error",
                "Your credit balance is too low to access the Anthropic API.",
            );
        }
        answered(params)
    });
    let (server, singles) = start(&batches);
    let claude = with(server.url(), dir.path(), true);
    let called = call(&claude, ROWS, Some(&answers));
    assert!(
        called.error().contains("no money left"),
        "{}",
        called.error()
    );
    assert_eq!(called.settled.len(), 10);
    // With money, the rest and nothing else.
    all_are_there(&call(&claude, ROWS, Some(&answers)), ROWS);
    assert_eq!(batches.sizes(), [29, 20]);
    paid_once(&batches, singles.load(Ordering::Relaxed), ROWS);
}

#[test]
fn errors_of_single_lines_fail_their_rows_or_are_asked_again() {
    let dir = tempfile::tempdir().unwrap();
    let answers = dir.path().join("answers");
    let batches = Batches::new(0, |params, before| match (text(params), before) {
        ("question 5", _) => Fate::Errored("invalid_request_error", "not this one"),
        ("question 6", _) => Fate::Errored("invalid_request_error", "prompt is too long"),
        ("question 7", 0) => Fate::Errored("overloaded_error", "Overloaded"),
        _ => answered(params),
    });
    let (server, singles) = start(&batches);
    let called = call(&with(server.url(), dir.path(), true), ROWS, Some(&answers));
    assert_eq!(
        (called.failure(5), called.failure(6)),
        ("rejected", "too long")
    );
    // One that is left is too few for a batch and goes singly.
    assert_eq!(called.text(7), "to question 7");
    assert_eq!(
        (batches.sizes(), singles.load(Ordering::Relaxed)),
        (vec![29], 2)
    );
    let kept = Folder::open(&answers).unwrap().list().unwrap().len();
    assert_eq!(kept, ROWS - 2);
}

#[test]
fn a_batch_that_somebody_cancels_ends_the_call_and_the_next_asks_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let answers = dir.path().join("answers");
    let batches = Batches::new(1000, |params, before| {
        let row: usize = text(params)
            .trim_start_matches("question ")
            .parse()
            .unwrap();
        if before == 0 && row >= 10 {
            Fate::Canceled
        } else {
            answered(params)
        }
    });
    let looked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&looked);
    let (server, singles) = start_with(&batches, move |seen, act| {
        counted.fetch_add(
            usize::from(seen.path.contains("msgbatch_")),
            Ordering::Relaxed,
        );
        act
    });
    let claude = with(server.url(), dir.path(), true);
    let called = thread::scope(|scope| {
        scope.spawn(|| {
            while looked.load(Ordering::Relaxed) == 0 {
                thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(cancel_batch(&claude, "msgbatch_0").unwrap(), "ended");
        });
        call(&claude, ROWS, Some(&answers))
    });
    assert!(
        called.error().contains("msgbatch_0 was canceled"),
        "{}",
        called.error()
    );
    assert_eq!(called.settled.len(), 10);
    let (again, _) = thread::scope(|scope| {
        let ended = scope.spawn(|| {
            while batches.ids().len() < 2 {
                thread::sleep(Duration::from_millis(1));
            }
            batches.cancel_all();
        });
        (call(&claude, ROWS, Some(&answers)), ended.join())
    });
    // The second batch has answers for all, and was canceled too late.
    assert_eq!(again.settled.len(), ROWS, "{:?}", again.summary);
    paid_once(&batches, singles.load(Ordering::Relaxed), ROWS);
    let unknown = cancel_batch(&claude, "msgbatch_9").unwrap_err();
    assert!(unknown.message.contains("no such batch"), "{unknown}");
}

#[test]
fn results_that_are_cut_are_read_again_and_a_key_goes_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let answers = dir.path().join("answers");
    let batches = Batches::new(0, |params, _| answered(params));
    let reads = AtomicUsize::new(0);
    let (server, singles) = start_with(&batches, move |seen, act| match act {
        Act::Reply { body, .. } if seen.path.ends_with("/results") => {
            match reads.fetch_add(1, Ordering::Relaxed) {
                0 => Act::Cut(body),
                1 => Act::reply(503, "busy"),
                // Whole lines, but too few of them.
                2 => Act::reply(
                    200,
                    body.lines().next().unwrap_or_default().to_owned() + "\n",
                ),
                _ => Act::reply(200, body),
            }
        }
        act => act,
    });
    let called = call(&with(server.url(), dir.path(), true), ROWS, Some(&answers));
    all_are_there(&called, ROWS);
    paid_once(&batches, singles.load(Ordering::Relaxed), ROWS);
    let verified = Folder::open(&answers).unwrap().verify().unwrap();
    assert_eq!((verified.sound, verified.surplus), (ROWS, 0));
}

#[test]
fn a_batch_that_is_not_known_any_more_is_not_paid_again_unless_it_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let answers = dir.path().join("answers");
    let batches = Batches::new(0, |params, _| answered(params));
    let (server, _) = start_with(&batches, |seen, act| match (&*seen.method, &act) {
        ("GET", Act::Reply { body, .. }) if body.contains("\"msgbatch_0\"") => {
            Act::reply(404, "{}")
        }
        _ => act,
    });
    let claude = with(server.url(), dir.path(), true);
    for _ in 0..2 {
        let called = call(&claude, ROWS, Some(&answers));
        assert!(
            called.error().contains("give-up-batch msgbatch_0"),
            "{}",
            called.error()
        );
        assert_eq!(batches.sizes(), [ROWS - 1]);
    }
    let mut folder = Folder::open(&answers).unwrap();
    assert!(folder.give_up("msgbatch_1").is_err());
    assert_eq!(folder.give_up("msgbatch_0").unwrap(), ROWS - 1);
    let called = call(&claude, ROWS, Some(&answers));
    all_are_there(&called, ROWS);
    let paid: BTreeMap<String, usize> = batches.paid();
    assert!(
        paid.values().all(|times| *times == 2),
        "as it was told: {paid:?}"
    );
    assert!(fs::read_dir(&answers).unwrap().count() > 1);
}
