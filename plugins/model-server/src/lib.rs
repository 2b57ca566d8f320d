//! The client under editors and judges that ask a language model over the network: `docs/model-servers.md` says how it is
//! built and by which rules.
//!
//! A plugin takes [`options::ServerOptions`] and, beside it, [`options::AnthropicOptions`] or [`options::OpenAiOptions`] into
//! its own options, makes a [`Server`] of them, and calls [`ask`] with two closures and a sink:
//!
//! ```ignore
//! let server = Server::anthropic("editor-claude", &options.server, &options.claude)?;      // in Plugin::new
//! let summary = ask(
//!     &server,
//!     requests.ids.rows(),
//!     |row| Ok(self.question(row)),                           // the first question about a row
//!     |row, tries| match self.read(row, tries.last().text()) { // after every answer with a text
//!         Err(reason) if tries.len() < 3 => Step::Ask(self.again(row, tries, &reason)),
//!         _ => Step::Done,
//!     },
//!     &mut |row, settled| sink.push(row, self.outcome(row, &settled)),
//!     context,
//!     answers,                                                // the folder of kept answers, or None
//! )?;
//! ```
//!
//! Both closures are pure: they run on several threads, more than once for a row, and before anything is sent.

pub mod answers;
pub mod api;
mod backoff;
pub mod budget;
mod client;
mod error_body;
pub mod estimate;
mod key;
pub mod options;
pub mod outcome;
pub mod pace;
pub mod prices;
pub mod question;
mod retry_after;
mod server;
pub mod summary;
#[cfg(feature = "testing")]
pub mod testing;
mod transport;
pub mod usd;
mod verdict;

pub use client::ask;
pub use outcome::{Answer, End, Failure, FailureKind, Reply, Settled, Step};
pub use question::{Question, Schema, Template, Turn};
pub use server::Server;
pub use summary::Summary;
pub use usd::Usd;
