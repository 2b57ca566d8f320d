//! finegrain: alignment of language models with fine-grained (token-level) supervision.
//!
//! The map of the modules and the flow of data are in docs/architecture.md.

#![cfg_attr(
    not(feature = "cuda"),
    allow(
        clippy::unnecessary_wraps,
        reason = "what may fail on a device keeps its signature in a binary that knows the processor alone"
    )
)]

pub mod bench;
mod builtins;
pub mod cli;
pub mod commands;
pub mod config;
pub mod data;
pub mod device;
pub mod doctor;
pub mod edits;
pub mod error;
pub mod eval;
pub mod inspect;
pub mod memory_plan;
pub mod model;
pub mod ops;
pub mod pipeline;
pub mod plugins;
mod proc_files;
pub mod report;
pub mod sandbox;
pub mod telemetry;
pub mod train;

pub use error::{Error, Result};
