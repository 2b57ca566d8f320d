//! Instances of plugins as the host calls them: outputs filled with NaN before a call and checked after it, every failure
//! named with plugin, library, step and row, and no second call of what panicked once.

mod advantage;
mod editor;
mod files;
mod judge;
mod output;
mod reward;
mod sink;

use std::sync::atomic::{AtomicBool, Ordering};

use finegrain_sdk::info::Capabilities;
use finegrain_sdk::{CallContext, ErrorCode};
use serde_json::{Value, json};

pub use advantage::AdvantageInstance;
pub use editor::{Edit, EditorInstance};
pub use judge::{JudgeInstance, Judgement};
pub use reward::{PairLoss, RewardInstance};

use crate::error::{Error, Result};
use crate::plugins::identity::Identity;

/// What every instance has, whatever its kind.
pub(crate) struct Handle {
    identity: Identity,
    capabilities: Capabilities,
    fingerprint: Value,
    poisoned: AtomicBool,
}

impl Handle {
    /// A handle whose capabilities the instance itself has just told; `options` are those that it was made with.
    pub(crate) fn new(
        identity: Identity,
        options: &Value,
        capabilities: finegrain_sdk::Result<Capabilities>,
    ) -> Result<Self> {
        let capabilities = capabilities.map_err(|error| {
            Error::plugin(format!("{identity} cannot say what it needs: {error}"))
        })?;
        let mut fingerprint = json!({ "plugin": identity.fingerprint(), "options": options });
        if !capabilities.files.is_empty() {
            fingerprint["files"] = files::contents(&identity, &capabilities.files)?;
        }
        Ok(Self {
            identity,
            capabilities,
            fingerprint,
            poisoned: AtomicBool::new(false),
        })
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(crate) fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    pub(crate) fn fingerprint(&self) -> &Value {
        &self.fingerprint
    }

    /// Makes a call: log lines get the plugin's id in front, and a failure becomes the host's error.
    pub(crate) fn call<T>(
        &self,
        context: &CallContext<'_>,
        call: impl FnOnce(&CallContext<'_>) -> finegrain_sdk::Result<T>,
    ) -> Result<T> {
        if self.poisoned.load(Ordering::Relaxed) {
            return Err(Error::plugin(format!(
                "{} panicked in an earlier call and is not called again",
                self.identity
            )));
        }
        let id = self.identity.id();
        let log = |level, message: &str| (context.log)(level, &format!("{id}: {message}"));
        let outcome = call(&CallContext {
            log: &log,
            ..*context
        });
        outcome.map_err(|error| self.failed(context, &error))
    }

    fn failed(&self, context: &CallContext<'_>, error: &finegrain_sdk::Error) -> Error {
        if error.code == ErrorCode::CANCELLED && context.cancelled() {
            return Error::interrupted();
        }
        let failure = Error::plugin(format!(
            "{} failed at {}: {}",
            self.identity,
            place(context, error.row),
            error.message
        ));
        if error.code == ErrorCode::PANIC {
            self.poisoned.store(true, Ordering::Relaxed);
            return failure.hint("this is a defect of the plugin; tell its author");
        }
        failure
    }

    /// An output that breaks the contract.
    pub(crate) fn broken(
        &self,
        context: &CallContext<'_>,
        row: Option<usize>,
        what: &str,
    ) -> Error {
        Error::plugin(format!(
            "{} broke its contract at {}: {what}",
            self.identity,
            place(context, row)
        ))
        .hint("this is a defect of the plugin; tell its author")
    }
}

fn place(context: &CallContext<'_>, row: Option<usize>) -> String {
    match row {
        Some(row) => format!("step {}, row {row}", context.step),
        None => format!("step {}", context.step),
    }
}

/// The accessors that all instances share.
macro_rules! instance_accessors {
    ($instance:ty) => {
        impl $instance {
            /// Which plugin it is.
            pub fn identity(&self) -> &$crate::plugins::identity::Identity {
                self.handle.identity()
            }

            /// What this instance needs with its options.
            pub fn capabilities(&self) -> &finegrain_sdk::info::Capabilities {
                self.handle.capabilities()
            }

            /// Everything of this instance that decides its results, for the keys of stages: the plugin's code, the options,
            /// and the content of the files that it reads.
            pub fn fingerprint(&self) -> &serde_json::Value {
                self.handle.fingerprint()
            }
        }

        impl std::fmt::Debug for $instance {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}", self.handle.identity())
            }
        }
    };
}
use instance_accessors;

#[cfg(test)]
mod testing;
