use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use proptest::prelude::*;

use super::*;

fn pico(amount: u64) -> Usd {
    Usd::from_pico(amount)
}

/// What 64 workers spend at most, who each send `requests` whose cost is up to what they set aside.
fn spend(cap: u64, requests: &[(u64, u64)]) -> (u64, u64) {
    let budget = Budget::new(Some(pico(cap)), Usd::ZERO);
    let (next, most) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                while let Some(&(worst, cost)) =
                    requests.get(next.fetch_add(1, Ordering::Relaxed) as usize)
                {
                    let Ok(reservation) = budget.reserve(pico(worst), || true) else {
                        continue;
                    };
                    let state = *budget.lock();
                    most.fetch_max(state.spent.plus(state.reserved).pico(), Ordering::Relaxed);
                    thread::yield_now();
                    reservation.cost(Some(pico(cost)));
                }
            });
        }
    });
    assert_eq!(budget.lock().reserved, Usd::ZERO);
    (budget.spent().pico(), most.into_inner())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn sixty_four_at_once_never_pass_the_cap(
        cap in 0_u64..2000,
        requests in prop::collection::vec((1_u64..100, 0.0..=1.0), 1..200),
    ) {
        let requests: Vec<(u64, u64)> = requests
            .into_iter()
            .map(|(worst, share)| (worst, (worst as f64 * share) as u64))
            .collect();
        let (spent, most) = spend(cap, &requests);
        prop_assert!(spent <= cap && most <= cap, "{spent}, {most} of {cap}");
    }
}

#[test]
fn the_money_is_used_to_the_last_request_that_fits() {
    // Ten of 10, each of which costs all of it, into 95: nine fit.
    let (spent, _) = spend(95, &[(10, 10); 10]);
    assert_eq!(spent, 90);
}

#[test]
fn what_does_not_fit_beside_others_waits_for_them() {
    let budget = Budget::new(Some(pico(10)), Usd::ZERO);
    let first = budget.reserve(pico(8), || true).unwrap();
    thread::scope(|scope| {
        let second = scope.spawn(|| budget.reserve(pico(8), || true).map(Reservation::free));
        thread::sleep(Duration::from_millis(20));
        assert!(!second.is_finished());
        first.cost(Some(pico(2)));
        assert_eq!(second.join().unwrap(), Ok(()));
    });
    assert_eq!(budget.spent(), pico(2));
}

#[test]
fn what_does_not_fit_alone_is_refused_at_once_and_names_both_sums() {
    let budget = Budget::new(Some(pico(10)), pico(5));
    assert_eq!(
        budget.reserve(pico(6), || true).unwrap_err(),
        NotReserved::Exceeded {
            spent: pico(5),
            cap: pico(10)
        }
    );
}

#[test]
fn a_request_of_which_nobody_says_what_became_counts_in_full() {
    let budget = Budget::new(None, Usd::ZERO);
    drop(budget.reserve(pico(6), || true).unwrap());
    budget.reserve(pico(3), || true).unwrap().cost(None);
    assert_eq!(budget.spent(), pico(9));
}

#[test]
fn whoever_waits_can_give_up() {
    let budget = Budget::new(Some(pico(10)), Usd::ZERO);
    let _under_way = budget.reserve(pico(10), || true).unwrap();
    assert_eq!(
        budget.reserve(pico(1), || false).unwrap_err(),
        NotReserved::GaveUp
    );
}
