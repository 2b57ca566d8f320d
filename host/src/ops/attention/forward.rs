//! Forward pass of attention: eight queries at a time against the keys before them.
//! Legend: n tokens, m tokens that ask, H heads, K key/value heads, D head size, L tokens of a row.

use super::super::element::Element;
use super::super::lanes::{LANES, max, total};
use super::Span;
use super::pack::{Head, Sizes};
use super::tile::{Matrix, ROWS, product};

/// What is reused from head to head.
#[derive(Default)]
struct Scratch<T> {
    query: Vec<T>,
    keys: Vec<T>,
    values: Vec<T>,
    /// Scores, then weights, of eight queries: (8, L′).
    strip: Vec<T>,
}

/// query (m, H·D) and `key_value` (n, 2·K·D), the keys of a token before its values → out (m, H·D), and the log of the sum of
/// exponentials of every query's scores, `log_sums` (m, H).
pub fn forward<T: Element>(
    query: &[T],
    key_value: &[T],
    spans: &[Span],
    sizes: Sizes,
    out: &mut [T],
    log_sums: &mut [T],
) {
    let Sizes {
        heads,
        kv_heads,
        size,
    } = sizes;
    let (wide, narrow) = (sizes.query_width(), sizes.key_value_width());
    let mut scratch = Scratch::default();
    for span in spans {
        let out = &mut out[span.queries.start * wide..span.queries.end * wide];
        let log_sums = &mut log_sums[span.queries.start * heads..span.queries.end * heads];
        for kv_head in 0..kv_heads {
            let of = |column| Head::of(key_value, &span.keys, narrow, column, size);
            of(kv_head * size).pack_turned(T::one(), &mut scratch.keys);
            of((kv_heads + kv_head) * size).pack(T::one(), &mut scratch.values);
            for head in kv_head * sizes.group()..(kv_head + 1) * sizes.group() {
                let asked = Head::of(query, &span.queries, wide, head * size, size);
                asked.pack(sizes.scale(), &mut scratch.query);
                attend(&mut scratch, sizes, span, head, out, log_sums);
            }
        }
    }
}

/// One query head of a row: writes its columns of `out` and `log_sums`, which hold the row's tokens that ask.
fn attend<T: Element>(
    scratch: &mut Scratch<T>,
    sizes: Sizes,
    span: &Span,
    head: usize,
    out: &mut [T],
    log_sums: &mut [T],
) {
    let (size, padded, wide) = (sizes.size, sizes.padded(), sizes.query_width());
    let queries = span.queries.len();
    let stride = span.keys.len().next_multiple_of(LANES);
    scratch.strip.resize(ROWS * stride, T::zero());
    let Scratch {
        query,
        keys,
        values,
        strip,
    } = scratch;
    for block in (0..queries).step_by(ROWS) {
        let rows = ROWS.min(queries - block);
        // Keys up to the last query of the block, in whole tiles.
        let seen = (span.first + block + rows).next_multiple_of(LANES);
        for key in (0..seen).step_by(LANES) {
            let (query, keys) = (Matrix::new(query, padded), Matrix::new(keys, stride));
            let scores = product(query.at(block, 0), keys.at(0, key), size);
            for (r, scores) in scores.iter().enumerate() {
                strip[r * stride + key..][..LANES].copy_from_slice(scores);
            }
        }
        let mut inverse = [T::zero(); ROWS];
        for r in 0..rows {
            let strip = &mut strip[r * stride..][..seen];
            let (sum, log_sum) = softmax(strip, span.first + block + r);
            inverse[r] = T::one() / sum;
            log_sums[(block + r) * sizes.heads + head] = log_sum;
        }
        for channel in (0..size).step_by(LANES) {
            let (weights, values) = (Matrix::new(strip, stride), Matrix::new(values, padded));
            let mixed = product(weights, values.at(0, channel), seen);
            let width = LANES.min(size - channel);
            for r in 0..rows {
                let start = (block + r) * wide + head * size + channel;
                let out = out[start..].iter_mut().take(width);
                for (out, &sum) in out.zip(&mixed[r]) {
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
