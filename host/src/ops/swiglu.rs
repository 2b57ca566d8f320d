//! Gated feed-forward activation (Shazeer 2020, SwiGLU): y = silu(gate) · up with silu(g) = g · σ(g), σ(g) = 1 / (1 + e^−g).
//! Legend: n tokens, F feed-forward channels. Gate and up of a token stand side by side: (n, 2F).
//!
//! dgate = dy · up · σ · (1 + g · (1 − σ)) and dup = dy · g · σ. σ is computed again in the backward pass: an exponential
//! is cheaper than another (n, F) in memory.

#[cfg(feature = "cuda")]
pub(crate) mod cuda;

use std::array::from_mut;

use candle_core::Tensor;

use super::element::Element;
use super::lanes::LANES;
use crate::error::Result;

#[inline]
fn sigmoid<T: Element>(x: T) -> T {
    T::one() / (T::one() + (-x).exp())
}

/// silu(gate) · up: `gate_up` (n, 2F) → out (n, F).
pub fn forward<T: Element>(gate_up: &[T], width: usize, out: &mut [T]) {
    let rows = gate_up.chunks_exact(2 * width);
    for (row, out) in rows.zip(out.chunks_exact_mut(width)) {
        let (gate, up) = row.split_at(width);
        for ((out, &g), &u) in out.iter_mut().zip(gate).zip(up) {
            *out = g * sigmoid(g) * u;
        }
    }
}

/// In place: `gate_up` (n, 2F) becomes its gradient, and `grad` (n, F), the gradient of y, becomes y, which the weight
/// after it needs for its own gradient.
pub fn backward<T: Element>(gate_up: &mut [T], width: usize, grad: &mut [T]) {
    let rows = gate_up.chunks_exact_mut(2 * width);
    for (row, grad) in rows.zip(grad.chunks_exact_mut(width)) {
        let (gate, up) = row.split_at_mut(width);
        let (gate, gate_rest) = gate.as_chunks_mut::<LANES>();
        let (up, up_rest) = up.as_chunks_mut::<LANES>();
        let (grad, grad_rest) = grad.as_chunks_mut::<LANES>();
        for ((gate, up), grad) in gate.iter_mut().zip(up).zip(grad) {
            differentiate(gate, up, grad);
        }
        for ((gate, up), grad) in gate_rest.iter_mut().zip(up_rest).zip(grad_rest) {
            differentiate(from_mut(gate), from_mut(up), from_mut(grad));
        }
    }
}

/// The loop over some channels. Operands are copied first: over three slices that are read and written the compiler did not
/// vectorise it.
#[inline]
fn differentiate<T: Element, const N: usize>(
    gate: &mut [T; N],
    up: &mut [T; N],
    grad: &mut [T; N],
) {
    let (g, u, dy) = (*gate, *up, *grad);
    for i in 0..N {
        let sigma = sigmoid(g[i]);
        let silu = g[i] * sigma;
        gate[i] = dy[i] * u[i] * sigma * g[i].fma(T::one() - sigma, T::one());
        up[i] = dy[i] * silu;
        grad[i] = silu * u[i];
    }
}

/// The same by plain tensor operations: `gate_up` (n, 2F) → (n, F).
pub fn reference(gate_up: &Tensor) -> Result<Tensor> {
    let width = gate_up.dim(1)? / 2;
    let up = gate_up.narrow(1, width, width)?;
    Ok((gate_up.narrow(1, 0, width)?.silu()? * up)?)
}

#[cfg(test)]
mod tests {
    use super::super::gradient_check::{
        Operation, assert_close, assert_gradients, test_device, wave,
    };
    use super::*;
    use crate::device::Device;
    #[cfg(feature = "cuda")]
    use {
        super::super::gradient_check::with_gpus,
        crate::device::{Buffer, Gpu, Real},
        std::sync::Arc,
    };

    struct Swiglu {
        width: usize,
    }

    impl Operation for Swiglu {
        fn forward<T: Element>(&self, inputs: &[Vec<T>]) -> Vec<T> {
            let mut out = vec![T::zero(); inputs[0].len() / 2];
            forward(&inputs[0], self.width, &mut out);
            out
        }

        fn backward<T: Element>(&self, inputs: &[Vec<T>], grad: &[T]) -> Vec<Vec<T>> {
            let (mut gate_up, mut grad) = (inputs[0].clone(), grad.to_vec());
            backward(&mut gate_up, self.width, &mut grad);
            assert!(grad == self.forward(inputs), "the gradient of y becomes y");
            vec![gate_up]
        }

        fn reference(&self, inputs: &[Tensor]) -> Result<Tensor> {
            reference(&inputs[0].reshape(((), 2 * self.width))?)
        }

        #[cfg(feature = "cuda")]
        fn forward_on(&self, gpu: &Arc<Gpu>, inputs: &[Buffer<Real>]) -> Result<Vec<f32>> {
            let mut out = Buffer::<Real>::new(gpu, inputs[0].len() / 2)?;
            cuda::forward(gpu, inputs[0].view(), self.width, out.view_mut())?;
            out.download_real()
        }

        #[cfg(feature = "cuda")]
        fn backward_on(
            &self,
            gpu: &Arc<Gpu>,
            inputs: &[Buffer<Real>],
            grad: &[f32],
        ) -> Result<Vec<Vec<f32>>> {
            let mut gate_up = inputs[0].duplicate()?;
            let mut grad = Buffer::upload_real(gpu, grad)?;
            cuda::backward(gpu, gate_up.view_mut(), self.width, grad.view_mut())?;
            let again = self.forward_on(gpu, inputs)?;
            assert_eq!(grad.download_real()?, again, "the gradient of y becomes y");
            Ok(vec![gate_up.download_real()?])
        }
    }

    /// torch.nn.functional.silu(gate) * up in f64.
    #[test]
    fn agrees_with_torch() {
        let gate_up = vec![-2.0, 0.0, 0.5, 30.0, 1.0, 2.0, -3.0, 0.5];
        let expected = [
            -0.238_405_844_044_235_1,
            0.0,
            -0.933_688_996_802_782,
            14.999_999_999_998_598,
        ];
        assert_close(&Swiglu { width: 4 }.forward(&[gate_up]), &expected, 1e-15);
    }

    fn gradients(device: &Device) -> Result<()> {
        for (rows, width) in [(3, 5), (7, 100), (1, 12), (3, 96), (257, 577)] {
            assert_gradients(device, &Swiglu { width }, &[wave(rows * 2 * width, 0.1)])?;
        }
        Ok(())
    }

    test_device!(gradients, gradients_on_cpu, gradients_on_cuda);

    #[cfg(feature = "cuda")]
    #[test]
    fn a_gpu_takes_no_rows_and_gates_of_any_size() -> Result<()> {
        with_gpus(|gpu| {
            let device = Device::Cuda(gpu.clone());
            assert_gradients(&device, &Swiglu { width: 12 }, &[Vec::new()])?;
            let large = vec![-200.0, 200.0, 1.0, 1.0];
            assert_gradients(&device, &Swiglu { width: 2 }, &[large])
        })
    }

    #[test]
    fn a_large_gate_of_either_sign_stays_finite() {
        let mut gate_up = [-200f32, 200.0, 1.0, 1.0];
        let mut out = [0.0; 2];
        forward(&gate_up, 2, &mut out);
        assert_eq!(out, [0.0, 200.0]);
        let mut grad = [1.0, 1.0];
        backward(&mut gate_up, 2, &mut grad);
        assert_eq!(gate_up, [0.0, 1.0, 0.0, 200.0]);
    }
}
