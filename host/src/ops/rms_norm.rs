//! Root-mean-square norm (Zhang and Sennrich 2019, eq. 4): y = x · ŵ / √(mean(x²) + eps), ŵ = offset + w.
//! Legend: n tokens, C channels.
//!
//! With s = 1 / √(mean(x²) + eps) of a token: dx = s · (ŵ · dy) − x · s³ · Σ(ŵ · dy · x) / C, and dw = Σ over tokens of
//! dy · x · s. Nothing is kept for the backward pass: s is one sum over a row that is read anyway.
//!
//! Queries and keys are normed where they lie among other channels: head by head with one weight of D (Qwen 3, Gemma 3), or all
//! heads together with a weight of their whole width (OLMo 2); see [`Rows`].

#[cfg(feature = "cuda")]
pub(crate) mod cuda;

use candle_core::{D, Tensor};

use super::element::Element;
use super::lanes::{dot, dot3};
use super::start::Start;
use crate::error::Result;

/// What a norm has besides its weight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm {
    /// Added to the mean of the squares.
    pub eps: f64,
    /// Added to the weight: 1 where the family stores w − 1 (Gemma), else 0.
    pub offset: f64,
}

impl Norm {
    /// A norm whose weight is stored as it is.
    pub fn plain(eps: f64) -> Self {
        Self { eps, offset: 0.0 }
    }
}

/// Where in rows of `stride` channels, one a token, the channels lie that are normed: the first `width` of each, in groups as
/// long as the weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    /// Channels from one token to the next, at least `width`.
    pub stride: usize,
    /// Channels of a token that are normed: a multiple of the weight's length.
    pub width: usize,
}

/// 1 / √(mean(x²) + eps) of one token.
fn scale<T: Element>(x: &[T], eps: T) -> T {
    let mean = dot(x, x) / T::from_f64(x.len() as f64);
    T::one() / (mean + eps).sqrt()
}

/// s³ · Σ(ŵ · dy · x) / C of one token, whose s is `scale`.
fn shrink<T: Element>(x: &[T], weight: &[T], offset: T, grad: &[T], scale: T) -> T {
    let mut product = dot3(x, grad, weight);
    if offset != T::zero() {
        product = dot(x, grad).fma(offset, product);
    }
    product * scale * scale * scale / T::from_f64(x.len() as f64)
}

/// y of every token: x (n, C), weight (C,) → out (n, C).
pub fn forward<T: Element>(x: &[T], weight: &[T], norm: Norm, out: &mut [T]) {
    let channels = weight.len();
    let rows = Rows {
        stride: channels,
        width: channels,
    };
    forward_strided(x, weight, norm, rows, out);
}

/// y of the channels that `rows` names: x (n, stride), weight (C,) → the same channels of out (n, stride), whose others stay.
pub fn forward_strided<T: Element>(x: &[T], weight: &[T], norm: Norm, rows: Rows, out: &mut [T]) {
    let (eps, offset) = (T::from_f64(norm.eps), T::from_f64(norm.offset));
    let tokens = x.chunks_exact(rows.stride);
    for (x, out) in tokens.zip(out.chunks_exact_mut(rows.stride)) {
        let groups = x[..rows.width].chunks_exact(weight.len());
        for (x, out) in groups.zip(out.chunks_exact_mut(weight.len())) {
            let scale = scale(x, eps);
            for ((out, &x), &w) in out.iter_mut().zip(x).zip(weight) {
                *out = x * scale * (offset + w);
            }
        }
    }
}

/// Writes the gradient of x on top of `start`, that of the residual stream, to `dx` (n, C), and adds the gradient of the
/// weight to `dw` (C,): `grad` (n, C) is that of y.
pub fn backward<T: Element>(
    x: &[T],
    weight: &[T],
    norm: Norm,
    grad: &[T],
    (start, dx): (Start<'_, T>, &mut [T]),
    dw: &mut [T],
) {
    let channels = weight.len();
    let (eps, offset) = (T::from_f64(norm.eps), T::from_f64(norm.offset));
    let rows = x.chunks_exact(channels).zip(grad.chunks_exact(channels));
    for (row, ((x, grad), dx)) in rows.zip(dx.chunks_exact_mut(channels)).enumerate() {
        match start {
            Start::Zero => dx.fill(T::zero()),
            Start::Result => {}
            Start::Of(base) => dx.copy_from_slice(&base[row * channels..][..channels]),
        }
        let scale = scale(x, eps);
        let shrink = shrink(x, weight, offset, grad, scale);
        let operands = x.iter().zip(grad).zip(weight);
        for ((dx, dw), ((&x, &g), &w)) in dx.iter_mut().zip(&mut *dw).zip(operands) {
            *dx += (scale * g).fma(offset + w, -(x * shrink));
            *dw = (x * scale).fma(g, *dw);
        }
    }
}

/// In place: the channels of `grad` (n, stride) that `rows` names hold the gradient of y and become that of x, the others
/// stay; adds the gradient of the weight, over all groups, to `dw` (C,).
pub fn backward_strided<T: Element>(
    x: &[T],
    weight: &[T],
    norm: Norm,
    rows: Rows,
    grad: &mut [T],
    dw: &mut [T],
) {
    let (eps, offset) = (T::from_f64(norm.eps), T::from_f64(norm.offset));
    let tokens = x.chunks_exact(rows.stride);
    for (x, grad) in tokens.zip(grad.chunks_exact_mut(rows.stride)) {
        let groups = x[..rows.width].chunks_exact(weight.len());
        for (x, grad) in groups.zip(grad.chunks_exact_mut(weight.len())) {
            let scale = scale(x, eps);
            let shrink = shrink(x, weight, offset, grad, scale);
            let operands = x.iter().zip(weight);
            for ((grad, dw), (&x, &w)) in grad.iter_mut().zip(&mut *dw).zip(operands) {
                let g = *grad;
                *grad = (scale * g).fma(offset + w, -(x * shrink));
                *dw = (x * scale).fma(g, *dw);
            }
        }
    }
}

/// The same by plain tensor operations: x (…, C), weight (C,) → (…, C).
pub fn reference(x: &Tensor, weight: &Tensor, norm: Norm) -> Result<Tensor> {
    let mean = x.sqr()?.mean_keepdim(D::Minus1)?;
    let normed = x.broadcast_div(&(mean + norm.eps)?.sqrt()?)?;
    Ok(normed.broadcast_mul(&(weight + norm.offset)?)?)
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

    /// Plain, and with Gemma's offset.
    const NORMS: [Norm; 2] = [
        Norm {
            eps: EPS,
            offset: 0.0,
        },
        Norm {
            eps: EPS,
            offset: 1.0,
        },
    ];

    struct Whole(Norm);

    impl Operation for Whole {
        fn forward<T: Element>(&self, inputs: &[Vec<T>]) -> Vec<T> {
            let mut out = vec![T::zero(); inputs[0].len()];
            forward(&inputs[0], &inputs[1], self.0, &mut out);
            out
        }

        fn backward<T: Element>(&self, inputs: &[Vec<T>], grad: &[T]) -> Vec<Vec<T>> {
            let mut dx = vec![T::zero(); inputs[0].len()];
            let mut dw = vec![T::zero(); inputs[1].len()];
            backward(
                &inputs[0],
                &inputs[1],
                self.0,
                grad,
                (Start::Zero, &mut dx),
                &mut dw,
            );
            vec![dx, dw]
        }

        fn reference(&self, inputs: &[Tensor]) -> Result<Tensor> {
            let channels = inputs[1].elem_count();
            reference(&inputs[0].reshape(((), channels))?, &inputs[1], self.0)
        }

        #[cfg(feature = "cuda")]
        fn forward_on(&self, gpu: &Arc<Gpu>, inputs: &[Buffer<Real>]) -> Result<Vec<f32>> {
            let [x, w] = inputs else {
                panic!("two operands")
            };
            let mut out = Buffer::<Real>::new(gpu, x.len())?;
            cuda::forward(gpu, x.view(), w.view(), self.0, out.view_mut())?;
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
            cuda::backward(gpu, operands, self.0, grad.view(), dx.view_mut(), d_weight)?;
            Ok(vec![dx.download_real()?, dw.download()?])
        }
    }

    /// x = sin(1.7 i + 0.5) as (2, 4); LlamaRMSNorm(4, eps=1e-5) of transformers 4 with weight [1, 2, −1, 0.5], which
    /// computes in f32.
    #[test]
    fn agrees_with_transformers() {
        let out = Whole(NORMS[0]).forward(&[wave(8, 0.5), vec![1.0, 2.0, -1.0, 0.5]]);
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

    /// The same x; Gemma2RMSNorm(4, eps=1e-5) of transformers 5.17 with weight [0.5, −0.25, 0, 1], which computes in f32.
    #[test]
    fn an_offset_agrees_with_transformers() {
        let out = Whole(NORMS[1]).forward(&[wave(8, 0.5), vec![0.5, -0.25, 0.0, 1.0]]);
        let expected = [
            1.085_661_888,
            0.915_422_320,
            -1.038_300_157,
            -1.906_009_078,
            1.883_052_588,
            0.456_260_204,
            -1.412_132_621,
            -0.488_911_748,
        ];
        assert_close(&out, &expected, 1e-6);
    }

    /// Groups of `weight` channels among the first `rows.width` of each token; what stands behind them passes into the result.
    struct Strided {
        norm: Norm,
        rows: Rows,
        weight: usize,
    }

    impl Operation for Strided {
        fn forward<T: Element>(&self, inputs: &[Vec<T>]) -> Vec<T> {
            let mut out = inputs[0].clone();
            forward_strided(&inputs[0], &inputs[1], self.norm, self.rows, &mut out);
            out
        }

        fn backward<T: Element>(&self, inputs: &[Vec<T>], grad: &[T]) -> Vec<Vec<T>> {
            let mut grad = grad.to_vec();
            let mut dw = vec![T::zero(); self.weight];
            let (x, w) = (&inputs[0], &inputs[1]);
            backward_strided(x, w, self.norm, self.rows, &mut grad, &mut dw);
            vec![grad, dw]
        }

        fn reference(&self, inputs: &[Tensor]) -> Result<Tensor> {
            let Rows { stride, width } = self.rows;
            let x = inputs[0].reshape(((), stride))?;
            let tokens = x.dim(0)?;
            let groups = x.narrow(1, 0, width)?.contiguous()?;
            let groups = groups.reshape((tokens * width / self.weight, self.weight))?;
            let normed = reference(&groups, &inputs[1], self.norm)?.reshape((tokens, width))?;
            let rest = x.narrow(1, width, stride - width)?;
            Ok(Tensor::cat(&[normed, rest], 1)?)
        }

        #[cfg(feature = "cuda")]
        fn forward_on(&self, gpu: &Arc<Gpu>, inputs: &[Buffer<Real>]) -> Result<Vec<f32>> {
            let mut out = inputs[0].duplicate()?;
            let (x, w) = (inputs[0].view(), inputs[1].view());
            cuda::forward_strided(gpu, x, w, self.norm, self.rows, out.view_mut())?;
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
            let mut frozen = Buffer::upload_real(gpu, grad)?;
            let mut grad = frozen.duplicate()?;
            let mut dw = gpu.zeros(self.weight)?;
            let (norm, rows) = (self.norm, self.rows);
            let d_weight = Some(dw.view_mut());
            cuda::backward_strided(gpu, operands, norm, rows, grad.view_mut(), d_weight)?;
            cuda::backward_strided(gpu, operands, norm, rows, frozen.view_mut(), None)?;
            let grad = grad.download_real()?;
            assert_eq!(
                grad,
                frozen.download_real()?,
                "a frozen weight changes nothing"
            );
            Ok(vec![grad, dw.download()?])
        }
    }

    /// Head by head and all heads together, of queries that fill a row and of keys that have values behind them.
    fn gradients_of_groups(device: &Device) -> Result<()> {
        for (tokens, weight, groups, behind) in [
            (3, 4, 2, 0),
            (2, 5, 3, 15),
            (3, 8, 1, 8),
            (1, 6, 1, 0),
            (67, 32, 3, 96),
            (300, 64, 4, 0),
            (5, 577, 1, 577),
        ] {
            let width = weight * groups;
            let stride = width + behind;
            let operands = [wave(tokens * stride, 0.1), wave(weight, 1.0)];
            for norm in NORMS {
                let rows = Rows { stride, width };
                let strided = Strided { norm, rows, weight };
                assert_gradients(device, &strided, &operands)?;
            }
        }
        Ok(())
    }

    test_device!(
        gradients_of_groups,
        gradients_of_groups_on_cpu,
        gradients_of_groups_on_cuda
    );

    fn gradients(device: &Device) -> Result<()> {
        for (rows, channels) in [(3, 5), (1, 18), (67, 20), (1, 12), (3, 96), (257, 577)] {
            let operands = [wave(rows * channels, 0.1), wave(channels, 1.0)];
            for norm in NORMS {
                assert_gradients(device, &Whole(norm), &operands)?;
            }
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
                &Whole(NORMS[0]),
                &[wave(1100 * 3, 0.1), wave(3, 1.0)],
            )?;
            let device = Device::Cuda(gpu.clone());
            assert_gradients(&device, &Whole(NORMS[0]), &[Vec::new(), wave(12, 1.0)])?;
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
                cuda::backward(
                    gpu,
                    operands,
                    NORMS[0],
                    grad.view(),
                    dx.view_mut(),
                    d_weight,
                )?;
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
        backward(&x, &w, NORMS[0], &grad, (Start::Zero, &mut fresh), &mut dw);
        backward(
            &x,
            &w,
            NORMS[0],
            &grad,
            (Start::Result, &mut again),
            &mut dw_again,
        );
        let sums: Vec<f64> = fresh.iter().zip(wave(6, 2.0)).map(|(a, b)| a + b).collect();
        assert_close(&again, &sums, 1e-15);
        let (mut onto, base) = (vec![f64::NAN; 6], wave(6, 2.0));
        let into = (Start::Of(&base[..]), &mut onto[..]);
        backward(&x, &w, NORMS[0], &grad, into, &mut dw.clone());
        assert_eq!(onto, again);
        let sums: Vec<f64> = dw.iter().zip(wave(3, 0.7)).map(|(a, b)| a + b).collect();
        assert_close(&dw_again, &sums, 1e-15);
    }
}
