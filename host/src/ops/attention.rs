//! Causal softmax attention inside each row of a ragged batch, with grouped key/value heads (Ainslie et al. 2023).
//! Legend: N tokens, H heads, K key/value heads, D head size.

use candle_core::{D, Tensor};

use super::shape;
use crate::error::{Error, Result};

const OP: &str = "attention";

/// A token attends to itself and the tokens before it in its row: q (N, H, D), k and v (N, K, D), offsets (rows + 1,)
/// → (N, H, D). Scores are q·k / √D; query head h reads key/value head h / (H / K).
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, offsets: &[u64]) -> Result<Tensor> {
    let (tokens, heads, size) = shape::heads(OP, "q", q)?;
    let (k_tokens, kv_heads, k_size) = shape::heads(OP, "k", k)?;
    shape::same_kind(OP, ("q", q), ("k", k))?;
    shape::same_kind(OP, ("k", k), ("v", v))?;
    if k_tokens != tokens || k_size != size || kv_heads == 0 || heads % kv_heads != 0 {
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
    reference(q, k, v, offsets)
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
