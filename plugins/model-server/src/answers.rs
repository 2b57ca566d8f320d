//! The layer of answers: what servers have said, kept by what was asked, in a folder that any number of processes share.
//!
//! [`Folder`] is for looking at it and for forgetting; the client writes it. The lines are described in
//! `docs/model-servers.md`.

mod batch;
mod folder;
mod index;
mod key;
mod layer;
mod log;
mod record;
#[cfg(test)]
mod tests;

pub use batch::Batch;
pub(crate) use batch::custom_id;
pub use folder::{Cost, Entry, Folder, Verified};
pub use key::{Asked, key};
pub(crate) use layer::Layer;
pub use record::Record;
pub(crate) use record::sha256;

use std::path::Path;

use finegrain_sdk::Error;

/// An error of a file or folder, naming it.
fn failed(what: &str, path: &Path, error: &std::io::Error) -> Error {
    Error::plugin(format!("cannot {what} {}: {error}", path.display()))
}
