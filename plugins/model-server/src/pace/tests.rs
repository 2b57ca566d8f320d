use std::thread;

use super::*;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A round of answers with all of the limit in use.
fn round(concurrency: &mut Concurrency, now: Duration) {
    let limit = concurrency.limit();
    for _ in 0..limit {
        concurrency.succeeded(limit, now);
    }
}

#[test]
fn the_limit_doubles_from_20_and_stays_below_the_most() {
    let mut concurrency = Concurrency::new(64);
    let mut seen = vec![concurrency.limit()];
    for _ in 0..3 {
        round(&mut concurrency, seconds(1));
        seen.push(concurrency.limit());
    }
    assert_eq!(seen, [20, 40, 64, 64]);
    assert_eq!(Concurrency::new(4).limit(), 4);
}

#[test]
fn an_episode_cuts_once_and_growth_is_slow_after_it() {
    let mut concurrency = Concurrency::new(1000);
    round(&mut concurrency, seconds(0));
    round(&mut concurrency, seconds(0));
    assert_eq!(concurrency.limit(), 80);
    for _ in 0..50 {
        concurrency.limited(seconds(20), seconds(10));
    }
    assert_eq!(concurrency.limit(), 64);
    // Within the episode, which lasts as long as the server said.
    round(&mut concurrency, seconds(29));
    assert_eq!(concurrency.limit(), 64);
    round(&mut concurrency, seconds(30));
    assert_eq!(concurrency.limit(), 67);
    concurrency.limited(seconds(1), seconds(31));
    concurrency.limited(seconds(1), seconds(45));
    assert_eq!(concurrency.limit(), 53, "an episode lasts 15 s at least");
    concurrency.limited(seconds(1), seconds(46));
    assert_eq!(concurrency.limit(), 43);
}

#[test]
fn the_limit_never_falls_below_one() {
    let mut concurrency = Concurrency::new(2);
    for episode in 0..20 {
        concurrency.limited(seconds(0), seconds(episode * 20));
    }
    assert_eq!(concurrency.limit(), 1);
}

#[test]
fn a_limit_that_is_not_used_does_not_grow() {
    let mut concurrency = Concurrency::new(100);
    for _ in 0..20 {
        concurrency.succeeded(15, seconds(1));
    }
    assert_eq!(concurrency.limit(), 20);
    for _ in 0..20 {
        concurrency.succeeded(16, seconds(1));
    }
    assert_eq!(concurrency.limit(), 40);
}

#[test]
fn an_error_of_the_server_pauses_growth_and_cuts_nothing() {
    let mut concurrency = Concurrency::new(100);
    concurrency.troubled();
    round(&mut concurrency, seconds(1));
    assert_eq!(concurrency.limit(), 20);
    round(&mut concurrency, seconds(2));
    assert_eq!(concurrency.limit(), 40);
}

#[test]
fn a_bucket_gives_its_rate_and_no_more() {
    // 60 a minute: one a second, ten at once.
    let mut bucket = Bucket::new(60.0);
    for _ in 0..10 {
        assert_eq!(bucket.wait(1.0, seconds(0)), None);
        bucket.take(1.0, seconds(0));
    }
    assert_eq!(bucket.wait(1.0, seconds(0)), Some(seconds(1)));
    assert_eq!(bucket.wait(1.0, seconds(1)), None);
    bucket.take(1.0, seconds(1));
    assert_eq!(bucket.wait(1.0, seconds(1)), Some(seconds(1)));
    // It holds no more than ten, however long nothing is taken.
    assert_eq!(bucket.wait(10.0, seconds(1000)), None);
    bucket.take(10.0, seconds(1000));
    assert_eq!(bucket.wait(1.0, seconds(1000)), Some(seconds(1)));
}

#[test]
fn what_was_not_needed_goes_back() {
    let mut bucket = Bucket::new(600.0);
    bucket.take(100.0, seconds(0));
    assert_eq!(bucket.wait(60.0, seconds(0)), Some(seconds(6)));
    bucket.settle(100.0, 40.0);
    assert_eq!(bucket.wait(60.0, seconds(0)), None);
}

#[test]
fn an_amount_that_the_bucket_never_holds_passes_when_it_is_full_and_is_owed() {
    let mut bucket = Bucket::new(60.0);
    assert_eq!(bucket.wait(25.0, seconds(0)), None);
    bucket.take(25.0, seconds(0));
    assert_eq!(bucket.wait(1.0, seconds(0)), Some(seconds(16)));
}

#[test]
fn a_pause_holds_everyone_and_each_a_little_differently() {
    let mut state = State {
        concurrency: Concurrency::new(10),
        under_way: 0,
        requests: None,
        tokens: None,
        paused_until: Duration::ZERO,
        pause: Duration::ZERO,
    };
    assert_eq!(state.wait(1, 0.5, seconds(0)), None);
    state.pause(seconds(20), seconds(10));
    let first = state.wait(1, 0.0, seconds(10)).unwrap();
    let last = state.wait(1, 0.99, seconds(10)).unwrap();
    assert_eq!(first, seconds(20));
    assert!(last > seconds(25), "{last:?}");
    assert_eq!(state.wait(1, 0.0, seconds(30)), None);
    // A shorter wait does not end a longer one.
    state.pause(seconds(1), seconds(11));
    assert_eq!(state.wait(1, 0.0, seconds(11)).unwrap(), seconds(19));
}

#[test]
fn no_more_than_the_limit_are_under_way() {
    let gate = Gate::new(2, None, None);
    let first = gate.enter(1, 0.0, || true).unwrap();
    let _second = gate.enter(1, 0.0, || true).unwrap();
    assert!(gate.enter(1, 0.0, || false).is_none());
    thread::scope(|scope| {
        let third = scope.spawn(|| gate.enter(1, 0.0, || true).is_some());
        thread::sleep(Duration::from_millis(20));
        assert!(!third.is_finished());
        drop(first);
        assert!(third.join().unwrap());
    });
}
