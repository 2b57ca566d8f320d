//! The LLaMA model: parameters, forward pass, heads, checkpoints, generation.

pub mod checkpoint;
pub mod config;
#[cfg(test)]
mod fixture;
pub mod heads;
pub mod llama;
mod parameters;

pub use config::LlamaConfig;
pub use heads::{ScalarHead, ScoredModel};
pub use llama::Llama;
