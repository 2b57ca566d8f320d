//! Editor `human`: imports edits that people have written, from a JSONL file.
//!
//! One JSON object a line, with the edited response and either the id of the request or its prompt and response;
//! [`options`] names the fields. The file is read once, when the editor is made ([`edits`]); every request then gets its
//! edit or the reason why it has none ([`human`]).

pub mod edits;
pub mod human;
pub mod options;

pub use human::Human;
pub use options::{MatchBy, Options, Repeats};

finegrain_sdk::register!(Editor, Human);
finegrain_sdk::export_plugin!();
