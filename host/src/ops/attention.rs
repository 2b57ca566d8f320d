//! Causal softmax attention inside each row of a ragged batch, with grouped key/value heads (Ainslie et al. 2023).
//! Legend: n tokens, m ≤ n tokens that ask, H heads, K key/value heads, D head size.
//!
//! For a query i and the keys j ≤ i of its row, `P[i, j] = softmax_j(Q[i] · K[j] / √D)` and `O[i] = Σ_j P[i, j] V[j]`.
//! Scores of eight queries (32 on the way back) are held at a time, never (L, L); keys and values are not expanded to H
//! heads. What is kept for the backward pass is the log of the sum of exponentials of every query's scores, (m, H), from
//! which it computes the weights again.
//!
//! Every token has a key and a value, but only some need to ask: the last layer of a model is read at few tokens. Which
//! do is said by a [`Span`] for each row.
//!
//! A row's result depends on nothing outside the row, and a token's on nothing after it, to the bit.

#[cfg(feature = "cuda")]
pub(crate) mod cuda;

use std::ops::Range;

use candle_core::{D, Tensor};

use crate::error::Result;

pub use self::backward::{Given, backward};
pub use self::forward::forward;
pub use self::pack::Sizes;

mod backward;
mod forward;
mod pack;
#[cfg(test)]
mod tests;

/// One row: where its tokens lie, and which of them ask. The tokens that ask follow each other.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// The row's tokens among those with keys and values.
    pub keys: Range<usize>,
    /// The row's tokens among those that ask.
    pub queries: Range<usize>,
    /// Where in the row the first of them stands.
    pub first: usize,
}

impl Span {
    /// A row all of whose tokens ask.
    pub fn whole(tokens: Range<usize>) -> Self {
        Self {
            keys: tokens.clone(),
            queries: tokens,
            first: 0,
        }
    }
}

/// The same by plain tensor operations, row by row: q (m, H, D), k and v (n, K, D) → (m, H, D).
pub fn reference(q: &Tensor, k: &Tensor, v: &Tensor, spans: &[Span]) -> Result<Tensor> {
    let (_, heads, size) = q.dims3()?;
    let kv_heads = k.dim(1)?;
    let group = heads / kv_heads;
    let mut rows = Vec::new();
    for Span {
        keys,
        queries,
        first,
    } in spans
    {
        let (len, asking) = (keys.len(), queries.len());
        if asking == 0 {
            continue;
        }
        let row_of = |t: &Tensor, range: &Range<usize>| {
            t.narrow(0, range.start, range.len())?
                .transpose(0, 1)?
                .contiguous()
        };
        // (K, G·asking, D) against (K, len, D): the keys are not expanded.
        let q = row_of(q, queries)?.reshape((kv_heads, group * asking, size))?;
        let (k, v) = (row_of(k, keys)?, row_of(v, keys)?);
        let scores = (q.matmul(&k.t()?)? / (size as f64).sqrt())?.reshape((heads, asking, len))?;
        let seen = |i: usize, j: usize| {
            if j <= first + i {
                0.0
            } else {
                f64::NEG_INFINITY
            }
        };
        let mask: Vec<f64> = (0..asking)
            .flat_map(|i| (0..len).map(move |j| seen(i, j)))
            .collect();
        let mask = Tensor::from_vec(mask, (asking, len), q.device())?.to_dtype(q.dtype())?;
        let scores = scores.broadcast_add(&mask)?;
        let scores = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?.detach())?;
        let weights = scores.exp()?;
        let weights = weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?;
        let out = weights
            .reshape((kv_heads, group * asking, len))?
            .matmul(&v)?;
        rows.push(out.reshape((heads, asking, size))?.transpose(0, 1)?);
    }
    if rows.is_empty() {
        return Ok(q.zeros_like()?);
    }
    Ok(Tensor::cat(&rows, 0)?)
}
