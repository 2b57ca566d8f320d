//! Token embedding: one row of the weight for every id.
//! Legend: N tokens, C channels, V vocabulary.

use candle_core::Tensor;

use super::shape;
use crate::error::Result;

const OP: &str = "embedding";

/// The rows of `ids`: weight (V, C), ids (N,) → (N, C).
pub fn embedding(weight: &Tensor, ids: &[u32]) -> Result<Tensor> {
    let (vocabulary, _) = shape::matrix(OP, "weight", weight)?;
    shape::indices(OP, "ids", ids, vocabulary)?;
    super::gather::reference(weight, ids)
}
