//! Judge `claude`: comparisons by a Claude model, over Anthropic's Messages API.
//!
//! Its options and what it does stand in `finegrain_remote`; docs/model-servers.md and docs/editing-prompts.md describe them.

/// The judge `claude`.
pub type Claude = finegrain_remote::JudgeOver<finegrain_remote::Anthropic>;

finegrain_sdk::register!(Judge, Claude);
finegrain_sdk::export_plugin!();
