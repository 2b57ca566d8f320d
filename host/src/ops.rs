//! Differentiable operations over ragged batches.
