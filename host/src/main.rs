//! The finegrain command: parse, dispatch, exit code. Parsing does no work; each verb is a file of `commands`.

use std::process::ExitCode;

use clap::Parser;
use finegrain::cli::Cli;

/// Buffers come and go by the megabyte; glibc's allocator gives each back to the system and asks for it again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match finegrain::commands::dispatch(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            finegrain::commands::print_error(&error);
            ExitCode::from(error.exit_code())
        }
    }
}
