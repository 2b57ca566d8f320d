//! Models: parameters, passes, heads, checkpoints, generation.
//!
//! `family` says what the families are, `description` what of it a model has where, `block` computes a layer of any of them,
//! forwards and back, on any device. `causal_lm` is the model over ragged batches, `pass` its way through all layers on the CPU and
//! `cuda` on a GPU, `policy` and `heads` what is read from it; `plain` is the same written down by tensors, for reading and for tests; `decoder` is the same model laid out for generation on the CPU.

pub(crate) mod block;
pub mod causal_lm;
pub mod checkpoint;
pub mod complete;
pub mod config;
#[cfg(feature = "cuda")]
mod cuda;
pub mod decoder;
pub(crate) mod description;
pub mod ends;
pub mod family;
#[cfg(test)]
mod fixture;
pub mod generate;
pub mod gradients;
pub mod heads;
mod kv_cache;
pub mod lora;
mod packed;
pub mod parameters;
mod pass;
pub mod plain;
pub mod policy;
pub mod rounding_effect;
mod sampler;
pub mod sampling;
pub mod sampling_weights;
mod storage;

pub use causal_lm::CausalLm;
pub use checkpoint::{is_here, locate, tokens_beyond};
pub use complete::{Completion, Source, answer, complete};
pub use config::{CausalLmConfig, RopeScaling, Variant};
#[cfg(all(test, feature = "cuda"))]
pub(crate) use cuda::LIMITS as GPU_LIMITS;
pub use ends::ends;
pub use family::Family;
pub use generate::{Decoder, Generated, generate};
pub use gradients::{Gradients, Trainable};
pub use heads::{ScalarHead, ScorePass, ScoredModel};
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
