//! Causal softmax attention inside each row of a ragged batch, with grouped key/value heads (Ainslie et al. 2023).
//! Legend: n tokens, m ≤ n tokens that ask, H heads, K key/value heads, D head size.
//!
//! For a query i and the keys j ≤ i of its row, `P[i, j] = softmax_j(Q[i] · K[j] / √D)` and `O[i] = Σ_j P[i, j] V[j]`. A family
//! may have another scale than 1/√D, bound its scores, or let a query see the newest keys alone: [`Scoring`]. Keys that no query
//! of a block sees cost nothing.
//!
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

/// How a query and a key make a score, and which keys a query sees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scoring {
    /// What a product of query and key is multiplied by: 1/√D, unless the family says otherwise.
    pub scale: f64,
    /// c > 0: a score s becomes c · tanh(s / c) (Gemma 2; Bello et al. 2016, eq. 16).
    pub cap: Option<f64>,
    /// A query sees so many tokens, itself included, at least 1 (sliding window; Beltagy et al. 2020, as in Mistral); all before
    /// it where there is none.
    pub window: Option<usize>,
}

impl Scoring {
    /// Scores Q·K/√D of heads of D = `size` channels, and no window.
    pub fn plain(size: usize) -> Self {
        Self {
            scale: 1.0 / (size as f64).sqrt(),
            cap: None,
            window: None,
        }
    }

    /// The first token that the one at `position` sees.
    pub(crate) fn first_seen(self, position: usize) -> usize {
        self.window
            .map_or(0, |window| (position + 1).saturating_sub(window))
    }
}

/// The same by plain tensor operations, row by row: q (m, H, D), k and v (n, K, D) → (m, H, D).
pub fn reference(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    spans: &[Span],
    scoring: Scoring,
) -> Result<Tensor> {
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
        let mut scores = (q.matmul(&k.t()?)? * scoring.scale)?.reshape((heads, asking, len))?;
        if let Some(cap) = scoring.cap {
            scores = ((scores / cap)?.tanh()? * cap)?;
        }
        let seen = |i: usize, j: usize| {
            if j <= first + i && j >= scoring.first_seen(first + i) {
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
