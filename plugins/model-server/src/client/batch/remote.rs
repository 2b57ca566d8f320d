//! Batches as the server describes them.

use finegrain_sdk::serde::Deserialize;
use finegrain_sdk::serde_json;
use jiff::Timestamp;

/// A batch at the server.
#[derive(Clone, Debug, Deserialize)]
#[serde(crate = "finegrain_sdk::serde")]
pub(super) struct Remote {
    /// Its id.
    pub(super) id: String,
    /// `in_progress`, `canceling` or `ended`.
    pub(super) processing_status: String,
    /// When it was made, by the server's clock.
    created_at: String,
    /// When its results were taken away, 29 days after it was made.
    pub(super) archived_at: Option<String>,
    /// When it was canceled.
    pub(super) cancel_initiated_at: Option<String>,
    request_counts: Counts,
}

/// Requests by what became of them; all of them are `processing` until the batch ends.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(crate = "finegrain_sdk::serde", default)]
struct Counts {
    processing: usize,
    succeeded: usize,
    errored: usize,
    canceled: usize,
    expired: usize,
}

/// A page of a list of batches, the newest first.
#[derive(Debug, Deserialize)]
#[serde(crate = "finegrain_sdk::serde")]
pub(super) struct Page {
    /// The batches.
    pub(super) data: Vec<Remote>,
    /// Whether there are older ones.
    #[serde(default)]
    pub(super) has_more: bool,
    /// The id of the last one.
    #[serde(default)]
    pub(super) last_id: Option<String>,
}

impl Remote {
    /// A batch from a reply.
    ///
    /// # Errors
    /// The reply is none of a batch.
    pub(super) fn parse(text: &str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }

    /// Whether there are results.
    pub(super) fn has_ended(&self) -> bool {
        self.processing_status == "ended"
    }

    /// How many requests it has.
    pub(super) fn len(&self) -> usize {
        let counts = self.request_counts;
        counts.processing + counts.succeeded + counts.errored + counts.canceled + counts.expired
    }

    /// How many of them were canceled before they were worked on.
    pub(super) fn canceled(&self) -> usize {
        self.request_counts.canceled
    }

    /// When it was made; the beginning of time where the server's word is no moment.
    pub(super) fn created(&self) -> Timestamp {
        self.created_at.parse().unwrap_or(Timestamp::UNIX_EPOCH)
    }
}
