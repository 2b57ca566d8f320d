//! The client under editors and judges that ask a language model over the network: `docs/model-servers.md` says how it is
//! built and by which rules.
//!
//! A plugin takes [`options::ServerOptions`] and, beside it, [`options::AnthropicOptions`] or [`options::OpenAiOptions`] into
//! its own options, makes a [`Server`] of them, and calls [`ask`] with two closures and a sink:
//!
//! ```
//! use finegrain_model_server::options::{AnthropicOptions, ServerOptions};
//! use finegrain_model_server::testing::{Act, TestServer, anthropic};
//! use finegrain_model_server::{End, Question, Server, Step, ask};
//! use finegrain_sdk::serde_json::json;
//!
//! # let fake = TestServer::start(|_| {
//! #     let content = json!([{"type": "text", "text": "Mars is a planet."}]);
//! #     Act::reply(200, anthropic("m", &content, "end_turn").to_string())
//! # }).unwrap();
//! # let context = finegrain_sdk::CallContext {
//! #     seed: 1, step: 0, threads: 1, cancel: &false.into(), log: &|_, _| {}, progress: &|_, _| {},
//! #     answers: None,
//! # };
//! # let folder = None;
//! let responses = ["Mras is a planet."];
//! let options = ServerOptions {
//!     model: "claude-haiku-5-5".to_owned(),
//!     base_url: fake.url(), // empty for Anthropic's own, whose key is in ANTHROPIC_API_KEY
//!     ..ServerOptions::default()
//! };
//! let server = Server::anthropic("editor-claude", &options, &AnthropicOptions::default())?;
//! let question = |row: usize| Question::new(format!("p{row}"), "Correct the text.", responses[row]);
//! let summary = ask(
//!     &server,
//!     responses.len(),
//!     |row| Ok(question(row)),
//!     // After every answer with a text: another question about the row, or none.
//!     |row, tries| match tries {
//!         [only] if only.text().is_none_or(|text| text.len() > 2 * responses[row].len()) => {
//!             Step::Ask(question(row).then(only.text().unwrap_or_default(), "Change less."))
//!         }
//!         _ => Step::Done,
//!     },
//!     &mut |row, settled| {
//!         assert_eq!((row, settled.end), (0, End::Text("Mars is a planet.".to_owned())));
//!         Ok(())
//!     },
//!     &context,
//!     folder, // the folder of kept answers
//! )?;
//! assert_eq!(summary.asked, 1);
//! # Ok::<(), finegrain_sdk::Error>(())
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

pub use client::{ask, cancel_batch, forecast};
pub use outcome::{Answer, End, Failure, FailureKind, Reply, Settled, Step};
pub use question::{Question, Schema, Template, Turn};
pub use server::Server;
pub use summary::Summary;
pub use usd::Usd;
