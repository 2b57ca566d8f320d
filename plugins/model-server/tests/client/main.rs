//! The client against a server that misbehaves on purpose.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test fails by panicking and says what it has seen"
)]

mod asking;
mod batches;
mod faults;
mod forecast;
mod forms;
mod killed;
mod money;
mod preflight;
mod secret;
mod stopping;
mod support;
