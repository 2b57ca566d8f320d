//! Backward pass of attention: the weights are computed again from the scores and the kept log-sums.
//! Legend: N tokens, H heads, K key/value heads, D head size, L tokens of a row.
//!
//! With weights P, result O = P·V and scores S = Q·Kᵀ/√D: dV = Pᵀ·dO, dP = dO·Vᵀ, dS = P ∘ (dP − Σ dO∘O),
//! dQ = dS·K/√D, dK = dSᵀ·Q/√D. A task owns a row and a key/value head, so dK and dV have one writer and sum the query
//! heads of the group in their order.

use rayon::prelude::*;

use super::super::element::Element;
use super::super::lanes::{LANES, dot};
use super::pack::{Head, Sizes};
use super::tasks::pieces;
use super::tile::{Matrix, ROWS, product};

/// What a thread reuses from task to task.
#[derive(Default)]
struct Scratch<T> {
    query: Vec<T>,
    query_turned: Vec<T>,
    grad: Vec<T>,
    grad_turned: Vec<T>,
    keys: Vec<T>,
    keys_turned: Vec<T>,
    values: Vec<T>,
    /// Log-sums of a query head, +∞ after its last token: such a query weighs nothing.
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

/// What the backward pass is given; all but `log_sums` (N, H) are (N, H or K, D).
pub(super) struct Given<'a, T> {
    pub(super) q: &'a [T],
    pub(super) k: &'a [T],
    pub(super) v: &'a [T],
    pub(super) out: &'a [T],
    pub(super) grad: &'a [T],
    pub(super) log_sums: &'a [T],
}

/// dq (N, H, D), dk and dv (N, K, D).
pub(super) fn backward<T: Element>(given: &Given<T>, offsets: &[u64], sizes: Sizes) -> [Vec<T>; 3] {
    let (group, size, kv_heads) = (sizes.group(), sizes.size, sizes.kv_heads);
    let mut dq = vec![T::zero(); given.q.len()];
    let mut dk = vec![T::zero(); given.k.len()];
    let mut dv = vec![T::zero(); given.k.len()];
    pieces(&mut dq, offsets, kv_heads, group * size)
        .into_par_iter()
        .zip(pieces(&mut dk, offsets, kv_heads, size))
        .zip(pieces(&mut dv, offsets, kv_heads, size))
        .enumerate()
        .for_each_init(Scratch::default, |scratch, (task, ((mut dq, dk), dv))| {
            let (row, kv_head) = (task / kv_heads, task % kv_heads);
            let tokens = offsets[row] as usize..offsets[row + 1] as usize;
            let head_of = |values, heads, head| Head::of(values, &tokens, heads, head, size);
            let keys = head_of(given.k, kv_heads, kv_head);
            keys.pack(T::one(), &mut scratch.keys);
            keys.pack_turned(T::one(), &mut scratch.keys_turned);
            head_of(given.v, kv_heads, kv_head).pack(T::one(), &mut scratch.values);
            let length = scratch.keys.len();
            for sum in [&mut scratch.d_keys, &mut scratch.d_values] {
                sum.clear();
                sum.resize(length, T::zero());
            }
            for member in 0..group {
                let head = kv_head * group + member;
                let query = head_of(given.q, sizes.heads, head);
                query.pack(sizes.scale(), &mut scratch.query);
                query.pack_turned(sizes.scale(), &mut scratch.query_turned);
                let grad = head_of(given.grad, sizes.heads, head);
                grad.pack(T::one(), &mut scratch.grad);
                grad.pack_turned(T::one(), &mut scratch.grad_turned);
                let out = head_of(given.out, sizes.heads, head);
                scratch.shifts.clear();
                let shifts = grad.rows().zip(out.rows()).map(|(g, o)| dot(g, o));
                scratch.shifts.extend(shifts);
                scratch
                    .shifts
                    .resize(tokens.len().next_multiple_of(LANES), T::zero());
                scratch.log_sums.clear();
                let log_sums = tokens
                    .clone()
                    .map(|i| given.log_sums[i * sizes.heads + head]);
                scratch.log_sums.extend(log_sums);
                scratch
                    .log_sums
                    .resize(tokens.len().next_multiple_of(LANES), T::INFINITY);
                query_head(scratch, sizes, member, &mut dq);
            }
            for (sums, out) in [(&scratch.d_keys, dk), (&scratch.d_values, dv)] {
                for (out, sums) in out.into_iter().zip(sums.chunks_exact(sizes.padded())) {
                    out.copy_from_slice(&sums[..size]);
                }
            }
        });
    [dq, dk, dv]
}

/// One query head: writes its dq and adds to dK and dV of the scratch.
///
/// Queries are the columns of all strips, so every product reads its left side along rows and its right side along
/// registers.
fn query_head<T: Element>(
    scratch: &mut Scratch<T>,
    sizes: Sizes,
    member: usize,
    dq: &mut [&mut [T]],
) {
    let (size, padded) = (sizes.size, sizes.padded());
    let (tokens, stride) = (dq.len(), dq.len().next_multiple_of(LANES));
    scratch.weights.resize(LANES * stride, T::zero());
    scratch.d_scores.resize(LANES * stride, T::zero());
    for block in (0..tokens).step_by(LANES) {
        // Keys up to the last query of the block.
        let seen = block + LANES;
        weigh(scratch, sizes, block, stride);
        // dQᵀ = Kᵀ · dSᵀ / √D
        for channel in (0..size).step_by(ROWS) {
            let keys = Matrix::new(&scratch.keys_turned, stride).at(channel, 0);
            let tile = product(keys, Matrix::new(&scratch.d_scores, LANES), seen);
            let width = ROWS.min(size - channel);
            for (lane, dq) in dq[block..].iter_mut().take(LANES).enumerate() {
                let dq = &mut dq[member * size + channel..][..width];
                for (dq, tile) in dq.iter_mut().zip(&tile) {
                    *dq = tile[lane] * sizes.scale();
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

/// Pᵀ and dSᵀ of the sixteen queries from `block` on.
fn weigh<T: Element>(scratch: &mut Scratch<T>, sizes: Sizes, block: usize, stride: usize) {
    let query = Matrix::new(&scratch.query_turned, stride).at(0, block);
    let grad = Matrix::new(&scratch.grad_turned, stride).at(0, block);
    let log_sums = &scratch.log_sums[block..][..LANES];
    let shifts = &scratch.shifts[block..][..LANES];
    for key in (0..block + LANES).step_by(ROWS) {
        let keys = Matrix::new(&scratch.keys, sizes.padded()).at(key, 0);
        let values = Matrix::new(&scratch.values, sizes.padded()).at(key, 0);
        let scores = product(keys, query, sizes.size);
        let d_weights = product(values, grad, sizes.size);
        for r in 0..ROWS {
            let weights = &mut scratch.weights[(key + r) * LANES..][..LANES];
            let d_scores = &mut scratch.d_scores[(key + r) * LANES..][..LANES];
            for lane in 0..LANES {
                let after = key + r > block + lane;
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
