//! Ctrl-C and SIGTERM: the first asks the run to finish its step and leave, the second leaves at once.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

static CANCEL: AtomicBool = AtomicBool::new(false);

/// The exit code of a process that was interrupted, as shells report it.
const INTERRUPTED: i32 = 130;

/// Installs the handler and returns the flag that stages watch.
pub(super) fn install() -> Result<&'static AtomicBool> {
    ctrlc::set_handler(|| {
        if CANCEL.swap(true, Ordering::SeqCst) {
            std::process::exit(INTERRUPTED);
        }
    })
    .map_err(|error| Error::internal(format!("cannot watch for interrupts: {error}")))?;
    Ok(&CANCEL)
}
