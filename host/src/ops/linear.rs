//! Linear map without a bias: y = x · Wᵀ.
//! Legend: N tokens, I inputs, O outputs.

use candle_core::Tensor;

use super::shape;
use crate::error::Result;

const OP: &str = "linear";

/// Multiplies every token by the weight: x (N, I), weight (O, I) → (N, O).
pub fn linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let (_, inputs) = shape::matrix(OP, "x", x)?;
    let (_, expected) = shape::matrix(OP, "weight", weight)?;
    shape::same_kind(OP, ("x", x), ("weight", weight))?;
    if inputs != expected {
        return Err(shape::mismatch(OP, ("x", x), ("weight", weight)));
    }
    reference(x, weight)
}

/// The same by plain tensor operations.
pub fn reference(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    Ok(x.matmul(&weight.t()?)?)
}
