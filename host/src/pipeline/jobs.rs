//! Several runs of one process at the same time. What two of them need is computed once: a stage's lock keeps the second
//! waiting, as it does between processes. Threads are shared: the pool of the operations is one, so that what one run leaves
//! idle works for another.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};

/// Between two looks at whether the user has interrupted everything.
const LOOK: Duration = Duration::from_millis(50);

/// Does `work` for every number below `n`, `jobs` at a time, begun in order; the results in that order. `work` is given a flag
/// that it watches: it is set as soon as `cancel` is, or when another's work has failed.
///
/// # Errors
/// The first failure; begun work has come to an end by then, and what was not begun never is. An interrupt counts as one only
/// where nothing else has failed.
///
/// # Panics
/// Where `work` does, after the others have stopped.
pub fn at_once<T: Send>(
    jobs: usize,
    n: usize,
    cancel: &AtomicBool,
    work: impl Fn(usize, &AtomicBool) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    if jobs <= 1 || n <= 1 {
        return (0..n).map(|at| work(at, cancel)).collect();
    }
    let stop = AtomicBool::new(false);
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<T>>> = Mutex::new((0..n).map(|_| None).collect());
    let failure = Mutex::new(None);
    let waiting = thread::current();
    let job = || {
        // Set where this thread leaves by a panic, too: the others would otherwise go on for hours.
        let _end = End(|| {
            if thread::panicking() {
                stop.store(true, Ordering::Relaxed);
            }
            waiting.unpark();
        });
        while !stop.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= n {
                return;
            }
            match work(at, &stop) {
                Ok(result) => lock(&results)[at] = Some(result),
                Err(error) => {
                    keep_first(&mut lock(&failure), error);
                    stop.store(true, Ordering::Relaxed);
                }
            }
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs.min(n)).map(|_| scope.spawn(job)).collect();
        while threads.iter().any(|thread| !thread.is_finished()) {
            if cancel.load(Ordering::Relaxed) {
                stop.store(true, Ordering::Relaxed);
            }
            thread::park_timeout(LOOK);
        }
    });
    let failure = failure.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = failure {
        return Err(error);
    }
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    // What was never begun is missing, and nothing has failed: the user has interrupted.
    results
        .into_iter()
        .collect::<Option<Vec<T>>>()
        .ok_or_else(Error::interrupted)
}

/// A failure makes the others stop as if interrupted; it is the one that counts.
fn keep_first(kept: &mut Option<Error>, error: Error) {
    let replaced = match kept {
        None => true,
        Some(kept) => {
            kept.kind() == ErrorKind::Interrupted && error.kind() != ErrorKind::Interrupted
        }
    };
    if replaced {
        *kept = Some(error);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does something when it goes out of scope.
struct End<F: FnMut()>(F);

impl<F: FnMut()> Drop for End<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    static NEVER: AtomicBool = AtomicBool::new(false);

    #[test]
    fn results_stand_in_order_and_as_many_go_on_at_once_as_there_are_jobs() {
        for jobs in [1, 2, 9] {
            let twice = at_once(jobs, 5, &NEVER, |at, _| Ok(2 * at)).unwrap();
            assert_eq!(twice, [0, 2, 4, 6, 8]);
        }
        // Ends only where three are there at once.
        let barrier = Barrier::new(3);
        at_once(3, 3, &NEVER, |_, _| {
            barrier.wait();
            Ok(())
        })
        .unwrap();
    }

    fn until_stopped(stop: &AtomicBool) -> Result<()> {
        while !stop.load(Ordering::Relaxed) {
            thread::yield_now();
        }
        Err(Error::interrupted())
    }

    #[test]
    fn a_failure_stops_the_others_and_is_told_instead_of_their_interrupts() {
        let begun = AtomicUsize::new(0);
        let error = at_once(2, 9, &NEVER, |at, stop| {
            begun.fetch_add(1, Ordering::Relaxed);
            match at {
                1 => Err(Error::input("no such file")),
                _ => until_stopped(stop),
            }
        })
        .unwrap_err();
        assert_eq!(error.to_string(), "no such file");
        assert_eq!(begun.into_inner(), 2);
    }

    #[test]
    fn an_interrupt_stops_all() {
        let cancel = AtomicBool::new(false);
        let error = at_once(2, 2, &cancel, |at, stop| {
            if at == 1 {
                cancel.store(true, Ordering::Relaxed);
            }
            until_stopped(stop)
        })
        .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted);
    }
}
