//! How many requests may be under way at once, found out by trying.
//!
//! The rules are those of Inspect AI's adaptive limit: double after every clean round until a server says stop, then grow
//! slowly; give way once for each episode, not once for each of the many refusals in it.

use std::time::Duration;

/// The first limit.
const START: f64 = 20.0;
/// What is left after an episode of refusals.
const CUT: f64 = 0.8;
/// The growth of a round after the first episode.
const GROWTH: f64 = 1.05;
/// The shortest episode.
const EPISODE: Duration = Duration::from_secs(15);
/// A limit is too small only where this share of it was used.
const USED: f64 = 0.8;

/// A limit that adapts. A round is as many answers as the limit.
#[derive(Clone, Debug)]
pub struct Concurrency {
    most: f64,
    limit: f64,
    doubling: bool,
    /// Answers of this round.
    answers: u32,
    /// The most that were under way in this round.
    used: u32,
    /// Whether the server had an error of its own in this round.
    troubled: bool,
    episode_until: Duration,
}

impl Concurrency {
    /// A limit that stays between 1 and `most`.
    pub fn new(most: u32) -> Self {
        let most = f64::from(most.max(1));
        Self {
            most,
            limit: START.min(most),
            doubling: true,
            answers: 0,
            used: 0,
            troubled: false,
            episode_until: Duration::ZERO,
        }
    }

    /// The limit.
    pub fn limit(&self) -> u32 {
        self.limit as u32
    }

    /// An answer came while `under_way` requests were, itself included.
    pub fn succeeded(&mut self, under_way: u32, now: Duration) {
        self.answers += 1;
        self.used = self.used.max(under_way);
        if self.answers < self.limit() {
            return;
        }
        let needed = f64::from(self.used) >= USED * f64::from(self.limit());
        if needed && !self.troubled && now >= self.episode_until {
            let grown = if self.doubling {
                self.limit * 2.0
            } else {
                (self.limit * GROWTH).max(self.limit + 1.0)
            };
            self.limit = grown.min(self.most);
        }
        self.new_round();
    }

    /// The server has refused a request for its limits, and says to wait.
    pub fn limited(&mut self, wait: Duration, now: Duration) {
        if now >= self.episode_until {
            self.limit = (self.limit * CUT).max(1.0);
            self.doubling = false;
            self.episode_until = now + wait.max(EPISODE);
        }
        self.new_round();
    }

    /// The server had an error of its own: no growth in this round.
    pub fn troubled(&mut self) {
        self.troubled = true;
    }

    fn new_round(&mut self) {
        self.answers = 0;
        self.used = 0;
        self.troubled = false;
    }
}
