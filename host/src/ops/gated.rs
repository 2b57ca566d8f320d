//! Gated feed-forward activations (Shazeer 2020): y = a(gate) · up. Legend: n tokens, F feed-forward channels. Gate and up of a
//! token stand side by side: (n, 2F).
//!
//! With σ(x) = 1 / (1 + e^−x), a is one of
//! - silu(g) = g · σ(g) (SwiGLU);
//! - gelu(g) = g/2 · (1 + tanh z) with z = √(2/π) · (g + 0.044715 g³), torch's `approximate="tanh"` (GeGLU; Hendrycks and Gimpel
//!   2016). As (1 + tanh z) / 2 = σ(2z), it is g · σ(v) with v = 2z: one exponential, and exact at both ends.
//!
//! dgate = dy · up · a′(g) and dup = dy · a(g), with silu′ = σ · (1 + g · (1 − σ)) and gelu′ = σ · (1 + g · v′ · (1 − σ)),
//! v′ = 2√(2/π) · (1 + 3 · 0.044715 g²). σ is computed again in the backward pass: an exponential is cheaper than another (n, F)
//! in memory.

#[cfg(feature = "cuda")]
pub(crate) mod cuda;

use std::array::from_mut;

use candle_core::Tensor;

use super::element::Element;
use super::lanes::LANES;
use crate::error::Result;

/// What a gate goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// g · σ(g): SwiGLU.
    Silu,
    /// GELU by its approximation with tanh: GeGLU.
    GeluTanh,
}

#[inline]
fn sigmoid<T: Element>(x: T) -> T {
    T::one() / (T::one() + (-x).exp())
}

/// 2√(2/π), and the cube's factor.
const ROOT: f64 = 1.595_769_121_605_730_7;
const CUBE: f64 = 0.044_715;
/// Gates are cut to ± this in v and v′, so that no cube overflows: there σ(v) is 0 or 1 already.
const CUT: f64 = 32.0;

/// σ(v) and v′ of a gate.
#[inline]
fn gelu_parts<T: Element>(g: T) -> (T, T) {
    let [root, cube, cut] = [ROOT, CUBE, CUT].map(T::from_f64);
    let g = if g > cut { cut } else { g };
    let g = if g < -cut { -cut } else { g };
    let square = g * g * cube;
    let v = root * g * (T::one() + square);
    let slope = root * (T::one() + T::from_f64(3.0) * square);
    (sigmoid(v), slope)
}

#[inline]
fn silu<T: Element>(g: T) -> T {
    g * sigmoid(g)
}

#[inline]
fn gelu<T: Element>(g: T) -> T {
    g * gelu_parts(g).0
}

/// a(gate) · up: `gate_up` (n, 2F) → out (n, F).
pub fn forward<T: Element>(activation: Activation, gate_up: &[T], width: usize, out: &mut [T]) {
    match activation {
        Activation::Silu => gate(silu, gate_up, width, out),
        Activation::GeluTanh => gate(gelu, gate_up, width, out),
    }
}

fn gate<T: Element>(by: impl Fn(T) -> T, gate_up: &[T], width: usize, out: &mut [T]) {
    let rows = gate_up.chunks_exact(2 * width);
    for (row, out) in rows.zip(out.chunks_exact_mut(width)) {
        let (gate, up) = row.split_at(width);
        for ((out, &g), &u) in out.iter_mut().zip(gate).zip(up) {
            *out = by(g) * u;
        }
    }
}

/// In place: `gate_up` (n, 2F) becomes its gradient, and `grad` (n, F), the gradient of y, becomes y, which the weight
/// after it needs for its own gradient.
pub fn backward<T: Element>(
    activation: Activation,
    gate_up: &mut [T],
    width: usize,
    grad: &mut [T],
) {
    match activation {
        Activation::Silu => differentiate(through_silu, gate_up, width, grad),
        Activation::GeluTanh => differentiate(through_gelu, gate_up, width, grad),
    }
}

/// dgate, dup and y of one channel from gate, up and dy.
#[inline]
fn through_silu<T: Element>(g: T, u: T, dy: T) -> [T; 3] {
    let sigma = sigmoid(g);
    let silu = g * sigma;
    let dg = dy * u * sigma * g.fma(T::one() - sigma, T::one());
    [dg, dy * silu, silu * u]
}

/// The same.
#[inline]
fn through_gelu<T: Element>(g: T, u: T, dy: T) -> [T; 3] {
    let (sigma, slope) = gelu_parts(g);
    let gelu = g * sigma;
    let dg = dy * u * sigma * (g * slope).fma(T::one() - sigma, T::one());
    [dg, dy * gelu, gelu * u]
}

fn differentiate<T: Element>(
    through: impl Fn(T, T, T) -> [T; 3] + Copy,
    gate_up: &mut [T],
    width: usize,
    grad: &mut [T],
) {
    let rows = gate_up.chunks_exact_mut(2 * width);
    for (row, grad) in rows.zip(grad.chunks_exact_mut(width)) {
        let (gate, up) = row.split_at_mut(width);
        let (gate, gate_rest) = gate.as_chunks_mut::<LANES>();
        let (up, up_rest) = up.as_chunks_mut::<LANES>();
        let (grad, grad_rest) = grad.as_chunks_mut::<LANES>();
        for ((gate, up), grad) in gate.iter_mut().zip(up).zip(grad) {
            differentiate_some(through, gate, up, grad);
        }
        for ((gate, up), grad) in gate_rest.iter_mut().zip(up_rest).zip(grad_rest) {
            differentiate_some(through, from_mut(gate), from_mut(up), from_mut(grad));
        }
    }
}

/// The loop over some channels. Operands are copied first: over three slices that are read and written the compiler did not
/// vectorise it.
#[inline]
fn differentiate_some<T: Element, const N: usize>(
    through: impl Fn(T, T, T) -> [T; 3],
    gate: &mut [T; N],
    up: &mut [T; N],
    grad: &mut [T; N],
) {
    let (g, u, dy) = (*gate, *up, *grad);
    for i in 0..N {
        [gate[i], up[i], grad[i]] = through(g[i], u[i], dy[i]);
    }
}

/// The same by plain tensor operations: `gate_up` (n, 2F) → (n, F).
pub fn reference(activation: Activation, gate_up: &Tensor) -> Result<Tensor> {
    let width = gate_up.dim(1)? / 2;
    let (gate, up) = (
        gate_up.narrow(1, 0, width)?,
        gate_up.narrow(1, width, width)?,
    );
    let gate = match activation {
        Activation::Silu => gate.silu()?,
        Activation::GeluTanh => {
            let z = ((&gate + (gate.powf(3.0)? * CUBE)?)? * (ROOT / 2.0))?;
            ((z.tanh()? + 1.0)? * (gate * 0.5)?)?
        }
    };
    Ok((gate * up)?)
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

    const ALL: [Activation; 2] = [Activation::Silu, Activation::GeluTanh];

    struct Gated {
        activation: Activation,
        width: usize,
    }

    impl Operation for Gated {
        fn forward<T: Element>(&self, inputs: &[Vec<T>]) -> Vec<T> {
            let mut out = vec![T::zero(); inputs[0].len() / 2];
            forward(self.activation, &inputs[0], self.width, &mut out);
            out
        }

        fn backward<T: Element>(&self, inputs: &[Vec<T>], grad: &[T]) -> Vec<Vec<T>> {
            let (mut gate_up, mut grad) = (inputs[0].clone(), grad.to_vec());
            backward(self.activation, &mut gate_up, self.width, &mut grad);
            assert!(grad == self.forward(inputs), "the gradient of y becomes y");
            vec![gate_up]
        }

        fn reference(&self, inputs: &[Tensor]) -> Result<Tensor> {
            reference(self.activation, &inputs[0].reshape(((), 2 * self.width))?)
        }

        #[cfg(feature = "cuda")]
        fn forward_on(&self, gpu: &Arc<Gpu>, inputs: &[Buffer<Real>]) -> Result<Vec<f32>> {
            let mut out = Buffer::<Real>::new(gpu, inputs[0].len() / 2)?;
            let gate_up = inputs[0].view();
            cuda::forward(gpu, self.activation, gate_up, self.width, out.view_mut())?;
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
            let (operand, d) = (gate_up.view_mut(), grad.view_mut());
            cuda::backward(gpu, self.activation, operand, self.width, d)?;
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
        let silu = Gated {
            activation: Activation::Silu,
            width: 4,
        };
        assert_close(&silu.forward(&[gate_up]), &expected, 1e-15);
    }

    /// torch.nn.functional.gelu(gate, approximate="tanh") * up in f64.
    #[test]
    fn gelu_agrees_with_torch() {
        let gate = [-2.0, 0.0, 0.5, 30.0, -40.0, 1.5];
        let up = [1.0, 2.0, -3.0, 0.5, 1.0, -0.25];
        let expected = [
            -0.045_402_305_912_224_94,
            0.0,
            -1.037_142_029_475_431_9,
            15.0,
            0.0,
            -0.349_892_894_245_058_1,
        ];
        let gelu = Gated {
            activation: Activation::GeluTanh,
            width: 6,
        };
        let gate_up = [gate, up].concat();
        assert_close(&gelu.forward(&[gate_up]), &expected, 1e-15);
    }

    fn gradients(device: &Device) -> Result<()> {
        for (rows, width) in [(3, 5), (7, 100), (1, 12), (3, 96), (257, 577)] {
            for activation in ALL {
                let gated = Gated { activation, width };
                assert_gradients(device, &gated, &[wave(rows * 2 * width, 0.1)])?;
            }
        }
        Ok(())
    }

    test_device!(gradients, gradients_on_cpu, gradients_on_cuda);

    #[cfg(feature = "cuda")]
    #[test]
    fn a_gpu_takes_no_rows_and_gates_of_any_size() -> Result<()> {
        with_gpus(|gpu| {
            let device = Device::Cuda(gpu.clone());
            for activation in ALL {
                let gated = |width| Gated { activation, width };
                assert_gradients(&device, &gated(12), &[Vec::new()])?;
                let large = vec![-200.0, 200.0, 1.0, 1.0];
                assert_gradients(&device, &gated(2), &[large])?;
            }
            Ok(())
        })
    }

    #[test]
    fn a_large_gate_of_either_sign_stays_finite() {
        for (activation, size) in [
            (Activation::Silu, 200f32),
            (Activation::GeluTanh, 200.0),
            (Activation::GeluTanh, 1e30),
        ] {
            let mut gate_up = [-size, size, 1.0, 1.0];
            let mut out = [0.0; 2];
            forward(activation, &gate_up, 2, &mut out);
            assert_eq!(out, [0.0, size]);
            let mut grad = [1.0, 1.0];
            backward(activation, &mut gate_up, 2, &mut grad);
            assert_eq!(gate_up, [0.0, 1.0, 0.0, size]);
        }
    }
}
