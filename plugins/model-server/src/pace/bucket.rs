//! A bucket for a limit a minute, filled continuously.

use std::time::Duration;

/// The share of a minute's limit that may leave at once: servers also look at shorter windows.
const BURST: f64 = 1.0 / 6.0;

/// A bucket; what is taken before it is there is owed.
#[derive(Clone, Debug)]
pub struct Bucket {
    per_second: f64,
    most: f64,
    there: f64,
    at: Duration,
}

impl Bucket {
    /// A full bucket for a limit a minute.
    pub fn new(per_minute: f64) -> Self {
        let most = (per_minute * BURST).max(1.0);
        Self {
            per_second: per_minute / 60.0,
            most,
            there: most,
            at: Duration::ZERO,
        }
    }

    /// How long to wait for `amount`; `None` where it is there. An amount that the bucket never holds waits until it is
    /// full, and is owed.
    pub fn wait(&mut self, amount: f64, now: Duration) -> Option<Duration> {
        self.fill(now);
        let lacking = amount.min(self.most) - self.there;
        (lacking > 0.0).then(|| Duration::from_secs_f64((lacking / self.per_second).min(60.0)))
    }

    /// Takes `amount`, there or not.
    pub fn take(&mut self, amount: f64, now: Duration) {
        self.fill(now);
        self.there -= amount;
    }

    /// Of what was taken for `expected`, `real` was needed.
    pub fn settle(&mut self, expected: f64, real: f64) {
        self.there = (self.there + expected - real).min(self.most);
    }

    fn fill(&mut self, now: Duration) {
        let seconds = now.saturating_sub(self.at).as_secs_f64();
        self.there = (self.there + seconds * self.per_second).min(self.most);
        self.at = self.at.max(now);
    }
}
