//! The bias of a linear map (Qwen 2's queries, keys and values): y = x + b for every token. Legend: n tokens, O outputs.
//!
//! dx = dy, and db = Σ over tokens of dy. Nothing is kept for the backward pass.

#[cfg(feature = "cuda")]
pub(crate) mod cuda;

use candle_core::Tensor;

use super::element::Element;
use crate::error::Result;

/// Adds `bias` (O,) to every row of x (n, O), in place.
pub fn add<T: Element>(x: &mut [T], bias: &[T]) {
    for row in x.chunks_exact_mut(bias.len()) {
        for (x, &b) in row.iter_mut().zip(bias) {
            *x += b;
        }
    }
}

/// Adds the rows of `grad` (n, O), in their order, to `into` (O,), the gradient of the bias.
pub fn sums<T: Element>(grad: &[T], into: &mut [T]) {
    for row in grad.chunks_exact(into.len()) {
        for (sum, &d) in into.iter_mut().zip(row) {
            *sum += d;
        }
    }
}

/// The same as [`add`] by plain tensor operations: x (n, O), bias (O,) → (n, O).
pub fn reference(x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    Ok(x.broadcast_add(bias)?)
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

    struct Bias;

    impl Operation for Bias {
        fn forward<T: Element>(&self, inputs: &[Vec<T>]) -> Vec<T> {
            let mut out = inputs[0].clone();
            add(&mut out, &inputs[1]);
            out
        }

        fn backward<T: Element>(&self, inputs: &[Vec<T>], grad: &[T]) -> Vec<Vec<T>> {
            let mut d_bias = vec![T::zero(); inputs[1].len()];
            sums(grad, &mut d_bias);
            vec![grad.to_vec(), d_bias]
        }

        fn reference(&self, inputs: &[Tensor]) -> Result<Tensor> {
            let outputs = inputs[1].elem_count();
            reference(&inputs[0].reshape(((), outputs))?, &inputs[1])
        }

        #[cfg(feature = "cuda")]
        fn forward_on(&self, gpu: &Arc<Gpu>, inputs: &[Buffer<Real>]) -> Result<Vec<f32>> {
            let mut out = inputs[0].duplicate()?;
            cuda::add(gpu, out.view_mut(), inputs[1].view())?;
            out.download_real()
        }

        #[cfg(feature = "cuda")]
        fn backward_on(
            &self,
            gpu: &Arc<Gpu>,
            inputs: &[Buffer<Real>],
            grad: &[f32],
        ) -> Result<Vec<Vec<f32>>> {
            let buffer = Buffer::upload_real(gpu, grad)?;
            let mut d_bias = gpu.zeros(inputs[1].len())?;
            cuda::sums(gpu, buffer.view(), d_bias.view_mut())?;
            Ok(vec![grad.to_vec(), d_bias.download()?])
        }
    }

    /// Rows and outputs around what a block of the GPU takes.
    fn gradients(device: &Device) -> Result<()> {
        for (rows, outputs) in [(3, 5), (1, 96), (67, 264), (300, 33), (1000, 8)] {
            let operands = [wave(rows * outputs, 0.1), wave(outputs, 1.0)];
            assert_gradients(device, &Bias, &operands)?;
        }
        Ok(())
    }

    test_device!(gradients, gradients_on_cpu, gradients_on_cuda);

    #[test]
    fn sums_are_added_to_what_is_there() {
        let mut into = [1.0, -2.0];
        sums(&[1.0, 2.0, 10.0, 20.0, 100.0, 200.0], &mut into);
        assert_close(&into, &[112.0, 220.0], 0.0);
    }

    #[cfg(feature = "cuda")]
    #[test]
    fn a_gpu_adds_to_what_is_there_and_takes_no_rows() -> Result<()> {
        with_gpus(|gpu| {
            let mut into = Buffer::upload(gpu, &[1f32, -2.0])?;
            let grad = Buffer::upload_real(gpu, &[1.0, 2.0, 10.0, 20.0])?;
            cuda::sums(gpu, grad.view(), into.view_mut())?;
            assert_eq!(into.download()?, [12.0, 20.0]);
            let mut none = Buffer::<Real>::upload_real(gpu, &[])?;
            cuda::sums(gpu, none.view(), into.view_mut())?;
            let bias = Buffer::upload_real(gpu, &[1.0, 2.0])?;
            cuda::add(gpu, none.view_mut(), bias.view())?;
            assert_eq!(into.download()?, [12.0, 20.0]);
            Ok(())
        })
    }
}
