//! Gated feed-forward activation (Shazeer 2020, SwiGLU): silu(gate) · up with silu(g) = g / (1 + e^−g).
//! Legend: N tokens, F feed-forward channels.

use candle_core::Tensor;

use super::shape;
use crate::error::Result;

const OP: &str = "swiglu";

/// silu(gate) · up, element by element: gate (N, F), up (N, F) → (N, F).
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    shape::same_kind(OP, ("gate", gate), ("up", up))?;
    if gate.dims() != up.dims() {
        return Err(shape::mismatch(OP, ("gate", gate), ("up", up)));
    }
    reference(gate, up)
}

/// The same by plain tensor operations.
pub fn reference(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    Ok((gate.silu()? * up)?)
}
