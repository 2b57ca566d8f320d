//! Root-mean-square norm (Zhang and Sennrich 2019, eq. 4): y = x · w / √(mean(x²) + eps).
//! Legend: N tokens, C channels.
//!
//! With s = 1 / √(mean(x²) + eps) of a token: dx = s · (w · dy) − x · s³ · Σ(w · dy · x) / C, and dw = Σ over tokens of
//! dy · x · s. Nothing is kept for the backward pass: s is one sum over a row that is read anyway.

use std::marker::PhantomData;

use candle_core::{CpuStorage, CustomOp2, D, Layout, Shape, Tensor};
use rayon::prelude::*;

use super::element::{Element, with_element};
use super::lanes::{dot, dot3};
use super::shape;
use super::storage::{Held, slice};
use crate::error::Result;

const OP: &str = "rms_norm";

/// Tokens of one parallel task. A constant: the partial sums of dw follow these blocks, not the threads.
const BLOCK: usize = 64;

/// Normalises every token to a root mean square of one and scales it: x (N, C), weight (C,) → (N, C).
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let (_, channels) = shape::matrix(OP, "x", x)?;
    let dtype = shape::elements(OP, &[("x", x), ("weight", weight)])?;
    if weight.dims() != [channels] {
        return Err(shape::mismatch(OP, ("x", x), ("weight", weight)));
    }
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    with_element!(OP, dtype, T => {
        let kind = PhantomData::<T>;
        Ok(x.apply_op2(&weight, RmsNorm { eps, kind })?)
    })
}

/// The same by plain tensor operations.
pub fn reference(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let mean = x.sqr()?.mean_keepdim(D::Minus1)?;
    let normed = x.broadcast_div(&(mean + eps)?.sqrt()?)?;
    Ok(normed.broadcast_mul(weight)?)
}

struct RmsNorm<T> {
    eps: f64,
    kind: PhantomData<T>,
}

impl<T: Element> RmsNorm<T> {
    /// 1 / √(mean(x²) + eps) of one token.
    fn scale(&self, x: &[T]) -> T {
        let mean = dot(x, x) / T::from_f64(x.len() as f64);
        T::one() / (mean + T::from_f64(self.eps)).sqrt()
    }

    fn forward(&self, x: &[T], weight: &[T]) -> Vec<T> {
        let channels = weight.len().max(1);
        let mut out = vec![T::zero(); x.len()];
        out.par_chunks_mut(BLOCK * channels)
            .zip(x.par_chunks(BLOCK * channels))
            .for_each(|(out, x)| {
                for (out, x) in out.chunks_mut(channels).zip(x.chunks(channels)) {
                    let scale = self.scale(x);
                    for ((out, &x), &w) in out.iter_mut().zip(x).zip(weight) {
                        *out = x * scale * w;
                    }
                }
            });
        out
    }

    /// dx (N, C) and dw (C,).
    fn backward(&self, x: &[T], weight: &[T], grad: &[T]) -> (Vec<T>, Vec<T>) {
        let channels = weight.len().max(1);
        let count = T::from_f64(channels as f64);
        let mut dx = vec![T::zero(); x.len()];
        let partial: Vec<Vec<T>> = dx
            .par_chunks_mut(BLOCK * channels)
            .zip(x.par_chunks(BLOCK * channels))
            .zip(grad.par_chunks(BLOCK * channels))
            .map(|((dx, x), grad)| {
                let mut dw = vec![T::zero(); weight.len()];
                let rows = dx.chunks_mut(channels).zip(x.chunks(channels));
                for ((dx, x), grad) in rows.zip(grad.chunks(channels)) {
                    let scale = self.scale(x);
                    let shrink = dot3(x, grad, weight) * scale * scale * scale / count;
                    let operands = x.iter().zip(grad).zip(weight);
                    for ((dx, dw), ((&x, &g), &w)) in dx.iter_mut().zip(&mut dw).zip(operands) {
                        *dx = (scale * g).fma(w, -(x * shrink));
                        *dw = (x * scale).fma(g, *dw);
                    }
                }
                dw
            })
            .collect();
        let mut dw = vec![T::zero(); weight.len()];
        for part in &partial {
            dw.iter_mut().zip(part).for_each(|(sum, &p)| *sum += p);
        }
        (dx, dw)
    }
}

impl<T: Element> CustomOp2 for RmsNorm<T> {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let out = self.forward(slice(x, x_layout)?, slice(weight, weight_layout)?);
        Ok((T::to_cpu_storage_owned(out), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _out: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let held = [Held::new(x), Held::new(weight), Held::new(&grad)];
        let (dx, dw) = self.backward(held[0].slice()?, held[1].slice()?, held[2].slice()?);
        let dx = Tensor::from_vec(dx, x.shape(), x.device())?;
        let dw = Tensor::from_vec(dw, weight.shape(), weight.device())?;
        Ok((Some(dx), Some(dw)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::gradient_check::{assert_agrees, assert_close, assert_gradients, wave};
    use super::*;

    /// x = sin(1.7 i + 0.5) as (2, 4); LlamaRMSNorm(4, eps=1e-5) of transformers 4 with weight [1, 2, −1, 0.5], which
    /// computes in f32.
    #[test]
    fn agrees_with_transformers() -> Result<()> {
        let weight = Tensor::new(&[1.0, 2.0, -1.0, 0.5], &candle_core::Device::Cpu)?;
        let out = rms_norm(&wave(&[2, 4], 0.5), &weight, 1e-5)?;
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
        Ok(())
    }

    #[test]
    fn gradients() -> Result<()> {
        let norm = |t: &[Tensor]| rms_norm(&t[0], &t[1], 1e-5);
        assert_gradients(norm, &[wave(&[3, 5], 0.1), wave(&[5], 1.0)])?;
        assert_gradients(norm, &[wave(&[1, 18], 0.1), wave(&[18], 1.0)])?;
        // More tokens than a block, so that partial sums are added.
        let inputs = [wave(&[BLOCK + 3, 20], 0.1), wave(&[20], 1.0)];
        assert_agrees(norm, |t| reference(&t[0], &t[1], 1e-5), &inputs)
    }

    #[test]
    fn an_error_names_both_shapes() {
        let error = rms_norm(&wave(&[2, 4], 0.0), &wave(&[3], 0.0), 1e-5).unwrap_err();
        let expected = "rms_norm: x has shape [2, 4], which does not fit weight of shape [3]";
        assert_eq!(error.to_string(), expected);
    }
}
