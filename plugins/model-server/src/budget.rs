//! Money that is set aside before a request leaves, and settled when it is back.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::usd::Usd;

/// How often whoever waits looks whether to give up.
const LOOK: Duration = Duration::from_millis(100);

/// What a call may spend: spent and reserved together never pass the cap.
#[derive(Debug)]
pub struct Budget {
    cap: Option<Usd>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    spent: Usd,
    reserved: Usd,
}

/// Why nothing was set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotReserved {
    /// It would pass the cap, whatever the requests under way turn out to cost.
    Exceeded {
        /// What is spent.
        spent: Usd,
        /// The most there may be.
        cap: Usd,
    },
    /// Whoever waited gave up.
    GaveUp,
}

impl Budget {
    /// A budget with a cap, or one that only counts, of which some is spent.
    pub fn new(cap: Option<Usd>, spent: Usd) -> Self {
        Self {
            cap,
            state: Mutex::new(State {
                spent,
                reserved: Usd::ZERO,
            }),
            changed: Condvar::new(),
        }
    }

    /// Sets aside the most that a request can cost. While it does not fit beside the requests under way, waits for them,
    /// as long as `go_on` says so.
    pub fn reserve(
        &self,
        most: Usd,
        go_on: impl Fn() -> bool,
    ) -> Result<Reservation<'_>, NotReserved> {
        let mut state = self.lock();
        if let Some(cap) = self.cap {
            loop {
                let State { spent, reserved } = *state;
                if spent.plus(most) > cap {
                    return Err(NotReserved::Exceeded { spent, cap });
                }
                if spent.plus(reserved).plus(most) <= cap {
                    break;
                }
                if !go_on() {
                    return Err(NotReserved::GaveUp);
                }
                (state, _) = self
                    .changed
                    .wait_timeout(state, LOOK)
                    .unwrap_or_else(PoisonError::into_inner);
            }
        }
        state.reserved = state.reserved.plus(most);
        drop(state);
        Ok(Reservation {
            budget: self,
            most,
            settled: false,
        })
    }

    /// Sets aside what cannot be held back any more: a request that an earlier call has sent.
    pub fn hold(&self, most: Usd) -> Reservation<'_> {
        let mut state = self.lock();
        state.reserved = state.reserved.plus(most);
        drop(state);
        Reservation {
            budget: self,
            most,
            settled: false,
        }
    }

    /// Counts what was spent before.
    pub fn count(&self, usd: Usd) {
        self.settle(Usd::ZERO, usd);
    }

    /// What is spent.
    pub fn spent(&self) -> Usd {
        self.lock().spent
    }

    fn settle(&self, most: Usd, spent: Usd) {
        let mut state = self.lock();
        state.reserved = state.reserved.minus(most);
        state.spent = state.spent.plus(spent);
        drop(state);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Money that is set aside. Dropped without a word it counts as spent: nobody knows what became of the request.
#[derive(Debug)]
pub struct Reservation<'a> {
    budget: &'a Budget,
    most: Usd,
    settled: bool,
}

impl Reservation<'_> {
    /// What is set aside.
    pub fn most(&self) -> Usd {
        self.most
    }

    /// The request cost this; where that is not known, all that was set aside.
    pub fn cost(mut self, usd: Option<Usd>) {
        self.settled = true;
        self.budget.settle(self.most, usd.unwrap_or(self.most));
    }

    /// The request cost nothing.
    pub fn free(self) {
        self.cost(Some(Usd::ZERO));
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if !self.settled {
            self.budget.settle(self.most, self.most);
        }
    }
}

#[cfg(test)]
mod tests;
