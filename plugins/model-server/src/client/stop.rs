//! The end of a call before its rows end: the first reason counts.

use std::sync::OnceLock;

use finegrain_sdk::Error;

/// A reason to send nothing more, once there is one.
#[derive(Debug, Default)]
pub(crate) struct Stop(OnceLock<Error>);

impl Stop {
    /// Ends the call, unless it has a reason already.
    pub(crate) fn set(&self, error: Error) {
        let _ = self.0.set(error);
    }

    /// Whether there is a reason.
    pub(crate) fn is_set(&self) -> bool {
        self.0.get().is_some()
    }

    /// The reason.
    pub(crate) fn error(&self) -> Option<Error> {
        self.0.get().cloned()
    }
}
