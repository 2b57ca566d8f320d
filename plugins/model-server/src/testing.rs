//! A model server on loopback that misbehaves on purpose, for tests of this crate and of the plugins that stand on it.
//!
//! It speaks both APIs by path. A behaviour says for every request what becomes of it; see [`Act`].

mod act;
mod batches;
mod http;
mod replies;
mod server;

pub use act::Act;
pub use batches::{Batches, Fate};
pub use replies::{anthropic, anthropic_error, openai, openai_error};
pub use server::{Seen, TestServer};
