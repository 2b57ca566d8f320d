//! The operations of the model on slices: a forward and a backward pass each, and the same by tensors to test against.
//!
//! A forward pass writes its result over whatever was there; a backward pass adds to the gradients of weights and writes
//! those of activations, unless it says otherwise. Nothing here allocates more than a few rows, and nothing but products,
//! the output head and the embedding's gradient takes more than one thread: a model runs the others on several chunks of
//! rows at once. Sizes are the callers' to get right, who take them from one configuration; a slice that is too short is a
//! panic.
//!
//! Axis legend: n tokens of a chunk, m tokens of it that are read, C channels, H heads, K key/value heads, D head size,
//! F feed-forward, V vocabulary, M positions. Formulas and memory of all of them: docs/operations.md.

pub mod attention;
pub mod bias;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
pub mod element;
pub mod embedding;
mod exp;
pub mod gated;
#[cfg(test)]
pub(crate) mod gradient_check;
mod lanes;
pub mod log_prob;
pub(crate) mod panels;
pub mod pointwise;
pub mod product;
mod register;
pub mod rms_norm;
pub mod rope;
mod start;
pub(crate) mod tile;

pub use element::Element;
pub use start::Start;
