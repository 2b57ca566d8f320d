//! The forward pass of one layer over one chunk.
//! Legend: n tokens of the chunk, m tokens of it that ask, C channels, F feed-forward, H heads, K key/value heads, D head
//! size.
//!
//! ```text
//! x̂ = rms_norm(x)              q = rope(W_q x̂)    k = rope(W_k x̂)    v = W_v x̂
//! middle = x + W_o · attention(q, k, v)
//! out = middle + W_down · swiglu(W_gate, W_up of rms_norm(middle))
//! ```

use std::sync::Arc;

use super::cut::{cut, next};
use super::network::{Dimensions, Layer, Network};
use super::pool::{Pool, Pooled};
use super::rows::Chunk;
use crate::ops::attention::{self, Scoring, Span};
use crate::ops::gated::{self, Activation};
use crate::ops::rms_norm::Norm;
use crate::ops::rope::{self, Direction};
use crate::ops::{Element, Start, rms_norm};

/// What a layer's backward pass needs besides its input x.
pub(super) struct Activations<B> {
    /// After the rotation, (m, H·D).
    pub(super) query: B,
    /// Keys after the rotation, then values, (n, 2·K·D).
    pub(super) key_value: B,
    /// The attention's result, (m, H·D).
    pub(super) mixed: B,
    /// (m, H).
    pub(super) log_sums: B,
    /// The residual stream between attention and feed-forward, (m, C).
    pub(super) middle: B,
    /// (m, 2·F).
    pub(super) gate_up: B,
}

impl<T: Element> Activations<Pooled<T>> {
    /// Buffers for n tokens of which m ask.
    pub(super) fn take(pool: &Arc<Pool<T>>, of: &Dimensions, n: usize, m: usize) -> Self {
        let attention = of.attention;
        Self {
            query: pool.take(m * attention.query_width()),
            key_value: pool.take(n * attention.key_value_width()),
            mixed: pool.take(m * attention.query_width()),
            log_sums: pool.take(m * attention.heads),
            middle: pool.take(m * of.channels),
            gate_up: pool.take(m * 2 * of.feed_forward),
        }
    }

    /// The parts of chunks with so many tokens, and so many that ask.
    pub(super) fn cut(
        &mut self,
        of: &Dimensions,
        tokens: &[usize],
        asking: &[usize],
    ) -> Vec<Activations<&mut [T]>> {
        let attention = of.attention;
        let mut query = cut(&mut self.query, attention.query_width(), asking);
        let mut key_value = cut(&mut self.key_value, attention.key_value_width(), tokens);
        let mut mixed = cut(&mut self.mixed, attention.query_width(), asking);
        let mut log_sums = cut(&mut self.log_sums, attention.heads, asking);
        let mut middle = cut(&mut self.middle, of.channels, asking);
        let mut gate_up = cut(&mut self.gate_up, 2 * of.feed_forward, asking);
        tokens
            .iter()
            .map(|_| Activations {
                query: next(&mut query),
                key_value: next(&mut key_value),
                mixed: next(&mut mixed),
                log_sums: next(&mut log_sums),
                middle: next(&mut middle),
                gate_up: next(&mut gate_up),
            })
            .collect()
    }

    /// The beginnings of the buffers, for n tokens of which m ask.
    pub(super) fn first(&mut self, of: &Dimensions, n: usize, m: usize) -> Activations<&mut [T]> {
        let mut parts = self.cut(of, &[n], &[m]);
        parts.remove(0)
    }
}

/// The tokens of a chunk as a layer sees them.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    /// Rows and which of their tokens ask.
    pub(super) spans: &'a [Span],
    /// Whether some tokens do not ask.
    pub(super) pruned: bool,
    /// Where each token stands in its row, (n,).
    pub(super) positions: &'a [u32],
    /// The same of the tokens that ask, (m,).
    pub(super) asking: &'a [u32],
    /// Threads that may share a product.
    pub(super) threads: usize,
}

impl View<'_> {
    /// The rows of the tokens that ask, out of `values` (n, width) into `chosen` (m, width).
    pub(super) fn choose<T: Copy>(&self, values: &[T], width: usize, chosen: &mut [T]) {
        for span in self.spans {
            let from = (span.keys.start + span.first) * width;
            let to = span.queries.start * width..span.queries.end * width;
            let len = to.len();
            chosen[to].copy_from_slice(&values[from..from + len]);
        }
    }
}

/// Takes x (n, C) of a chunk through a layer: keeps what the backward pass needs, and writes out (m, C) where it is wanted.
pub(super) fn forward<T: Element>(
    network: &Network<'_, T>,
    layer: &Layer<'_, T>,
    view: View<'_>,
    x: &[T],
    kept: &mut Activations<&mut [T]>,
    out: Option<&mut [T]>,
) {
    let Network {
        dimensions, pool, ..
    } = network;
    let (c, f) = (dimensions.channels, dimensions.feed_forward);
    let norm = Norm::plain(dimensions.eps);
    let threads = view.threads;
    let m = kept.middle.len() / c;

    let mut normed = pool.take(x.len()); // (n, C)
    rms_norm::forward(x, layer.input_norm, norm, &mut normed);
    let into = (Start::Zero, &mut *kept.key_value);
    layer.key_value.forward(&normed, into, threads, pool);
    let into = (Start::Zero, &mut *kept.query);
    let stream = if view.pruned {
        let mut chosen = pool.take(m * c);
        view.choose(&normed, c, &mut chosen);
        layer.query.forward(&chosen, into, threads, pool);
        view.choose(x, c, kept.middle);
        Start::Result
    } else {
        layer.query.forward(&normed, into, threads, pool);
        Start::Of(x)
    };
    rotate(
        network,
        view,
        kept.query,
        kept.key_value,
        Direction::Forward,
    );
    attention::forward(
        kept.query,
        kept.key_value,
        view.spans,
        (
            dimensions.attention,
            Scoring::plain(dimensions.attention.size),
        ),
        kept.mixed,
        kept.log_sums,
    );
    let into = (stream, &mut *kept.middle);
    layer.output.forward(kept.mixed, into, threads, pool);

    let normed = &mut normed[..m * c];
    rms_norm::forward(kept.middle, layer.post_norm, norm, normed);
    let into = (Start::Zero, &mut *kept.gate_up);
    layer.gate_up.forward(normed, into, threads, pool);
    if let Some(out) = out {
        let mut activated = pool.take(m * f);
        gated::forward(Activation::Silu, kept.gate_up, f, &mut activated);
        let into = (Start::Of(&*kept.middle), out);
        layer.down.forward(&activated, into, threads, pool);
    }
}

/// Turns queries (m, H·D) and keys (n, 2·K·D) by their positions.
pub(super) fn rotate<T: Element>(
    network: &Network<'_, T>,
    view: View<'_>,
    query: &mut [T],
    key_value: &mut [T],
    direction: Direction,
) {
    let sizes = network.dimensions.attention;
    let table = &network.rope;
    let wide = sizes.query_width();
    let heads = (sizes.heads, sizes.size);
    rope::turn(query, wide, heads, view.asking, table, direction);
    let narrow = sizes.key_value_width();
    let heads = (sizes.kv_heads, sizes.size);
    rope::turn(key_value, narrow, heads, view.positions, table, direction);
}

/// Which tokens of a chunk ask in a layer: all, but in the last layer those that are read.
pub(super) fn view<'a>(
    chunk: &'a Chunk,
    positions: &'a [u32],
    read_positions: &'a [u32],
    last: bool,
    threads: usize,
) -> View<'a> {
    let positions = &positions[chunk.tokens.clone()];
    if last {
        View {
            spans: &chunk.spans,
            pruned: chunk.spans != chunk.whole,
            positions,
            asking: &read_positions[chunk.read.clone()],
            threads,
        }
    } else {
        View {
            spans: &chunk.whole,
            pruned: false,
            positions,
            asking: positions,
            threads,
        }
    }
}
