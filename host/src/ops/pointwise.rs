//! What is done to every element alone: a scaled sum (Granite's residual multiplier), a factor (Gemma's and Granite's embeddings)
//! and a cap (Gemma 2's logits).
//!
//! All are their own gradients but for the cap: y = c · tanh(x / c) has y′ = 1 − (y / c)², which asks for y alone.

#[cfg(feature = "cuda")]
pub(crate) mod cuda;

use candle_core::Tensor;

use super::element::Element;
use crate::error::Result;

/// out = base + scale · x.
pub fn add_scaled<T: Element>(base: &[T], x: &[T], scale: f64, out: &mut [T]) {
    let scale = T::from_f64(scale);
    for ((out, &base), &x) in out.iter_mut().zip(base).zip(x) {
        *out = x.fma(scale, base);
    }
}

/// out += scale · x.
pub fn accumulate<T: Element>(x: &[T], scale: f64, out: &mut [T]) {
    let scale = T::from_f64(scale);
    for (out, &x) in out.iter_mut().zip(x) {
        *out = x.fma(scale, *out);
    }
}

/// x ← factor · x.
pub fn scale<T: Element>(x: &mut [T], factor: f64) {
    let factor = T::from_f64(factor);
    for x in x {
        *x *= factor;
    }
}

/// x ← c · tanh(x / c) with c = `bound` above 0.
pub fn cap<T: Element>(x: &mut [T], bound: f64) {
    let (bound, inverse) = (T::from_f64(bound), T::from_f64(1.0 / bound));
    for x in x {
        *x = bound * (*x * inverse).tanh();
    }
}

/// d ← d · (1 − (y / c)²): the gradient of what [`cap`] made y of, from that of y = `capped`.
pub fn cap_backward<T: Element>(capped: &[T], bound: f64, d: &mut [T]) {
    let inverse = T::from_f64(1.0 / bound);
    for (d, &y) in d.iter_mut().zip(capped) {
        *d *= cap_slope(y, inverse);
    }
}

/// 1 − (y / c)² of a capped y, from 1 / c.
#[inline]
pub(super) fn cap_slope<T: Element>(y: T, inverse: T) -> T {
    let t = y * inverse;
    (-t).fma(t, T::one())
}

/// [`add_scaled`] by plain tensor operations.
pub fn add_scaled_reference(base: &Tensor, x: &Tensor, scale: f64) -> Result<Tensor> {
    Ok((base + (x * scale)?)?)
}

/// [`cap`] by plain tensor operations.
pub fn cap_reference(x: &Tensor, bound: f64) -> Result<Tensor> {
    Ok(((x / bound)?.tanh()? * bound)?)
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
        crate::device::{Buffer, Gpu, Real},
        std::sync::Arc,
    };

    const SCALE: f64 = 0.22;

    /// base + 0.22 · x, into another buffer and on top of base; gradients by [`scale`].
    struct Scaled;

    impl Operation for Scaled {
        fn forward<T: Element>(&self, inputs: &[Vec<T>]) -> Vec<T> {
            let mut out = vec![T::zero(); inputs[0].len()];
            add_scaled(&inputs[0], &inputs[1], SCALE, &mut out);
            let mut sum = inputs[0].clone();
            accumulate(&inputs[1], SCALE, &mut sum);
            assert!(sum == out, "bits differ");
            out
        }

        fn backward<T: Element>(&self, _: &[Vec<T>], grad: &[T]) -> Vec<Vec<T>> {
            let mut dx = grad.to_vec();
            scale(&mut dx, SCALE);
            vec![grad.to_vec(), dx]
        }

        fn reference(&self, inputs: &[Tensor]) -> Result<Tensor> {
            add_scaled_reference(&inputs[0], &inputs[1], SCALE)
        }

        #[cfg(feature = "cuda")]
        fn forward_on(&self, gpu: &Arc<Gpu>, inputs: &[Buffer<Real>]) -> Result<Vec<f32>> {
            let (base, x) = (inputs[0].view(), inputs[1].view());
            let mut out = Buffer::<Real>::new(gpu, inputs[0].len())?;
            cuda::add_scaled(gpu, base, x, SCALE, out.view_mut())?;
            let mut sum = inputs[0].duplicate()?;
            cuda::accumulate(gpu, x, SCALE, sum.view_mut())?;
            let out = out.download_real()?;
            assert_eq!(out, sum.download_real()?, "bits differ");
            Ok(out)
        }

        #[cfg(feature = "cuda")]
        fn backward_on(
            &self,
            gpu: &Arc<Gpu>,
            _: &[Buffer<Real>],
            grad: &[f32],
        ) -> Result<Vec<Vec<f32>>> {
            let mut dx = Buffer::<Real>::upload_real(gpu, grad)?;
            cuda::scale(gpu, dx.view_mut(), SCALE)?;
            Ok(vec![grad.to_vec(), dx.download_real()?])
        }
    }

    struct Capped;

    const BOUND: f64 = 0.75;

    impl Operation for Capped {
        fn forward<T: Element>(&self, inputs: &[Vec<T>]) -> Vec<T> {
            let mut out = inputs[0].clone();
            cap(&mut out, BOUND);
            out
        }

        fn backward<T: Element>(&self, inputs: &[Vec<T>], grad: &[T]) -> Vec<Vec<T>> {
            let mut d = grad.to_vec();
            cap_backward(&self.forward(inputs), BOUND, &mut d);
            vec![d]
        }

        fn reference(&self, inputs: &[Tensor]) -> Result<Tensor> {
            cap_reference(&inputs[0], BOUND)
        }

        /// Logits are f32 whatever the dtype.
        #[cfg(feature = "cuda")]
        fn forward_on(&self, gpu: &Arc<Gpu>, inputs: &[Buffer<Real>]) -> Result<Vec<f32>> {
            let mut logits = Buffer::upload(gpu, &inputs[0].download_real()?)?;
            cuda::cap(gpu, logits.view_mut(), BOUND)?;
            logits.download()
        }

        #[cfg(feature = "cuda")]
        fn backward_on(
            &self,
            gpu: &Arc<Gpu>,
            inputs: &[Buffer<Real>],
            grad: &[f32],
        ) -> Result<Vec<Vec<f32>>> {
            let capped = Buffer::upload(gpu, &self.forward_on(gpu, inputs)?)?;
            let mut d = Buffer::<Real>::upload_real(gpu, grad)?;
            cuda::cap_backward(gpu, capped.view(), BOUND, d.view_mut())?;
            Ok(vec![d.download_real()?])
        }
    }

    /// Counts around a pack, and more than one turn of a block.
    fn gradients(device: &Device) -> Result<()> {
        for count in [1, 7, 8, 100, 3001] {
            let operands = [wave(count, 0.1), wave(count, 1.0)];
            assert_gradients(device, &Scaled, &operands)?;
            assert_gradients(device, &Capped, &operands[..1])?;
        }
        #[cfg(feature = "cuda")]
        if device.is_cuda() {
            assert_gradients(device, &Scaled, &[Vec::new(), Vec::new()])?;
            assert_gradients(device, &Capped, &[Vec::new()])?;
        }
        Ok(())
    }

    test_device!(gradients, gradients_on_cpu, gradients_on_cuda);

    /// `torch.tanh(x / 30) * 30` in f64.
    #[test]
    fn a_cap_agrees_with_torch() {
        let mut x = [0.5, -12.0, 45.0, 1e4];
        cap(&mut x, 30.0);
        assert_close(
            &x,
            &[
                0.499_953_708_847_158,
                -11.398_468_867_656_748,
                27.154_447_609_345_993,
                30.0,
            ],
            1e-12,
        );
        let mut d = [1.0; 4];
        cap_backward(&x, 30.0, &mut d);
        assert_close(&d[3..], &[0.0], 0.0);
    }
}
