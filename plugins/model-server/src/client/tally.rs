//! Counts that workers keep of requests without an answer.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::summary::Summary;
use crate::usd::Usd;

/// The counts.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    retries: AtomicU64,
    possibly_paid: AtomicU64,
    possibly_pico: AtomicU64,
}

impl Tally {
    /// A request is sent again.
    pub(crate) fn again(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// A request brought no answer and may have cost this much.
    pub(crate) fn possibly_paid(&self, most: Usd) {
        self.possibly_paid.fetch_add(1, Ordering::Relaxed);
        self.possibly_pico.fetch_add(most.pico(), Ordering::Relaxed);
    }

    /// Puts the counts into a summary.
    pub(crate) fn add_to(&self, summary: &mut Summary) {
        summary.retries += self.retries.load(Ordering::Relaxed);
        summary.possibly_paid += self.possibly_paid.load(Ordering::Relaxed);
        let usd = Usd::from_pico(self.possibly_pico.load(Ordering::Relaxed));
        summary.possibly_usd = summary.possibly_usd.map(|sum| sum.plus(usd));
    }
}
