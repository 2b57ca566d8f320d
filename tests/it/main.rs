//! Integration tests, one module a subject.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should fail where it stands"
)]
#![expect(clippy::print_stderr, reason = "tests say why they skip")]

mod families;
mod folders;
mod gguf;
mod llama_server;
mod lora;
mod model;
mod nvrtc;
mod plugins;
mod python;
mod report;
mod tensorboard;
mod tokenizers;
