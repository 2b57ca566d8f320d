//! Forward pass of attention: eight queries at a time against the keys before them.
//! Legend: n tokens, m tokens that ask, H heads, K key/value heads, D head size, L tokens of a row.

use super::super::element::Element;
use super::super::lanes::{LANES, max, total};
use super::super::start::Start;
use super::super::tile::{Left, Out, PANEL, Right, product};
use super::Span;
use super::pack::{Head, Sizes};

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
            let keys = of(kv_head * size).turned(sizes.scale(), &mut scratch.keys);
            let values = of((kv_heads + kv_head) * size).right(&mut scratch.values);
            for head in kv_head * sizes.group()..(kv_head + 1) * sizes.group() {
                let asked = Head::of(query, &span.queries, wide, head * size, size);
                let strip = &mut scratch.strip;
                attend(
                    (asked, keys, values),
                    strip,
                    sizes,
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
/// (D, L′) and hold the factor 1 / √D.
fn attend<T: Element>(
    (query, keys, values): (Head<'_, T>, Right<'_, T>, Right<'_, T>),
    strip: &mut Vec<T>,
    sizes: Sizes,
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
        // Keys up to the last query of the block, and in whole registers.
        let seen = span.first + block + rows;
        let padded = seen.next_multiple_of(LANES);
        for key in (0..padded).step_by(PANEL) {
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
            log_sums[(block + r) * sizes.heads + head] =
                softmax(&mut strip[..padded], span.first + block + r);
        }
        for channel in (0..size).step_by(PANEL) {
            let weights = Left {
                values: strip,
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
                values.columns(channel),
                (rows, seen, width),
                Start::Zero,
            );
        }
    }
}

/// Turns the scores of the query at `position` into weights, zero for the keys after it; returns the log of the sum of
/// e^score.
fn softmax<T: Element>(scores: &mut [T], position: usize) -> T {
    // −∞ rather than a shorter loop: whole registers are faster than a rest element by element.
    scores[position + 1..].fill(T::NEG_INFINITY);
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
