//! A batch through a model on a GPU and back: the same passes as `pass.rs`, as launches on one stream. A batch goes through
//! whole, for a GPU's cores are fed by long products and not by chunks; otherwise the formulas, what is kept and what is
//! computed again are the same, and the names are those of the processor's files.
//!
//! ```text
//! rows.rs      a batch's ids, positions and rows on the device
//! network.rs   parameters as matrices; linear maps with their adapters
//! layer.rs     what `block.rs` computes a layer with      weights.rs   the gradients of its weights
//! pass.rs      all layers
//! decoder/     sampling: KV cache, the state of rows, a step as a graph
//! policy.rs    log-probabilities and entropies, and their way back     scores.rs   scores and values, and theirs
//! ```
//! Legend: N tokens that go through, M tokens that are read, C channels, V vocabulary.

pub(super) mod decoder;
mod layer;
mod network;
mod pass;
pub(super) mod policy;
mod rows;
pub(super) mod scores;
#[cfg(test)]
mod tests;
mod weights;

pub(super) use pass::hidden;

/// Rows that are sampled at once, and elements of logits in a chunk, both at most.
#[cfg(test)]
pub(crate) const LIMITS: (usize, usize) = (decoder::SLOTS, policy::CHUNK);
