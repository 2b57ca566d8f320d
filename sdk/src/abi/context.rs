//! A [`CallContext`] on its way across the boundary, and the host functions that a plugin may call back.
#![expect(
    clippy::cast_ptr_alignment,
    reason = "generated for calls behind the last of the first version; the table of calls is aligned"
)]

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use abi_stable::sabi_types::RRef;
use abi_stable::std_types::{RNone, ROption, RStr, RVec};
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

    /// The folder for answers that cost money or time, as the bytes of its path; none where the host keeps nothing.
    fn answers(&self) -> ROption<RVec<u8>> {
        RNone
    }
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

    fn answers(&self) -> ROption<RVec<u8>> {
        let path = self.0.answers.map(|path| path.as_os_str().as_bytes());
        path.map(|bytes| bytes.to_vec().into()).into()
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
    let answers: Option<RVec<u8>> = context.host.answers().into();
    let answers = answers.map(|bytes| PathBuf::from(OsString::from_vec(bytes.into_vec())));
    call(&CallContext {
        seed: context.seed,
        step: context.step,
        threads: context.threads,
        cancel: context.cancel,
        log: &|level, message| context.host.log(level.into(), message.into()),
        progress: &|done, total| context.host.progress(done, total),
        answers: answers.as_deref(),
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::path::Path;

    use super::*;

    /// A path need not be UTF-8, and need not be there.
    #[test]
    fn the_folder_of_answers_crosses_byte_for_byte() {
        let odd = Path::new(OsStr::from_bytes(b"/store/p\xffaid"));
        for answers in [Some(odd), None] {
            let context = CallContext {
                seed: 1,
                step: 2,
                threads: 3,
                cancel: &AtomicBool::new(false),
                log: &|_, _| {},
                progress: &|_, _| {},
                answers,
            };
            send(&context, |sent| {
                receive(&sent, |received| {
                    assert_eq!(received.answers, answers);
                    assert_eq!((received.seed, received.step, received.threads), (1, 2, 3));
                });
            });
        }
    }
}
