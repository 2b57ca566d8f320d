//! Rotary position embedding (Su et al. 2021, eq. 34) in half-split order, as Hugging Face's LLaMA stores its weights.
//! Legend: N tokens, H heads, D head size.

use candle_core::{D, Tensor};

use super::shape;
use crate::error::{Error, Result};

const OP: &str = "rope";

/// Rotates channel pairs (i, i + D/2) of every token by position · theta^(−2i/D): x (N, H, D), positions (N,) → (N, H, D).
pub fn rope(x: &Tensor, positions: &[u32], theta: f64) -> Result<Tensor> {
    let (tokens, _, size) = shape::heads(OP, "x", x)?;
    if tokens != positions.len() || size % 2 != 0 {
        return Err(Error::internal(format!(
            "{OP}: x has shape {:?}; {} positions were given and the head size must be even",
            x.dims(),
            positions.len()
        )));
    }
    reference(x, positions, theta)
}

/// The same by plain tensor operations.
pub fn reference(x: &Tensor, positions: &[u32], theta: f64) -> Result<Tensor> {
    let half = x.dim(D::Minus1)? / 2;
    let angles: Vec<f64> = positions
        .iter()
        .flat_map(|&position| {
            (0..half).map(move |i| f64::from(position) * theta.powf(-(i as f64) / half as f64))
        })
        .collect();
    let angles = Tensor::from_vec(angles, (positions.len(), 1, half), x.device())?;
    let cos = angles.cos()?.to_dtype(x.dtype())?;
    let sin = angles.sin()?.to_dtype(x.dtype())?;
    let low = x.narrow(D::Minus1, 0, half)?;
    let high = x.narrow(D::Minus1, half, half)?;
    let rotated_low = (low.broadcast_mul(&cos)? - high.broadcast_mul(&sin)?)?;
    let rotated_high = (high.broadcast_mul(&cos)? + low.broadcast_mul(&sin)?)?;
    Ok(Tensor::cat(&[rotated_low, rotated_high], D::Minus1)?)
}
