//! The LLaMA model: parameters, forward pass, heads, checkpoints, generation.
//!
//! `llama` is the model over ragged batches, `pass` its way forwards and back, `policy` and `heads` what is read from it;
//! `decoder` is the same model laid out for generation on the CPU. Tests hold the two together.

pub mod checkpoint;
pub mod complete;
pub mod config;
#[cfg(feature = "cuda")]
mod cuda;
pub mod decoder;
pub mod ends;
#[cfg(test)]
mod fixture;
pub mod generate;
pub mod gradients;
pub mod heads;
mod kv_cache;
pub mod llama;
pub mod lora;
mod packed;
pub mod parameters;
mod pass;
pub mod policy;
pub mod rounding_effect;
mod sampler;
pub mod sampling;
pub mod sampling_weights;
mod storage;
mod vector;

pub use checkpoint::{is_here, locate, tokens_beyond};
pub use complete::{Completion, Source, answer, complete};
pub use config::LlamaConfig;
#[cfg(all(test, feature = "cuda"))]
pub(crate) use cuda::LIMITS as GPU_LIMITS;
pub use ends::ends;
pub use generate::{Decoder, Generated, generate};
pub use gradients::{Gradients, Trainable};
pub use heads::{ScalarHead, ScorePass, ScoredModel};
pub use llama::Llama;
pub use lora::{Adapter, LoraConfig};
pub use parameters::ParameterSet;
pub use pass::Read;
pub(crate) use pass::{LAID_OUT, Way};
pub use policy::{LogProbs, PolicyPass};
pub use rounding_effect::RoundingEffect;
pub use sampling::Sampling;
pub use sampling_weights::SamplingWeights;
#[cfg(feature = "cuda")]
pub(crate) use storage::TrainedMut;
