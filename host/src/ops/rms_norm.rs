//! Root-mean-square norm (Zhang and Sennrich 2019, eq. 4): y = x · w / √(mean(x²) + eps).
//! Legend: N tokens, C channels.

use candle_core::{D, Tensor};

use super::shape;
use crate::error::Result;

const OP: &str = "rms_norm";

/// Normalises every token to a root mean square of one and scales it: x (N, C), weight (C,) → (N, C).
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let (_, channels) = shape::matrix(OP, "x", x)?;
    shape::same_kind(OP, ("x", x), ("weight", weight))?;
    if weight.dims() != [channels] {
        return Err(shape::mismatch(OP, ("x", x), ("weight", weight)));
    }
    reference(x, weight, eps)
}

/// The same by plain tensor operations.
pub fn reference(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let mean = x.sqr()?.mean_keepdim(D::Minus1)?;
    let normed = x.broadcast_div(&(mean + eps)?.sqrt()?)?;
    Ok(normed.broadcast_mul(weight)?)
}
