//! Forward pass of attention: eight queries at a time against the keys before them.
//! Legend: n tokens, m tokens that ask, H heads, K key/value heads, D head size, L tokens of a row.

use std::ops::Range;

use super::super::element::Element;
use super::super::lanes::{LANES, max, total};
use super::super::start::Start;
use super::super::tile::{Left, Out, PANEL, Right, product};
use super::pack::{Head, Sizes};
use super::{Scoring, Span};

/// Queries whose scores are held at a time.
const ROWS: usize = 8;

/// What is reused from head to head.
#[derive(Default)]
struct Scratch<T> {
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
    (sizes, scoring): (Sizes, Scoring),
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
            let keys = of(kv_head * size).turned(T::from_f64(scoring.scale), &mut scratch.keys);
            let values = of((kv_heads + kv_head) * size).right(&mut scratch.values);
            for head in kv_head * sizes.group()..(kv_head + 1) * sizes.group() {
                let asked = Head::of(query, &span.queries, wide, head * size, size);
                let strip = &mut scratch.strip;
                attend(
                    (asked, keys, values),
                    strip,
                    (sizes, scoring),
                    span,
                    head,
                    out,
                    log_sums,
                );
            }
        }
    }
}

/// One query head of a row: writes its columns of `out` and `log_sums`, which hold the row's tokens that ask. `keys` are
/// (D, L′) and hold the scores' scale.
fn attend<T: Element>(
    (query, keys, values): (Head<'_, T>, Right<'_, T>, Right<'_, T>),
    strip: &mut Vec<T>,
    (sizes, scoring): (Sizes, Scoring),
    span: &Span,
    head: usize,
    out: &mut [T],
    log_sums: &mut [T],
) {
    let (size, wide) = (sizes.size, sizes.query_width());
    let queries = span.queries.len();
    let stride = span.keys.len().next_multiple_of(LANES);
    strip.resize(ROWS * stride, T::zero());
    for block in (0..queries).step_by(ROWS) {
        let rows = ROWS.min(queries - block);
        // Keys from the first that the block's first query sees up to its last query, and in whole registers.
        let position = span.first + block;
        let begin = scoring.first_seen(position) / LANES * LANES;
        let seen = position + rows;
        let padded = seen.next_multiple_of(LANES);
        for key in (begin..padded).step_by(PANEL) {
            let out = Out {
                values: &mut strip[key..],
                row: stride,
            };
            let width = PANEL.min(padded - key);
            product(
                out,
                query.left(block),
                keys.columns(key),
                (rows, size, width),
                Start::Zero,
            );
        }
        for (r, strip) in strip.chunks_exact_mut(stride).take(rows).enumerate() {
            let scores = &mut strip[begin..padded];
            if let Some(cap) = scoring.cap {
                bound(scores, T::from_f64(cap));
            }
            let position = position + r;
            let sees = scoring.first_seen(position) - begin..position + 1 - begin;
            log_sums[(block + r) * sizes.heads + head] = softmax(scores, sees);
        }
        for channel in (0..size).step_by(PANEL) {
            let weights = Left {
                values: &strip[begin..],
                row: stride,
                step: 1,
            };
            let out = Out {
                values: &mut out[block * wide + head * size + channel..],
                row: wide,
            };
            let width = PANEL.min(size - channel);
            product(
                out,
                weights,
                values.steps(begin).columns(channel),
                (rows, seen - begin, width),
                Start::Zero,
            );
        }
    }
}

/// s ← c · tanh(s / c).
fn bound<T: Element>(scores: &mut [T], cap: T) {
    let inverse = T::one() / cap;
    for score in scores {
        *score = cap * (*score * inverse).tanh();
    }
}

/// Turns the scores of a query into weights, zero for the keys that it does not see; returns the log of the sum of e^score.
fn softmax<T: Element>(scores: &mut [T], sees: Range<usize>) -> T {
    // −∞ rather than a shorter loop: whole registers are faster than a rest element by element.
    scores[..sees.start].fill(T::NEG_INFINITY);
    scores[sees.end..].fill(T::NEG_INFINITY);
    let highest = max(scores);
    let mut sums = [T::zero(); LANES];
    let chunks = scores.as_chunks_mut::<LANES>().0;
    for chunk in &mut *chunks {
        for lane in 0..LANES {
            chunk[lane] = (chunk[lane] - highest).exp();
            sums[lane] += chunk[lane];
        }
    }
    let sum = total(sums);
    let inverse = T::one() / sum;
    for chunk in chunks {
        for weight in chunk {
            *weight *= inverse;
        }
    }
    highest + sum.ln()
}
