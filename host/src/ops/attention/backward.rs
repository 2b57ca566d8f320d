//! Backward pass of attention: the weights are computed again from the scores and the kept log-sums.
//! Legend: n tokens, m tokens that ask, H heads, K key/value heads, D head size, L tokens of a row.
//!
//! With weights P, result O = P·V and scores S = Q·Kᵀ/√D: dV = Pᵀ·dO, dP = dO·Vᵀ, dS = P ∘ (dP − Σ dO∘O),
//! dQ = dS·K/√D, dK = dSᵀ·Q/√D. The query heads of a group add to the gradients of their key/value head in their order.

use super::super::element::Element;
use super::super::lanes::{LANES, dot};
use super::Span;
use super::pack::{Head, Sizes};
use super::tile::{Matrix, ROWS, product};

/// What is reused from head to head.
#[derive(Default)]
struct Scratch<T> {
    query: Vec<T>,
    query_turned: Vec<T>,
    grad: Vec<T>,
    grad_turned: Vec<T>,
    keys: Vec<T>,
    keys_turned: Vec<T>,
    values: Vec<T>,
    /// Log-sums of a query head, +∞ after its last query: such a query weighs nothing.
    log_sums: Vec<T>,
    /// Σ dO∘O of a query head.
    shifts: Vec<T>,
    /// Pᵀ and dSᵀ of sixteen queries, (L′, 16).
    weights: Vec<T>,
    d_scores: Vec<T>,
    /// (L′, D′).
    d_keys: Vec<T>,
    d_values: Vec<T>,
}

/// What the backward pass is given: the operands and results of the forward pass, and the gradient of `out`.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a, T> {
    /// (m, H·D).
    pub query: &'a [T],
    /// (n, 2·K·D).
    pub key_value: &'a [T],
    /// (m, H·D).
    pub out: &'a [T],
    /// (m, H).
    pub log_sums: &'a [T],
    /// (m, H·D).
    pub grad: &'a [T],
}

/// Writes the gradients of query (m, H·D) and `key_value` (n, 2·K·D).
pub fn backward<T: Element>(
    given: &Given<'_, T>,
    spans: &[Span],
    sizes: Sizes,
    d_query: &mut [T],
    d_key_value: &mut [T],
) {
    let Sizes {
        heads,
        kv_heads,
        size,
    } = sizes;
    let (wide, narrow) = (sizes.query_width(), sizes.key_value_width());
    let mut scratch = Scratch::default();
    for span in spans {
        let d_query = &mut d_query[span.queries.start * wide..span.queries.end * wide];
        let d_key_value = &mut d_key_value[span.keys.start * narrow..span.keys.end * narrow];
        for kv_head in 0..kv_heads {
            let of = |column| Head::of(given.key_value, &span.keys, narrow, column, size);
            let keys = of(kv_head * size);
            keys.pack(T::one(), &mut scratch.keys);
            keys.pack_turned(T::one(), &mut scratch.keys_turned);
            of((kv_heads + kv_head) * size).pack(T::one(), &mut scratch.values);
            let length = scratch.keys.len();
            for sum in [&mut scratch.d_keys, &mut scratch.d_values] {
                sum.clear();
                sum.resize(length, T::zero());
            }
            for head in kv_head * sizes.group()..(kv_head + 1) * sizes.group() {
                let of = |values| Head::of(values, &span.queries, wide, head * size, size);
                let (query, grad) = (of(given.query), of(given.grad));
                query.pack(sizes.scale(), &mut scratch.query);
                query.pack_turned(sizes.scale(), &mut scratch.query_turned);
                grad.pack(T::one(), &mut scratch.grad);
                grad.pack_turned(T::one(), &mut scratch.grad_turned);
                let padded = span.queries.len().next_multiple_of(LANES);
                scratch.shifts.clear();
                let shifts = grad.rows().zip(of(given.out).rows());
                scratch.shifts.extend(shifts.map(|(g, o)| dot(g, o)));
                scratch.shifts.resize(padded, T::zero());
                scratch.log_sums.clear();
                let log_sums = span.queries.clone();
                let log_sums = log_sums.map(|i| given.log_sums[i * heads + head]);
                scratch.log_sums.extend(log_sums);
                scratch.log_sums.resize(padded, T::INFINITY);
                query_head(&mut scratch, sizes, span, head, d_query);
            }
            let padded = sizes.padded();
            let sums = [&scratch.d_keys, &scratch.d_values];
            for (sums, head) in sums.into_iter().zip([kv_head, kv_heads + kv_head]) {
                let rows = d_key_value.chunks_exact_mut(narrow);
                for (row, sums) in rows.zip(sums.chunks_exact(padded)) {
                    row[head * size..][..size].copy_from_slice(&sums[..size]);
                }
            }
        }
    }
}

/// One query head of a row: writes its columns of `d_query` and adds to the gradients of its keys and values.
fn query_head<T: Element>(
    scratch: &mut Scratch<T>,
    sizes: Sizes,
    span: &Span,
    head: usize,
    d_query: &mut [T],
) {
    let (size, padded, wide) = (sizes.size, sizes.padded(), sizes.query_width());
    let queries = span.queries.len();
    let stride = span.keys.len().next_multiple_of(LANES);
    scratch.weights.resize(LANES * stride, T::zero());
    scratch.d_scores.resize(LANES * stride, T::zero());
    for block in (0..queries).step_by(LANES) {
        // Keys up to the last query of the block, in whole tiles.
        let seen = (span.first + block + LANES)
            .next_multiple_of(ROWS)
            .min(stride);
        weigh(scratch, sizes, span, block, seen);
        // dQᵀ = Kᵀ · dSᵀ / √D
        for channel in (0..size).step_by(ROWS) {
            let keys = Matrix::new(&scratch.keys_turned, stride).at(channel, 0);
            let tile = product(keys, Matrix::new(&scratch.d_scores, LANES), seen);
            let width = ROWS.min(size - channel);
            let rows = d_query[block * wide..].chunks_exact_mut(wide).take(LANES);
            for (lane, d_query) in rows.enumerate() {
                let d_query = &mut d_query[head * size + channel..][..width];
                for (d_query, tile) in d_query.iter_mut().zip(&tile) {
                    *d_query = tile[lane] * sizes.scale();
                }
            }
        }
        // dK += dSᵀ · (Q / √D) and dV += Pᵀ · dO
        for (sums, left, right) in [
            (&mut scratch.d_keys, &scratch.d_scores, &scratch.query),
            (&mut scratch.d_values, &scratch.weights, &scratch.grad),
        ] {
            let (left, right) = (Matrix::new(left, LANES), Matrix::new(right, padded));
            for key in (0..seen).step_by(ROWS) {
                for channel in (0..padded).step_by(LANES) {
                    let tile = product(left.at(key, 0), right.at(block, channel), LANES);
                    for (r, tile) in tile.iter().enumerate() {
                        let sums = &mut sums[(key + r) * padded + channel..][..LANES];
                        sums.iter_mut().zip(tile).for_each(|(sum, &t)| *sum += t);
                    }
                }
            }
        }
    }
}

/// Pᵀ and dSᵀ of the sixteen queries from `block` on, for the keys before `seen`.
fn weigh<T: Element>(
    scratch: &mut Scratch<T>,
    sizes: Sizes,
    span: &Span,
    block: usize,
    seen: usize,
) {
    let stride = span.queries.len().next_multiple_of(LANES);
    let query = Matrix::new(&scratch.query_turned, stride).at(0, block);
    let grad = Matrix::new(&scratch.grad_turned, stride).at(0, block);
    let log_sums = &scratch.log_sums[block..][..LANES];
    let shifts = &scratch.shifts[block..][..LANES];
    for key in (0..seen).step_by(ROWS) {
        let keys = Matrix::new(&scratch.keys, sizes.padded()).at(key, 0);
        let values = Matrix::new(&scratch.values, sizes.padded()).at(key, 0);
        let scores = product(keys, query, sizes.size);
        let d_weights = product(values, grad, sizes.size);
        for r in 0..ROWS {
            let weights = &mut scratch.weights[(key + r) * LANES..][..LANES];
            let d_scores = &mut scratch.d_scores[(key + r) * LANES..][..LANES];
            for lane in 0..LANES {
                let after = key + r > span.first + block + lane;
                let score = if after {
                    T::NEG_INFINITY
                } else {
                    scores[r][lane]
                };
                weights[lane] = (score - log_sums[lane]).exp();
                d_scores[lane] = weights[lane] * (d_weights[r][lane] - shifts[lane]);
            }
        }
    }
}
