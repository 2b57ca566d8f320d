//! How fast requests leave: how many at once, one pause for everyone, and buckets for limits a minute.
//!
//! The parts are told the time, as the span since some start; [`Gate`] alone has a clock and lets workers wait.

mod bucket;
mod concurrency;
#[cfg(test)]
mod tests;

pub use bucket::Bucket;
pub use concurrency::Concurrency;

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::backoff::jitter;

/// How often whoever waits looks whether to give up.
const LOOK: Duration = Duration::from_millis(100);

/// The gate that every request goes through.
#[derive(Debug)]
pub struct Gate {
    start: Instant,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    concurrency: Concurrency,
    under_way: u32,
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
    /// Nobody leaves before this, and each waits a part of `pause` longer.
    paused_until: Duration,
    pause: Duration,
}

/// The right to have one request under way, until it is dropped.
#[derive(Debug)]
pub struct Permit<'a> {
    gate: &'a Gate,
    tokens: u64,
}

impl Gate {
    /// A gate for at most `most` requests at once, with limits a minute where there are any.
    pub fn new(
        most: u32,
        requests_per_minute: Option<u32>,
        tokens_per_minute: Option<u64>,
    ) -> Self {
        Self {
            start: Instant::now(),
            state: Mutex::new(State {
                concurrency: Concurrency::new(most),
                under_way: 0,
                requests: requests_per_minute.map(|limit| Bucket::new(limit.into())),
                tokens: tokens_per_minute.map(|limit| Bucket::new(limit as f64)),
                paused_until: Duration::ZERO,
                pause: Duration::ZERO,
            }),
            changed: Condvar::new(),
        }
    }

    /// Waits until a request of about `tokens` tokens may leave; `None` once `go_on` says no. `random` in [0, 1) is this
    /// worker's part of the spread after a pause.
    pub fn enter(&self, tokens: u64, random: f64, go_on: impl Fn() -> bool) -> Option<Permit<'_>> {
        let mut state = self.lock();
        loop {
            if !go_on() {
                return None;
            }
            match state.wait(tokens, random, self.start.elapsed()) {
                None => break,
                Some(wait) => {
                    (state, _) = self
                        .changed
                        .wait_timeout(state, wait.min(LOOK))
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
        let now = self.start.elapsed();
        state.under_way += 1;
        if let Some(bucket) = &mut state.requests {
            bucket.take(1.0, now);
        }
        if let Some(bucket) = &mut state.tokens {
            bucket.take(tokens as f64, now);
        }
        Some(Permit { gate: self, tokens })
    }

    /// Everyone waits: a server has refused a request for its limits. The concurrency is cut once an episode.
    pub fn limited(&self, wait: Duration) {
        let now = self.start.elapsed();
        let mut state = self.lock();
        state.concurrency.limited(wait, now);
        state.pause(wait, now);
    }

    /// Everyone waits for limits that an answer says are used up; nobody was refused, and nothing is cut.
    pub fn used_up(&self, wait: Duration) {
        let now = self.start.elapsed();
        self.lock().pause(wait, now);
    }

    /// A request was answered.
    pub fn succeeded(&self) {
        let now = self.start.elapsed();
        let mut state = self.lock();
        let under_way = state.under_way;
        state.concurrency.succeeded(under_way, now);
        drop(state);
        self.changed.notify_all();
    }

    /// The server had an error of its own.
    pub fn troubled(&self) {
        self.lock().concurrency.troubled();
    }

    /// The most requests at once, now.
    pub fn limit(&self) -> u32 {
        self.lock().concurrency.limit()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// How long a request has to wait at least; `None` where it may leave.
    fn wait(&mut self, tokens: u64, random: f64, now: Duration) -> Option<Duration> {
        let until = self.paused_until + jitter(self.pause, random);
        let left = until.saturating_sub(now);
        if left > Duration::ZERO {
            return Some(left);
        }
        if self.under_way >= self.concurrency.limit() {
            return Some(LOOK);
        }
        let requests = self
            .requests
            .as_mut()
            .and_then(|bucket| bucket.wait(1.0, now));
        let tokens = self
            .tokens
            .as_mut()
            .and_then(|bucket| bucket.wait(tokens as f64, now));
        requests.max(tokens)
    }

    fn pause(&mut self, wait: Duration, now: Duration) {
        let until = now + wait;
        if until > self.paused_until {
            self.paused_until = until;
            self.pause = wait;
        }
    }
}

impl Permit<'_> {
    /// The request took this many tokens, in and out.
    pub fn took(&self, tokens: u64) {
        if let Some(bucket) = &mut self.gate.lock().tokens {
            bucket.settle(self.tokens as f64, tokens as f64);
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.gate.lock().under_way -= 1;
        self.gate.changed.notify_all();
    }
}
