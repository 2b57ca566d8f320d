//! Forward pass of attention: eight queries at a time against the keys before them.
//! Legend: N tokens, H heads, K key/value heads, D head size, L tokens of a row.

use rayon::prelude::*;

use super::super::element::Element;
use super::super::lanes::{LANES, max, total};
use super::pack::{Head, Sizes};
use super::tasks::pieces;
use super::tile::{Matrix, ROWS, product};

/// What a thread reuses from task to task.
#[derive(Default)]
struct Scratch<T> {
    query: Vec<T>,
    keys: Vec<T>,
    values: Vec<T>,
    /// Scores, then weights, of eight queries: (8, L′).
    strip: Vec<T>,
}

/// The result (N, H, D) and the log of the sum of exponentials of every query's scores, (N, H).
pub(super) fn forward<T: Element>(
    [q, k, v]: [&[T]; 3],
    offsets: &[u64],
    sizes: Sizes,
) -> (Vec<T>, Vec<T>) {
    let (group, size) = (sizes.group(), sizes.size);
    let mut out = vec![T::zero(); q.len()];
    let mut log_sums = vec![T::zero(); q.len() / size];
    pieces(&mut out, offsets, sizes.kv_heads, group * size)
        .into_par_iter()
        .zip(pieces(&mut log_sums, offsets, sizes.kv_heads, group))
        .enumerate()
        .for_each_init(
            Scratch::default,
            |scratch, (task, (mut out, mut log_sums))| {
                let (row, kv_head) = (task / sizes.kv_heads, task % sizes.kv_heads);
                let tokens = offsets[row] as usize..offsets[row + 1] as usize;
                let head_of = |values, heads, head| Head::of(values, &tokens, heads, head, size);
                head_of(k, sizes.kv_heads, kv_head).pack_turned(T::one(), &mut scratch.keys);
                head_of(v, sizes.kv_heads, kv_head).pack(T::one(), &mut scratch.values);
                for member in 0..group {
                    let query = head_of(q, sizes.heads, kv_head * group + member);
                    query.pack(sizes.scale(), &mut scratch.query);
                    attend(scratch, sizes, member, &mut out, &mut log_sums);
                }
            },
        );
    (out, log_sums)
}

/// One query head of a row: writes member `member` of the group into every token of `out` and `log_sums`.
fn attend<T: Element>(
    scratch: &mut Scratch<T>,
    sizes: Sizes,
    member: usize,
    out: &mut [&mut [T]],
    log_sums: &mut [&mut [T]],
) {
    let (size, padded) = (sizes.size, sizes.padded());
    let tokens = out.len();
    let stride = tokens.next_multiple_of(LANES);
    scratch.strip.clear();
    scratch.strip.resize(ROWS * stride, T::zero());
    let Scratch {
        query,
        keys,
        values,
        strip,
    } = scratch;
    for first in (0..tokens).step_by(ROWS) {
        let rows = ROWS.min(tokens - first);
        // Keys up to the last query of the block, in whole tiles.
        let seen = (first + rows).next_multiple_of(LANES);
        for key in (0..seen).step_by(LANES) {
            let (query, keys) = (Matrix::new(query, padded), Matrix::new(keys, stride));
            let scores = product(query.at(first, 0), keys.at(0, key), size);
            for (r, scores) in scores.iter().enumerate() {
                strip[r * stride + key..][..LANES].copy_from_slice(scores);
            }
        }
        let mut inverse = [T::zero(); ROWS];
        for r in 0..rows {
            let strip = &mut strip[r * stride..][..seen];
            let (sum, log_sum) = softmax(strip, first + r);
            inverse[r] = T::one() / sum;
            log_sums[first + r][member] = log_sum;
        }
        for channel in (0..size).step_by(LANES) {
            let (weights, values) = (Matrix::new(strip, stride), Matrix::new(values, padded));
            let mixed = product(weights, values.at(0, channel), seen);
            let width = LANES.min(size - channel);
            for r in 0..rows {
                let out = &mut out[first + r][member * size + channel..][..width];
                for (out, &sum) in out.iter_mut().zip(&mixed[r]) {
                    *out = sum * inverse[r];
                }
            }
        }
    }
}

/// Turns the scores of the query at `position` into e^(score − highest), zero for the keys after it; returns their sum
/// and the log of the sum of e^score.
fn softmax<T: Element>(scores: &mut [T], position: usize) -> (T, T) {
    // −∞ rather than a shorter loop: whole registers are faster than a rest element by element.
    scores[position + 1..].fill(T::NEG_INFINITY);
    let highest = max(scores);
    let mut sums = [T::zero(); LANES];
    for chunk in scores.as_chunks_mut::<LANES>().0 {
        for lane in 0..LANES {
            chunk[lane] = (chunk[lane] - highest).exp();
            sums[lane] += chunk[lane];
        }
    }
    let sum = total(sums);
    (sum, highest + sum.ln())
}
