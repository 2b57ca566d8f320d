//! Causal softmax attention inside each row of a ragged batch, with grouped key/value heads (Ainslie et al. 2023).
//! Legend: N tokens, H heads, K key/value heads, D head size.
//!
//! For a query i and the keys j ≤ i of its row, `P[i, j] = softmax_j(Q[i] · K[j] / √D)` and `O[i] = Σ_j P[i, j] V[j]`.
//! Scores of eight queries are held at a time, never (L, L); keys and values are not expanded to H heads. What is kept
//! for the backward pass is the log of the sum of exponentials of every query's scores, (N, H), from which it computes
//! the weights again.
//!
//! A row's result depends on nothing outside the row, and a token's on nothing after it, to the bit.

use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp3, D, Layout, Shape, Tensor, bail};

use self::backward::{Given, backward};
use self::forward::forward;
use self::pack::Sizes;
use super::element::{Element, with_element};
use super::shape;
use super::storage::{Held, slice};
use crate::error::{Error, Result};

mod backward;
mod forward;
mod pack;
mod tasks;
#[cfg(test)]
mod tests;
mod tile;

const OP: &str = "attention";

/// A token attends to itself and the tokens before it in its row: q (N, H, D), k and v (N, K, D), offsets (rows + 1,)
/// → (N, H, D). Scores are q·k / √D; query head h reads key/value head h / (H / K).
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, offsets: &[u64]) -> Result<Tensor> {
    let (tokens, heads, size) = shape::heads(OP, "q", q)?;
    let (k_tokens, kv_heads, k_size) = shape::heads(OP, "k", k)?;
    let dtype = shape::elements(OP, &[("q", q), ("k", k), ("v", v)])?;
    if k_tokens != tokens || k_size != size || size == 0 || kv_heads == 0 || heads % kv_heads != 0 {
        return Err(shape::mismatch(OP, ("q", q), ("k", k)));
    }
    if v.dims() != k.dims() {
        return Err(shape::mismatch(OP, ("k", k), ("v", v)));
    }
    let rises = offsets.windows(2).all(|pair| pair[0] <= pair[1]);
    if !rises || offsets.first() != Some(&0) || offsets.last() != Some(&(tokens as u64)) {
        return Err(Error::internal(format!(
            "{OP}: {} offsets from {:?} to {:?} for {tokens} tokens; they must rise from 0 to the number of tokens",
            offsets.len(),
            offsets.first(),
            offsets.last(),
        )));
    }
    let sizes = Sizes {
        heads,
        kv_heads,
        size,
    };
    let (q, k, v) = (q.contiguous()?, k.contiguous()?, v.contiguous()?);
    with_element!(OP, dtype, T => {
        let op = Attention::<T> {
            offsets: offsets.to_vec(),
            sizes,
            log_sums: OnceLock::new(),
        };
        Ok(q.apply_op3(&k, &v, op)?)
    })
}

/// The same by plain tensor operations, row by row.
pub fn reference(q: &Tensor, k: &Tensor, v: &Tensor, offsets: &[u64]) -> Result<Tensor> {
    let (tokens, heads, size) = q.dims3()?;
    let kv_heads = k.dim(1)?;
    let group = heads / kv_heads;
    if tokens == 0 {
        return Ok(q.zeros_like()?);
    }
    let mut rows = Vec::new();
    for pair in offsets.windows(2) {
        let (start, len) = (pair[0] as usize, (pair[1] - pair[0]) as usize);
        if len == 0 {
            continue;
        }
        // (K, G·len, D) against (K, len, D): the keys are not expanded.
        let row_of = |t: &Tensor| t.narrow(0, start, len)?.transpose(0, 1)?.contiguous();
        let q = row_of(q)?.reshape((kv_heads, group * len, size))?;
        let (k, v) = (row_of(k)?, row_of(v)?);
        let scores = (q.matmul(&k.t()?)? / (size as f64).sqrt())?.reshape((heads, len, len))?;
        let mask: Vec<f64> = (0..len)
            .flat_map(|i| (0..len).map(move |j| if j <= i { 0.0 } else { f64::NEG_INFINITY }))
            .collect();
        let mask = Tensor::from_vec(mask, (len, len), q.device())?.to_dtype(q.dtype())?;
        let scores = scores.broadcast_add(&mask)?;
        let scores = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?.detach())?;
        let weights = scores.exp()?;
        let weights = weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?;
        let out = weights.reshape((kv_heads, group * len, len))?.matmul(&v)?;
        rows.push(out.reshape((heads, len, size))?.transpose(0, 1)?);
    }
    Ok(Tensor::cat(&rows, 0)?)
}

struct Attention<T> {
    offsets: Vec<u64>,
    sizes: Sizes,
    /// (N, H), written by the forward pass for the backward pass.
    log_sums: OnceLock<Vec<T>>,
}

impl<T: Element> CustomOp3 for Attention<T> {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        k: &CpuStorage,
        k_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let operands = [
            slice(q, q_layout)?,
            slice(k, k_layout)?,
            slice(v, v_layout)?,
        ];
        let (out, log_sums) = forward::<T>(operands, &self.offsets, self.sizes);
        // The operation is made for one call, so nothing was kept before.
        self.log_sums.get_or_init(|| log_sums);
        Ok((T::to_cpu_storage_owned(out), q_layout.shape().clone()))
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        out: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let Some(log_sums) = self.log_sums.get() else {
            bail!("{OP}: a backward pass before the forward pass");
        };
        let grad = grad.contiguous()?;
        let held = [q, k, v, out, &grad].map(Held::new);
        let given = Given::<T> {
            q: held[0].slice()?,
            k: held[1].slice()?,
            v: held[2].slice()?,
            out: held[3].slice()?,
            grad: held[4].slice()?,
            log_sums,
        };
        let [dq, dk, dv] = backward(&given, &self.offsets, self.sizes);
        Ok((
            Some(Tensor::from_vec(dq, q.shape(), q.device())?),
            Some(Tensor::from_vec(dk, k.shape(), k.device())?),
            Some(Tensor::from_vec(dv, v.shape(), v.device())?),
        ))
    }
}
