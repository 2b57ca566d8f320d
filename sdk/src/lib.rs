//! Everything that the author of a finegrain plugin needs: read this page and one file of [`kinds`].
//!
//! A plugin is a type that implements one of the four traits of [`kinds`] on plain slices, one `register!` line, and
//! one `export_plugin!` line a crate. The same code is linked into the host or loaded from a shared library.
//!
//! Batches are **ragged**: flat `values` and `offsets` (rows + 1, Arrow's list layout), never padded; see [`batch`].

#[doc(hidden)]
pub mod abi;
pub mod batch;
pub mod context;
pub mod descriptor;
pub mod error;
pub mod export;
pub mod info;
pub mod kinds;
pub mod options;
pub mod preference;
pub mod rng;

#[doc(hidden)]
pub use inventory;
pub use schemars;
pub use serde;
pub use serde_json;

pub use batch::{Ragged, TextBatch};
pub use context::CallContext;
pub use error::{Error, ErrorCode, Result};
pub use info::PluginInfo;
pub use kinds::Plugin;

/// The version of this SDK. Plugins load into a host whose SDK has the same number up to the last zero-based minor.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
