//! Judge `openai`: comparisons by a model behind OpenAI's chat completions: OpenAI, vLLM, llama.cpp, Ollama, LM Studio.
//!
//! Its options and what it does stand in `finegrain_remote`; docs/model-servers.md and docs/editing-prompts.md describe them.

/// The judge `openai`.
pub type OpenAi = finegrain_remote::JudgeOver<finegrain_remote::OpenAi>;

finegrain_sdk::register!(Judge, OpenAi);
finegrain_sdk::export_plugin!();
