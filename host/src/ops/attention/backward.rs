//! Backward pass of attention: the weights are computed again from the scores and the kept log-sums.
//! Legend: n tokens, m tokens that ask, H heads, K key/value heads, D head size, L tokens of a row.
//!
//! With weights P, result O = P·V and scores S = Q·Kᵀ·scale: dV = Pᵀ·dO, dP = dO·Vᵀ, dS = P ∘ (dP − Σ dO∘O),
//! dQ = dS·K·scale, dK = dSᵀ·Q·scale. Where scores are bounded, P is of c·t with t = tanh(S / c), and dS has the factor 1 − t².
//! The query heads of a group add to the gradients of their key/value head in their order.

use super::super::element::Element;
use super::super::lanes::{LANES, dot};
use super::super::start::Start;
use super::super::tile::{Left, Out, PANEL, Right, product};
use super::pack::{Head, Sizes};
use super::{Scoring, Span};

/// Queries whose weights are held at a time: enough of them that the sums over queries are long, few enough that long rows
/// have no (L, L) in memory.
const BLOCK: usize = 32;
/// Queries or keys of one tile's height, whose ends of the causal triangle are cut off together.
const ROWS: usize = 8;

/// What is reused from head to head.
#[derive(Default)]
struct Scratch<T> {
    /// Transposes of keys and values, (D, L′), the keys' with the scores' scale.
    keys_turned: Vec<T>,
    values_turned: Vec<T>,
    /// Where D is not a number of whole registers.
    keys: Vec<T>,
    query: Vec<T>,
    grad: Vec<T>,
    /// P and dS·scale of some queries, (32, L′).
    weights: Vec<T>,
    d_scores: Vec<T>,
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

/// One query head of a row and the key/value head that it asks.
struct Operands<'a, T> {
    /// (L, D): queries, dO, O.
    query: Head<'a, T>,
    grad: Head<'a, T>,
    out: Head<'a, T>,
    /// (D, L′), the keys' with the scores' scale.
    keys_turned: Right<'a, T>,
    values_turned: Right<'a, T>,
    /// (L, D).
    keys: Right<'a, T>,
    query_right: Right<'a, T>,
    grad_right: Right<'a, T>,
    /// Log-sums of the head's queries, `heads` apart.
    log_sums: &'a [T],
    heads: usize,
}

/// Writes the gradients of query (m, H·D) and `key_value` (n, 2·K·D).
pub fn backward<T: Element>(
    given: &Given<'_, T>,
    spans: &[Span],
    (sizes, scoring): (Sizes, Scoring),
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
        d_key_value.fill(T::zero());
        for kv_head in 0..kv_heads {
            let of = |column| Head::of(given.key_value, &span.keys, narrow, column, size);
            let (keys, values) = (of(kv_head * size), of((kv_heads + kv_head) * size));
            let keys_turned = keys.turned(T::from_f64(scoring.scale), &mut scratch.keys_turned);
            let values_turned = values.turned(T::one(), &mut scratch.values_turned);
            let keys = keys.right(&mut scratch.keys);
            for head in kv_head * sizes.group()..(kv_head + 1) * sizes.group() {
                let of = |values| Head::of(values, &span.queries, wide, head * size, size);
                let (query, grad) = (of(given.query), of(given.grad));
                let operands = Operands {
                    query,
                    grad,
                    out: of(given.out),
                    keys_turned,
                    values_turned,
                    keys,
                    query_right: query.right(&mut scratch.query),
                    grad_right: grad.right(&mut scratch.grad),
                    log_sums: given
                        .log_sums
                        .get(span.queries.start * heads + head..)
                        .unwrap_or_default(),
                    heads,
                };
                let strips = (&mut scratch.weights, &mut scratch.d_scores);
                let columns = (head * size, kv_head * size);
                query_head(
                    &operands,
                    strips,
                    (sizes, scoring),
                    span,
                    columns,
                    (d_query, d_key_value),
                );
            }
        }
    }
}

/// One query head of a row: writes its columns of `d_query`, from `columns.0` on, and adds to the gradients of its keys,
/// from `columns.1` on, and values.
fn query_head<T: Element>(
    of: &Operands<'_, T>,
    (weights, d_scores): (&mut Vec<T>, &mut Vec<T>),
    (sizes, scoring): (Sizes, Scoring),
    span: &Span,
    (query_column, key_column): (usize, usize),
    (d_query, d_key_value): (&mut [T], &mut [T]),
) {
    let (size, wide, narrow) = (sizes.size, sizes.query_width(), sizes.key_value_width());
    let queries = span.queries.len();
    let stride = span.keys.len().next_multiple_of(LANES);
    weights.resize(BLOCK * stride, T::zero());
    d_scores.resize(BLOCK * stride, T::zero());
    for block in (0..queries).step_by(BLOCK) {
        let rows = BLOCK.min(queries - block);
        for first in (0..rows).step_by(ROWS) {
            let count = ROWS.min(rows - first);
            let strips = (
                &mut weights[first * stride..],
                &mut d_scores[first * stride..],
            );
            weigh(of, strips, (sizes, scoring), span, (block + first, count));
            // dQ = dS · K · scale
            let begin = first_key(scoring, span.first + block + first);
            let seen = span.first + block + first + count;
            for channel in (0..size).step_by(PANEL) {
                let out = Out {
                    values: &mut d_query[(block + first) * wide + query_column + channel..],
                    row: wide,
                };
                let left = Left {
                    values: &d_scores[first * stride + begin..],
                    row: stride,
                    step: 1,
                };
                let width = PANEL.min(size - channel);
                product(
                    out,
                    left,
                    of.keys.steps(begin).columns(channel),
                    (count, seen - begin, width),
                    Start::Zero,
                );
            }
        }
        // dK += dSᵀ · Q · scale and dV += Pᵀ · dO: eight keys from the first query that sees one of them to the last.
        let position = span.first + block;
        let seen = position + rows;
        let value_column = key_column + sizes.kv_heads * size;
        for (column, strip, right) in [
            (key_column, &*d_scores, of.query_right),
            (value_column, &*weights, of.grad_right),
        ] {
            for key in (first_key(scoring, position)..seen).step_by(ROWS) {
                let first = key.saturating_sub(position);
                let last = scoring.window.map_or(rows, |window| {
                    rows.min((key + ROWS - 1 + window).saturating_sub(position))
                });
                if last <= first {
                    continue;
                }
                let left = Left {
                    values: &strip[first * stride + key..],
                    row: 1,
                    step: stride,
                };
                let right = right.steps(block + first);
                for channel in (0..size).step_by(PANEL) {
                    let out = Out {
                        values: &mut d_key_value[key * narrow + column + channel..],
                        row: narrow,
                    };
                    let width = PANEL.min(size - channel);
                    let sizes = (ROWS.min(seen - key), last - first, width);
                    product(out, left, right.columns(channel), sizes, Start::Result);
                }
            }
        }
    }
}

/// Where the keys begin of queries computed together, of which the first stands at `position`: at a whole register, at or before
/// the first that it sees.
fn first_key(scoring: Scoring, position: usize) -> usize {
    scoring.first_seen(position) / LANES * LANES
}

/// P and dS · scale of the `count` queries from `first` on, for the keys from the first to the last that one of them sees and in
/// whole registers; zero for the keys that a query does not see. A tile of eight keys that begins at or before a query's own
/// ends there at last, and one that holds a key in its window begins there at first.
fn weigh<T: Element>(
    of: &Operands<'_, T>,
    (weights, d_scores): (&mut [T], &mut [T]),
    (sizes, scoring): (Sizes, Scoring),
    span: &Span,
    (first, count): (usize, usize),
) {
    let stride = span.keys.len().next_multiple_of(LANES);
    let begin = first_key(scoring, span.first + first);
    let padded = (span.first + first + count).next_multiple_of(LANES);
    for key in (begin..padded).step_by(PANEL) {
        let counts = (count, sizes.size, PANEL.min(padded - key));
        for (strip, left, right) in [
            (&mut *weights, of.query, of.keys_turned),
            (&mut *d_scores, of.grad, of.values_turned),
        ] {
            let out = Out {
                values: &mut strip[key..],
                row: stride,
            };
            product(
                out,
                left.left(first),
                right.columns(key),
                counts,
                Start::Zero,
            );
        }
    }
    let scale = T::from_f64(scoring.scale);
    let rows = weights
        .chunks_exact_mut(stride)
        .zip(d_scores.chunks_exact_mut(stride));
    let asked = of.grad.rows(first).zip(of.out.rows(first)).take(count);
    for (r, ((weights, d_scores), (grad, out))) in rows.zip(asked).enumerate() {
        let mut shift = dot(grad, out);
        let log_sum = of.log_sums[(first + r) * of.heads];
        let position = span.first + first + r;
        let (weights, d_scores) = (&mut weights[begin..padded], &mut d_scores[begin..padded]);
        if let Some(cap) = scoring.cap {
            bound(weights, d_scores, shift, T::from_f64(cap));
            shift = T::zero();
        }
        weights[..scoring.first_seen(position) - begin].fill(T::NEG_INFINITY);
        weights[position + 1 - begin..].fill(T::NEG_INFINITY);
        let chunks = weights.as_chunks_mut::<LANES>().0;
        let d_chunks = d_scores.as_chunks_mut::<LANES>().0;
        for (weights, d_scores) in chunks.iter_mut().zip(d_chunks) {
            for lane in 0..LANES {
                weights[lane] = (weights[lane] - log_sum).exp();
                d_scores[lane] = weights[lane] * (d_scores[lane] - shift) * scale;
            }
        }
    }
}

/// Scores s become c · t with t = tanh(s / c), and dP becomes (dP − shift) · (1 − t²).
fn bound<T: Element>(scores: &mut [T], d_scores: &mut [T], shift: T, cap: T) {
    let inverse = T::one() / cap;
    for (score, d) in scores.iter_mut().zip(d_scores) {
        let t = (*score * inverse).tanh();
        *score = cap * t;
        *d = (*d - shift) * (-t).fma(t, T::one());
    }
}
