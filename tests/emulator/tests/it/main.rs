//! The emulator by the functions that a program calls: what it computes, and what it refuses.
#![allow(unsafe_code)] // calls of C functions: support::call
#![allow(clippy::print_stderr, clippy::unwrap_used)] // why a test is skipped; a test fails by panicking

mod support;

mod device;
mod faults;
mod gemm;
mod launches;
mod streams;
