//! Gated feed-forward activation (Shazeer 2020, SwiGLU): y = silu(gate) · up with silu(g) = g · σ(g), σ(g) = 1 / (1 + e^−g).
//! Legend: N tokens, F feed-forward channels.
//!
//! dgate = dy · up · σ · (1 + g · (1 − σ)) and dup = dy · g · σ. σ is computed again in the backward pass: an exponential
//! is cheaper than another (N, F) in memory.

use std::marker::PhantomData;

use candle_core::{CpuStorage, CustomOp2, Layout, Shape, Tensor};
use rayon::prelude::*;

use super::element::{Element, with_element};
use super::shape;
use super::storage::{Held, slice};
use crate::error::Result;

const OP: &str = "swiglu";

/// Elements of one parallel task: about 10 µs of work.
const BLOCK: usize = 8192;

/// silu(gate) · up, element by element: gate (N, F), up (N, F) → (N, F).
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    let dtype = shape::elements(OP, &[("gate", gate), ("up", up)])?;
    if gate.dims() != up.dims() {
        return Err(shape::mismatch(OP, ("gate", gate), ("up", up)));
    }
    let (gate, up) = (gate.contiguous()?, up.contiguous()?);
    with_element!(OP, dtype, T => Ok(gate.apply_op2(&up, Swiglu(PhantomData::<T>))?))
}

/// The same by plain tensor operations.
pub fn reference(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    Ok((gate.silu()? * up)?)
}

#[inline]
fn sigmoid<T: Element>(x: T) -> T {
    T::one() / (T::one() + (-x).exp())
}

fn forward<T: Element>(gate: &[T], up: &[T]) -> Vec<T> {
    let mut out = vec![T::zero(); gate.len()];
    out.par_chunks_mut(BLOCK)
        .zip(gate.par_chunks(BLOCK))
        .zip(up.par_chunks(BLOCK))
        .for_each(|((out, gate), up)| {
            for ((out, &g), &u) in out.iter_mut().zip(gate).zip(up) {
                *out = g * sigmoid(g) * u;
            }
        });
    out
}

fn backward<T: Element>(gate: &[T], up: &[T], grad: &[T]) -> (Vec<T>, Vec<T>) {
    let mut d_gate = vec![T::zero(); gate.len()];
    let mut d_up = vec![T::zero(); gate.len()];
    d_gate
        .par_chunks_mut(BLOCK)
        .zip(d_up.par_chunks_mut(BLOCK))
        .zip(gate.par_chunks(BLOCK))
        .zip(up.par_chunks(BLOCK))
        .zip(grad.par_chunks(BLOCK))
        .for_each(|((((d_gate, d_up), gate), up), grad)| {
            let results = d_gate.iter_mut().zip(d_up);
            for (((d_gate, d_up), (&g, &u)), &dy) in results.zip(gate.iter().zip(up)).zip(grad) {
                let sigma = sigmoid(g);
                *d_gate = dy * u * sigma * g.fma(T::one() - sigma, T::one());
                *d_up = dy * g * sigma;
            }
        });
    (d_gate, d_up)
}

struct Swiglu<T>(PhantomData<T>);

impl<T: Element> CustomOp2 for Swiglu<T> {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(
        &self,
        gate: &CpuStorage,
        gate_layout: &Layout,
        up: &CpuStorage,
        up_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let out = forward::<T>(slice(gate, gate_layout)?, slice(up, up_layout)?);
        Ok((T::to_cpu_storage_owned(out), gate_layout.shape().clone()))
    }

    fn bwd(
        &self,
        gate: &Tensor,
        up: &Tensor,
        _out: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let held = [Held::new(gate), Held::new(up), Held::new(&grad)];
        let (d_gate, d_up) = backward::<T>(held[0].slice()?, held[1].slice()?, held[2].slice()?);
        let d_gate = Tensor::from_vec(d_gate, gate.shape(), gate.device())?;
        let d_up = Tensor::from_vec(d_up, up.shape(), up.device())?;
        Ok((Some(d_gate), Some(d_up)))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::gradient_check::{
        assert_agrees, assert_close, assert_gradients, elements, wave,
    };
    use super::*;

    /// torch.nn.functional.silu(gate) * up in f64.
    #[test]
    fn agrees_with_torch() -> Result<()> {
        let gate = Tensor::new(&[[-2.0, 0.0, 0.5, 30.0]], &Device::Cpu)?;
        let up = Tensor::new(&[[1.0, 2.0, -3.0, 0.5]], &Device::Cpu)?;
        let expected = [
            -0.238_405_844_044_235_1,
            0.0,
            -0.933_688_996_802_782,
            14.999_999_999_998_598,
        ];
        assert_close(&swiglu(&gate, &up)?, &expected, 1e-15);
        Ok(())
    }

    #[test]
    fn gradients() -> Result<()> {
        let fused = |t: &[Tensor]| swiglu(&t[0], &t[1]);
        assert_gradients(fused, &[wave(&[3, 5], 0.1), wave(&[3, 5], 1.0)])?;
        // More elements than a block.
        let inputs = [wave(&[9, 1000], 0.1), wave(&[9, 1000], 1.0)];
        assert_agrees(fused, |t| reference(&t[0], &t[1]), &inputs)
    }

    #[test]
    fn a_large_gate_of_either_sign_stays_finite() -> Result<()> {
        let gate = Tensor::new(&[[-200f32, 200.0]], &Device::Cpu)?;
        let found = elements(&swiglu(&gate, &gate.ones_like()?)?);
        assert_eq!(found, [0.0, 200.0]);
        Ok(())
    }
}
