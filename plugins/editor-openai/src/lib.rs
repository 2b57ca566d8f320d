//! Editor `openai`: minimal edits by a model behind OpenAI's chat completions: OpenAI, vLLM, llama.cpp, Ollama, LM Studio.
//!
//! Its options and what it does stand in `finegrain_remote`; docs/model-servers.md and docs/editing-prompts.md describe them.

/// The editor `openai`.
pub type OpenAi = finegrain_remote::EditorOver<finegrain_remote::OpenAi>;

finegrain_sdk::register!(Editor, OpenAi);
finegrain_sdk::export_plugin!();
