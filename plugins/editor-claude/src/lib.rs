//! Editor `claude`: minimal edits by a Claude model, over Anthropic's Messages API.
//!
//! Its options and what it does stand in `finegrain_remote`; docs/model-servers.md and docs/editing-prompts.md describe them.

/// The editor `claude`.
pub type Claude = finegrain_remote::EditorOver<finegrain_remote::Anthropic>;

finegrain_sdk::register!(Editor, Claude);
finegrain_sdk::export_plugin!();
