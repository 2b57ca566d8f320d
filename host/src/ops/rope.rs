//! Rotary position embedding (Su et al. 2021, eq. 34) in half-split order, as Hugging Face's LLaMA stores its weights.
//! Legend: N tokens, H heads, D head size.
//!
//! The pair (low, high) of channels (i, i + D/2) of a token at position p turns by a = p · theta^(−2i/D):
//! low cos a − high sin a and high cos a + low sin a. Nothing is kept for the backward pass, which turns by −a.

use std::marker::PhantomData;
use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, D, Layout, Shape, Tensor};
use rayon::prelude::*;

use self::table::{MAX_POSITIONS, Table};
use super::element::{Element, with_element};
use super::shape;
use super::storage::{Held, slice};
use crate::error::{Error, Result};

mod table;

const OP: &str = "rope";

/// Tokens of one parallel task.
const BLOCK: usize = 64;

/// Rotates channel pairs (i, i + D/2) of every token by position · theta^(−2i/D): x (N, H, D), positions (N,), each
/// below 2²⁰, → (N, H, D).
pub fn rope(x: &Tensor, positions: &[u32], theta: f64) -> Result<Tensor> {
    let (tokens, _, size) = shape::heads(OP, "x", x)?;
    let dtype = shape::elements(OP, &[("x", x)])?;
    if tokens != positions.len() || size % 2 != 0 {
        return Err(Error::internal(format!(
            "{OP}: x has shape {:?}; {} positions were given and the head size must be even",
            x.dims(),
            positions.len()
        )));
    }
    shape::indices(OP, "positions", positions, MAX_POSITIONS)?;
    let longest = positions.iter().max().map_or(0, |&p| p as usize + 1);
    let table = table::table(theta, size / 2, longest);
    let (x, positions) = (x.contiguous()?, positions.to_vec());
    with_element!(OP, dtype, T => {
        let kind = PhantomData::<T>;
        Ok(x.apply_op1(Rope { positions, table, kind })?)
    })
}

/// The same by plain tensor operations.
pub fn reference(x: &Tensor, positions: &[u32], theta: f64) -> Result<Tensor> {
    let half = x.dim(D::Minus1)? / 2;
    let angles: Vec<f64> = positions
        .iter()
        .flat_map(|&position| {
            (0..half).map(move |i| f64::from(position) * theta.powf(-(i as f64) / half as f64))
        })
        .collect();
    let angles = Tensor::from_vec(angles, (positions.len(), 1, half), x.device())?;
    let cos = angles.cos()?.to_dtype(x.dtype())?;
    let sin = angles.sin()?.to_dtype(x.dtype())?;
    let low = x.narrow(D::Minus1, 0, half)?;
    let high = x.narrow(D::Minus1, half, half)?;
    let rotated_low = (low.broadcast_mul(&cos)? - high.broadcast_mul(&sin)?)?;
    let rotated_high = (high.broadcast_mul(&cos)? + low.broadcast_mul(&sin)?)?;
    Ok(Tensor::cat(&[rotated_low, rotated_high], D::Minus1)?)
}

struct Rope<T> {
    positions: Vec<u32>,
    table: Arc<Table>,
    kind: PhantomData<T>,
}

impl<T: Element> Rope<T> {
    /// Turns every pair by its angle times `direction`, 1 or −1.
    fn turn(&self, x: &[T], shape: (usize, usize, usize), direction: f64) -> Vec<T> {
        let (_, heads, size) = shape;
        let (width, size, half) = ((heads * size).max(1), size.max(1), size / 2);
        let mut out = vec![T::zero(); x.len()];
        out.par_chunks_mut(BLOCK * width)
            .zip(x.par_chunks(BLOCK * width))
            .zip(self.positions.par_chunks(BLOCK))
            .for_each(|((out, x), positions)| {
                let mut cos = vec![T::zero(); half];
                let mut sin = vec![T::zero(); half];
                let tokens = out.chunks_mut(width).zip(x.chunks(width));
                for ((out, x), &position) in tokens.zip(positions) {
                    let row = self.table.row(position);
                    for i in 0..half {
                        cos[i] = T::from_f64(row[i]);
                        sin[i] = T::from_f64(row[half + i] * direction);
                    }
                    for (out, x) in out.chunks_mut(size).zip(x.chunks(size)) {
                        let (out_low, out_high) = out.split_at_mut(half);
                        let (low, high) = x.split_at(half);
                        turn_pairs((out_low, out_high), (low, high), (&cos, &sin));
                    }
                }
            });
        out
    }
}

/// The loop over the pairs of one head; all slices have D/2 elements.
#[inline]
fn turn_pairs<T: Element>(out: (&mut [T], &mut [T]), x: (&[T], &[T]), by: (&[T], &[T])) {
    let results = out.0.iter_mut().zip(out.1);
    let operands = x.0.iter().zip(x.1).zip(by.0.iter().zip(by.1));
    for ((out_low, out_high), ((&low, &high), (&cos, &sin))) in results.zip(operands) {
        *out_low = low.fma(cos, -(high * sin));
        *out_high = high.fma(cos, low * sin);
    }
}

impl<T: Element> CustomOp1 for Rope<T> {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let shape = layout.shape().dims3()?;
        let out: Vec<T> = self.turn(slice(x, layout)?, shape, 1.0);
        Ok((T::to_cpu_storage_owned(out), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _out: &Tensor, grad: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        let dx = self.turn(Held::new(&grad).slice::<T>()?, x.dims3()?, -1.0);
        Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::gradient_check::{assert_agrees, assert_close, assert_gradients, wave};
    use super::*;

    /// x = sin(1.7 i + 0.5) as (2, 1, 4) at positions 3 and 7: `x * cos + rotate_half(x) * sin` of transformers in f64.
    #[test]
    fn agrees_with_transformers() -> Result<()> {
        let expected = [
            -0.377_570_119_969_441_9,
            0.827_067_766_287_934_3,
            0.748_539_872_879_772_9,
            -0.606_731_335_145_401_5,
            1.269_642_471_022_620_6,
            0.422_692_034_737_619_85,
            -0.162_483_832_537_176_8,
            -0.136_373_870_566_341_23,
        ];
        let out = rope(&wave(&[2, 1, 4], 0.5), &[3, 7], 10_000.0)?;
        assert_close(&out, &expected, 1e-12);
        Ok(())
    }

    #[test]
    fn gradients() -> Result<()> {
        let positions: Vec<u32> = (0..BLOCK as u32 + 6).map(|i| i % 50).collect();
        let fused = |t: &[Tensor]| rope(&t[0], &positions[..t[0].dims()[0]], 10_000.0);
        assert_gradients(fused, &[wave(&[4, 3, 6], 0.1)])?;
        let plain = |t: &[Tensor]| reference(&t[0], &positions[..t[0].dims()[0]], 10_000.0);
        assert_agrees(fused, plain, &[wave(&[BLOCK + 6, 2, 16], 0.1)])
    }

    #[test]
    fn bad_positions_are_refused() {
        let x = wave(&[1, 1, 4], 0.0);
        let error = rope(&x, &[1 << 20], 10_000.0).unwrap_err();
        let expected = "rope: positions[0] is 1048576, below 1048576 is accepted";
        assert_eq!(error.to_string(), expected);
        assert!(rope(&x, &[], 10_000.0).is_err());
        assert!(rope(&wave(&[1, 1, 3], 0.0), &[0], 10_000.0).is_err());
    }
}
