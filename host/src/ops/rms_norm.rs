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

/// Adds the gradient of x to `dx` (n, C), where that of the residual stream already stands, and the gradient of the
/// weight to `dw` (C,): `grad` (n, C) is that of y.
pub fn backward<T: Element>(
    x: &[T],
    weight: &[T],
    eps: f64,
    grad: &[T],
    dx: &mut [T],
    dw: &mut [T],
) {
    let channels = weight.len();
    let (count, eps) = (T::from_f64(channels as f64), T::from_f64(eps));
    let rows = x.chunks_exact(channels).zip(grad.chunks_exact(channels));
    for ((x, grad), dx) in rows.zip(dx.chunks_exact_mut(channels)) {
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
    use super::super::gradient_check::{Operation, assert_close, assert_gradients, wave};
    use super::*;

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
            backward(&inputs[0], &inputs[1], EPS, grad, &mut dx, &mut dw);
            vec![dx, dw]
        }

        fn reference(&self, inputs: &[Tensor]) -> Result<Tensor> {
            let channels = inputs[1].elem_count();
            reference(&inputs[0].reshape(((), channels))?, &inputs[1], EPS)
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

    #[test]
    fn gradients() -> Result<()> {
        assert_gradients(&Norm, &[wave(15, 0.1), wave(5, 1.0)])?;
        assert_gradients(&Norm, &[wave(18, 0.1), wave(18, 1.0)])?;
        assert_gradients(&Norm, &[wave(67 * 20, 0.1), wave(20, 1.0)])
    }

    #[test]
    fn gradients_are_added_to_what_is_there() {
        let (x, w, grad) = (wave(6, 0.1), wave(3, 1.0), wave(6, 0.3));
        let (mut fresh, mut again) = (vec![0.0; 6], wave(6, 2.0));
        let (mut dw, mut dw_again) = (vec![0.0; 3], wave(3, 0.7));
        backward(&x, &w, EPS, &grad, &mut fresh, &mut dw);
        backward(&x, &w, EPS, &grad, &mut again, &mut dw_again);
        let sums: Vec<f64> = fresh.iter().zip(wave(6, 2.0)).map(|(a, b)| a + b).collect();
        assert_close(&again, &sums, 1e-15);
        let sums: Vec<f64> = dw.iter().zip(wave(3, 0.7)).map(|(a, b)| a + b).collect();
        assert_close(&dw_again, &sums, 1e-15);
    }
}
