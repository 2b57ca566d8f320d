//! A [`CallContext`] on its way across the boundary, and the host functions that a plugin may call back.

use std::sync::atomic::AtomicBool;

use abi_stable::sabi_types::RRef;
use abi_stable::std_types::RStr;
use abi_stable::type_level::downcasting::TD_Opaque;
use abi_stable::{StableAbi, sabi_trait};

use crate::abi::guard::guard;
use crate::context::{CallContext, LogLevel};

/// A [`LogLevel`]; an unknown number reads as information.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, StableAbi)]
pub struct LogLevelAbi(pub u32);

impl From<LogLevel> for LogLevelAbi {
    fn from(level: LogLevel) -> Self {
        Self(match level {
            LogLevel::Debug => 0,
            LogLevel::Info => 1,
            LogLevel::Warn => 2,
        })
    }
}

impl From<LogLevelAbi> for LogLevel {
    fn from(level: LogLevelAbi) -> Self {
        match level.0 {
            0 => Self::Debug,
            2 => Self::Warn,
            _ => Self::Info,
        }
    }
}

/// What a plugin may call while the host waits for it. New calls are appended here, with a default body.
#[sabi_trait]
pub trait HostAbi: Sync {
    /// Takes a line for the log.
    fn log(&self, level: LogLevelAbi, message: RStr<'_>);

    /// Takes (done, total) of the rows of this call.
    #[sabi(last_prefix_field)]
    fn progress(&self, done: u64, total: u64);
}

/// A [`CallContext`].
#[repr(C)]
#[derive(StableAbi)]
pub struct ContextAbi<'a> {
    seed: u64,
    step: u64,
    threads: u32,
    cancel: &'a AtomicBool,
    host: HostAbi_TO<'a, RRef<'a, ()>>,
}

/// The host's side of [`HostAbi`]. A panic of the host's own callback must not unwind into the plugin: it is dropped, for
/// neither a log line nor a progress bar may end a call.
struct HostCalls<'a>(&'a CallContext<'a>);

impl HostAbi for HostCalls<'_> {
    fn log(&self, level: LogLevelAbi, message: RStr<'_>) {
        let _ = guard(|| {
            self.0.log(level.into(), message.as_str());
            Ok(())
        });
    }

    fn progress(&self, done: u64, total: u64) {
        let _ = guard(|| {
            self.0.progress(done, total);
            Ok(())
        });
    }
}

/// Host side: makes the call with a context that can cross.
pub(crate) fn send<R>(context: &CallContext<'_>, call: impl FnOnce(ContextAbi<'_>) -> R) -> R {
    let calls = HostCalls(context);
    call(ContextAbi {
        seed: context.seed,
        step: context.step,
        threads: context.threads,
        cancel: context.cancel,
        host: HostAbi_TO::from_ptr(RRef::new(&calls), TD_Opaque),
    })
}

/// Plugin side: makes the author's call with the context that came across.
pub(crate) fn receive<R>(context: &ContextAbi<'_>, call: impl FnOnce(&CallContext<'_>) -> R) -> R {
    call(&CallContext {
        seed: context.seed,
        step: context.step,
        threads: context.threads,
        cancel: context.cancel,
        log: &|level, message| context.host.log(level.into(), message.into()),
        progress: &|done, total| context.host.progress(done, total),
    })
}
