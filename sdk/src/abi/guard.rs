//! Keeps panics on the side where they happen: a panic becomes an [`Error`] with the place and the message.
//!
//! A shared library has its own copy of the standard library, so the host's panic hook sees nothing of a plugin's panic.
//! The guard installs a hook on its own side; while a guard is active on a thread, the hook stores the message there
//! instead of printing it.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::Once;

use crate::abi::error::ResultAbi;
use crate::error::{Error, ErrorCode, Result};

thread_local! {
    /// How many guards are active on this thread.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// What the hook saw of the last panic on this thread.
    static MESSAGE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `call`; a panic inside comes back as an error with [`ErrorCode::PANIC`].
pub fn guard<T>(call: impl FnOnce() -> Result<T>) -> Result<T> {
    install_hook();
    DEPTH.set(DEPTH.get() + 1);
    let outcome = panic::catch_unwind(AssertUnwindSafe(call));
    DEPTH.set(DEPTH.get() - 1);
    outcome.unwrap_or_else(|payload| Err(panicked(payload)))
}

/// [`guard`], for functions that are called from the other side.
pub(crate) fn guarded<T>(call: impl FnOnce() -> Result<T>) -> ResultAbi<T> {
    guard(call).map_err(Into::into).into()
}

fn panicked(payload: Box<dyn Any + Send>) -> Error {
    // The hook has not run on this thread where a worker thread panicked and a library carried the payload over.
    let message = MESSAGE.take().unwrap_or_else(|| {
        let text = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        format!("panicked: {text}")
    });
    // The payload's own destructor could panic, outside of any guard.
    std::mem::forget(payload);
    Error::new(ErrorCode::PANIC, message)
}

fn install_hook() {
    static INSTALLED: Once = Once::new();
    // Hooks cannot be changed by a thread that is unwinding (an instance dropped by a panic of the host).
    if INSTALLED.is_completed() || std::thread::panicking() {
        return;
    }
    INSTALLED.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if DEPTH.try_with(Cell::get).unwrap_or(0) > 0 {
                MESSAGE.set(Some(describe(info)));
            } else {
                previous(info);
            }
        }));
    });
}

fn describe(info: &PanicHookInfo<'_>) -> String {
    let message = info.payload_as_str().unwrap_or("no message");
    match info.location() {
        Some(place) => format!("panicked at {place}: {message}"),
        None => format!("panicked: {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_with_its_place() {
        let error = guard(|| -> Result<()> { panic!("row {} is odd", 3) }).unwrap_err();
        assert_eq!(error.code, ErrorCode::PANIC);
        assert!(
            error
                .message
                .starts_with("panicked at sdk/src/abi/guard.rs:"),
            "{error}"
        );
        assert!(error.message.ends_with(": row 3 is odd"), "{error}");
    }

    #[test]
    fn a_result_passes_through_unchanged() {
        assert_eq!(guard(|| Ok(7)), Ok(7));
        let error = Error::plugin("no").at_row(4);
        assert_eq!(guard(|| Err::<(), _>(error.clone())), Err(error));
    }

    #[test]
    fn an_inner_guard_leaves_the_outer_call_alive() {
        let outer = guard(|| {
            let inner = guard(|| -> Result<()> { panic!("inside") });
            assert!(inner.is_err());
            Ok("outside")
        });
        assert_eq!(outer, Ok("outside"));
    }

    #[test]
    fn a_panic_carried_over_from_another_thread_keeps_its_message() {
        let error = guard(|| -> Result<()> { panic::resume_unwind(Box::new("from a worker")) })
            .unwrap_err();
        assert_eq!(error.message, "panicked: from a worker");
    }

    #[test]
    fn a_payload_whose_destructor_panics_is_harmless() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("a destructor");
            }
        }
        let error = guard(|| -> Result<()> { panic::panic_any(Bomb) }).unwrap_err();
        assert!(error.message.ends_with("no message"), "{error}");
    }
}
