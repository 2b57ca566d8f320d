//! The client against a server that misbehaves on purpose.

mod asking;
mod faults;
mod forms;
mod killed;
mod money;
mod secret;
mod stopping;
mod support;
