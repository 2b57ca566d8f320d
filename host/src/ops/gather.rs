//! Rows of a matrix by position.
//! Legend: N tokens, C channels, M chosen positions.

use candle_core::Tensor;

use super::shape;
use crate::error::Result;

const OP: &str = "gather";

/// The rows at `positions`, in their order; a position may come several times: x (N, C), positions (M,) → (M, C).
pub fn gather(x: &Tensor, positions: &[u32]) -> Result<Tensor> {
    let (rows, _) = shape::matrix(OP, "x", x)?;
    shape::indices(OP, "positions", positions, rows)?;
    reference(x, positions)
}

/// The same by plain tensor operations.
pub fn reference(x: &Tensor, positions: &[u32]) -> Result<Tensor> {
    let positions = Tensor::from_slice(positions, positions.len(), x.device())?;
    Ok(x.index_select(&positions, 0)?)
}
