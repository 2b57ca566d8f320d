//! Root-mean-square norm (Zhang and Sennrich 2019, eq. 4): y = x · w / √(mean(x²) + eps).
//! Legend: n tokens, C channels.
//!
//! With s = 1 / √(mean(x²) + eps) of a token: dx = s · (w · dy) − x · s³ · Σ(w · dy · x) / C, and dw = Σ over tokens of
//! dy · x · s. Nothing is kept for the backward pass: s is one sum over a row that is read anyway.

#[cfg(feature = "cuda")]
pub(crate) mod cuda;

use candle_core::{D, Tensor};

use super::element::Element;
use super::lanes::{dot, dot3};
use super::start::Start;
use crate::error::Result;

/// 1 / √(mean(x²) + eps) of one token.
fn scale<T: Element>(x: &[T], eps: T) -> T {
    let mean = dot(x, x) / T::from_f64(x.len() as f64);
    T::one() / (mean + eps).sqrt()
}

/// y of every token: x (n, C), weight (C,) → out (n, C).
pub fn forward<T: Element>(x: &[T], weight: &[T], eps: f64, out: &mut [T]) {
    let eps = T::from_f64(eps);
    let rows = x.chunks_exact(weight.len());
    for (x, out) in rows.zip(out.chunks_exact_mut(weight.len())) {
        let scale = scale(x, eps);
        for ((out, &x), &w) in out.iter_mut().zip(x).zip(weight) {
            *out = x * scale * w;
        }
    }
}

/// Writes the gradient of x on top of `start`, that of the residual stream, to `dx` (n, C), and adds the gradient of the
/// weight to `dw` (C,): `grad` (n, C) is that of y.
pub fn backward<T: Element>(
    x: &[T],
    weight: &[T],
    eps: f64,
    grad: &[T],
    (start, dx): (Start<'_, T>, &mut [T]),
    dw: &mut [T],
) {
    let channels = weight.len();
    let (count, eps) = (T::from_f64(channels as f64), T::from_f64(eps));
    let rows = x.chunks_exact(channels).zip(grad.chunks_exact(channels));
    for (row, ((x, grad), dx)) in rows.zip(dx.chunks_exact_mut(channels)).enumerate() {
        match start {
            Start::Zero => dx.fill(T::zero()),
            Start::Result => {}
            Start::Of(base) => dx.copy_from_slice(&base[row * channels..][..channels]),
        }
        let scale = scale(x, eps);
        let shrink = dot3(x, grad, weight) * scale * scale * scale / count;
        let operands = x.iter().zip(grad).zip(weight);
        for ((dx, dw), ((&x, &g), &w)) in dx.iter_mut().zip(&mut *dw).zip(operands) {
            *dx += (scale * g).fma(w, -(x * shrink));
            *dw = (x * scale).fma(g, *dw);
        }
    }
}

/// The same by plain tensor operations: x (n, C), weight (C,) → (n, C).
pub fn reference(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let mean = x.sqr()?.mean_keepdim(D::Minus1)?;
    let normed = x.broadcast_div(&(mean + eps)?.sqrt()?)?;
    Ok(normed.broadcast_mul(weight)?)
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

    const EPS: f64 = 1e-5;

    struct Norm;

    impl Operation for Norm {
        fn forward<T: Element>(&self, inputs: &[Vec<T>]) -> Vec<T> {
            let mut out = vec![T::zero(); inputs[0].len()];
            forward(&inputs[0], &inputs[1], EPS, &mut out);
            out
        }

        fn backward<T: Element>(&self, inputs: &[Vec<T>], grad: &[T]) -> Vec<Vec<T>> {
            let mut dx = vec![T::zero(); inputs[0].len()];
            let mut dw = vec![T::zero(); inputs[1].len()];
            backward(
                &inputs[0],
                &inputs[1],
                EPS,
                grad,
                (Start::Zero, &mut dx),
                &mut dw,
            );
            vec![dx, dw]
        }

        fn reference(&self, inputs: &[Tensor]) -> Result<Tensor> {
            let channels = inputs[1].elem_count();
            reference(&inputs[0].reshape(((), channels))?, &inputs[1], EPS)
        }

        #[cfg(feature = "cuda")]
        fn forward_on(&self, gpu: &Arc<Gpu>, inputs: &[Buffer<Real>]) -> Result<Vec<f32>> {
            let [x, w] = inputs else {
                panic!("two operands")
            };
            let mut out = Buffer::<Real>::new(gpu, x.len())?;
            cuda::forward(gpu, x.view(), w.view(), EPS, out.view_mut())?;
            out.download_real()
        }

        #[cfg(feature = "cuda")]
        fn backward_on(
            &self,
            gpu: &Arc<Gpu>,
            inputs: &[Buffer<Real>],
            grad: &[f32],
        ) -> Result<Vec<Vec<f32>>> {
            let operands = (inputs[0].view(), inputs[1].view());
            let grad = Buffer::upload_real(gpu, grad)?;
            let mut dx = gpu.zeros::<Real>(inputs[0].len())?;
            let mut dw = gpu.zeros(inputs[1].len())?;
            let d_weight = Some(dw.view_mut());
            cuda::backward(gpu, operands, EPS, grad.view(), dx.view_mut(), d_weight)?;
            Ok(vec![dx.download_real()?, dw.download()?])
        }
    }

    /// x = sin(1.7 i + 0.5) as (2, 4); LlamaRMSNorm(4, eps=1e-5) of transformers 4 with weight [1, 2, −1, 0.5], which
    /// computes in f32.
    #[test]
    fn agrees_with_transformers() {
        let out = Norm.forward(&[wave(8, 0.5), vec![1.0, 2.0, -1.0, 0.5]]);
        let expected = [
            0.723_774_55,
            2.441_126_1,
            1.038_300_2,
            -0.476_502_27, //
            1.255_368_4,
            1.216_693_9,
            1.412_132_6,
            -0.122_227_94,
        ];
        assert_close(&out, &expected, 1e-6);
    }

    fn gradients(device: &Device) -> Result<()> {
        for (rows, channels) in [(3, 5), (1, 18), (67, 20), (1, 12), (3, 96), (257, 577)] {
            let operands = [wave(rows * channels, 0.1), wave(channels, 1.0)];
            assert_gradients(device, &Norm, &operands)?;
        }
        Ok(())
    }

    test_device!(gradients, gradients_on_cpu, gradients_on_cuda);

    /// Rows beyond the blocks of the backward pass; none; what stands in the gradients stays; a frozen weight.
    #[cfg(feature = "cuda")]
    #[test]
    fn a_gpu_adds_what_the_processor_adds() -> Result<()> {
        with_gpus(|gpu| {
            assert_gradients(
                &Device::Cuda(gpu.clone()),
                &Norm,
                &[wave(1100 * 3, 0.1), wave(3, 1.0)],
            )?;
            let device = Device::Cuda(gpu.clone());
            assert_gradients(&device, &Norm, &[Vec::new(), wave(12, 1.0)])?;
            let [x, w, grad] = [(96, 0.1), (12, 1.0), (96, 0.3)].map(|(count, phase)| {
                wave(count, phase)
                    .iter()
                    .map(|&x| x as f32)
                    .collect::<Vec<_>>()
            });
            let [x, w, grad] = [x, w, grad].map(|values| Buffer::upload_real(gpu, &values));
            let (x, w, grad) = (x?, w?, grad?);
            let run = |start: f32, trained: bool| -> Result<(Vec<f32>, Vec<f32>)> {
                let mut dx = Buffer::upload_real(gpu, &[start; 96])?;
                let mut dw = Buffer::upload(gpu, &[start; 12])?;
                let d_weight = trained.then(|| dw.view_mut());
                let operands = (x.view(), w.view());
                cuda::backward(gpu, operands, EPS, grad.view(), dx.view_mut(), d_weight)?;
                Ok((dx.download_real()?, dw.download()?))
            };
            let (fresh, added, frozen) = (run(0.0, true)?, run(2.0, true)?, run(2.0, false)?);
            assert_eq!((&frozen.0, frozen.1), (&added.0, vec![2.0; 12]));
            let close = |fresh: &[f32], added: &[f32], tolerance: f32| {
                for (fresh, added) in fresh.iter().zip(added) {
                    assert!((added - fresh - 2.0).abs() < tolerance, "{added} {fresh}");
                }
            };
            // bf16 has steps of 2⁻⁶ between 2 and 4.
            close(&fresh.0, &added.0, 0.02);
            close(&fresh.1, &added.1, 1e-5);
            Ok(())
        })
    }

    #[test]
    fn gradients_are_added_to_what_is_there() {
        let (x, w, grad) = (wave(6, 0.1), wave(3, 1.0), wave(6, 0.3));
        let (mut fresh, mut again) = (vec![0.0; 6], wave(6, 2.0));
        let (mut dw, mut dw_again) = (vec![0.0; 3], wave(3, 0.7));
        backward(&x, &w, EPS, &grad, (Start::Zero, &mut fresh), &mut dw);
        backward(
            &x,
            &w,
            EPS,
            &grad,
            (Start::Result, &mut again),
            &mut dw_again,
        );
        let sums: Vec<f64> = fresh.iter().zip(wave(6, 2.0)).map(|(a, b)| a + b).collect();
        assert_close(&again, &sums, 1e-15);
        let (mut onto, base) = (vec![f64::NAN; 6], wave(6, 2.0));
        let into = (Start::Of(&base[..]), &mut onto[..]);
        backward(&x, &w, EPS, &grad, into, &mut dw.clone());
        assert_eq!(onto, again);
        let sums: Vec<f64> = dw.iter().zip(wave(3, 0.7)).map(|(a, b)| a + b).collect();
        assert_close(&dw_again, &sums, 1e-15);
    }
}
