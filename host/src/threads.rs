//! Keeps candle's own threads out of the way.
//!
//! Candle adds and multiplies tensors, also inside its backward pass, on a pool of its own whose members spin while they
//! wait for each other. Beside rayon's threads, which everything here runs on, that took 70% of the processor's time in the
//! sandbox's reward model on two cores, and more beside other processes. Candle reads the size of that pool once from the
//! environment, and with one thread it does not start the pool. For `cargo run` and `cargo test`, `.cargo/config.toml` sets
//! the variable; a program of its own that uses this library has to set it too.

use std::env;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::error::{Error, Result};

/// The variable that candle reads.
const VARIABLE: &str = "CANDLE_NUM_THREADS";

/// Starts this process anew, under the same process id, with candle's pool turned off; does nothing where the variable is
/// set. A process cannot safely change its own environment once it may have threads.
///
/// # Errors
/// The program's own file cannot be found or started.
pub fn turn_off_candles_pool() -> Result<()> {
    if env::var_os(VARIABLE).is_some_and(|value| !value.is_empty()) {
        return Ok(());
    }
    let fail = |error: std::io::Error| {
        Error::internal(format!("cannot start with {VARIABLE}=1: {error}"))
            .hint(format!("set {VARIABLE}=1 in the environment"))
    };
    let mut args = env::args_os();
    let program = args.next().unwrap_or_else(|| "finegrain".into());
    // Returns only where it fails.
    let error = Command::new(env::current_exe().map_err(fail)?)
        .arg0(program)
        .args(args)
        .env(VARIABLE, "1")
        .exec();
    Err(fail(error))
}
