//! The LLaMA model: parameters, forward pass, heads, checkpoints, generation.
//!
//! `llama` is the differentiable model over ragged batches; `decoder` is the same model laid out for generation on the
//! CPU. Tests hold the two together.

pub mod checkpoint;
pub mod complete;
pub mod config;
pub mod decoder;
#[cfg(test)]
mod fixture;
pub mod generate;
pub mod heads;
mod kv_cache;
pub mod llama;
mod packed;
mod parameters;
mod sampler;
pub mod sampling;
mod vector;

pub use checkpoint::{check_tokenizer, locate};
pub use complete::{answer, complete};
pub use config::LlamaConfig;
pub use decoder::Decoder;
pub use generate::{Generated, generate};
pub use heads::{ScalarHead, ScoredModel};
pub use llama::Llama;
pub use sampling::Sampling;
