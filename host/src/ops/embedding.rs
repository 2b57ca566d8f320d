//! Token embedding: one row of the weight for every id. Legend: N tokens, C channels, V vocabulary.
//!
//! It is the selection of rows of [`gather`](mod@super::gather), forwards and backwards, with the names of an embedding
//! in its errors.

use candle_core::Tensor;

use super::gather::select;
use crate::error::Result;

/// The rows of `ids`: weight (V, C), ids (N,) → (N, C).
pub fn embedding(weight: &Tensor, ids: &[u32]) -> Result<Tensor> {
    select("embedding", "weight", weight, "ids", ids)
}

#[cfg(test)]
mod tests {
    use super::super::gradient_check::{assert_gradients, wave};
    use super::*;

    #[test]
    fn an_id_outside_the_vocabulary_is_named() {
        let error = embedding(&wave(&[4, 2], 0.0), &[0, 9]).unwrap_err();
        let expected = "embedding: ids[1] is 9, below 4 is accepted";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn gradients() -> Result<()> {
        assert_gradients(|t| embedding(&t[0], &[3, 0, 3, 1]), &[wave(&[5, 2], 0.2)])
    }
}
