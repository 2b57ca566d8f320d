//! The backward pass of one layer over one chunk, and the gradients of the layer's weights over all chunks.
//! Legend: n tokens of the chunk, m tokens of it that ask, C channels, F feed-forward, H heads, K key/value heads, D head
//! size, r rank of an adapter.
//!
//! A chunk's thread computes the gradients of activations and leaves both factors of every weight's gradient behind; when
//! all chunks are done, dW = dyᵀ · x over all tokens is one product, cut by rows of W among the threads.

use rayon::prelude::*;

use super::block::{Activations, View, rotate};
use super::cut::{cut, next};
use super::network::{Dimensions, Layer, Network, Projection};
use super::pool::Pooled;
use crate::ops::attention::{self, Given, Scoring};
use crate::ops::gated::{self, Activation};
use crate::ops::product::{Matrix, MatrixMut, Product, multiply};
use crate::ops::rms_norm::Norm;
use crate::ops::rope::Direction;
use crate::ops::{Element, Start, rms_norm};

/// What a layer's backward pass leaves for the gradients of its weights. Beside these it uses the activations:
/// `gate_up` becomes its own gradient.
pub(super) struct Factors<B> {
    /// The activation's result, (m, F).
    pub(super) activated: B,
    /// The input of gate and up, (m, C).
    pub(super) normed_post: B,
    /// The gradient of the residual stream between attention and feed-forward, (m, C).
    pub(super) d_middle: B,
    /// (m, H·D).
    pub(super) d_query: B,
    /// (n, 2·K·D).
    pub(super) d_key_value: B,
    /// The input of queries, keys and values, (n, C).
    pub(super) normed: B,
    /// The rows of `normed` that ask, (m, C); empty where all do.
    pub(super) chosen: B,
    /// The gradients of the two norms' weights from each chunk, (chunks, 2·C).
    pub(super) norms: B,
    /// A · x and scale · dy · B of every adapter, (m or n, r).
    pub(super) lows: Vec<[B; 2]>,
}

/// So many tokens and so many that ask, in all or chunk by chunk.
pub(super) struct Counts<'a> {
    pub(super) tokens: &'a [usize],
    pub(super) asking: &'a [usize],
    pub(super) pruned: bool,
}

impl<T: Element> Factors<Pooled<T>> {
    pub(super) fn take(network: &Network<'_, T>, counts: &Counts<'_>) -> Self {
        let (of, pool) = (&network.dimensions, &network.pool);
        let n = counts.tokens.iter().sum::<usize>();
        let m = counts.asking.iter().sum::<usize>();
        let attention = of.attention;
        let low = |&(rank, all)| {
            let len = rank * if all { n } else { m };
            [pool.take(len), pool.take(len)]
        };
        Self {
            activated: pool.take(m * of.feed_forward),
            normed_post: pool.take(m * of.channels),
            d_middle: pool.take(m * of.channels),
            d_query: pool.take(m * attention.query_width()),
            d_key_value: pool.take(n * attention.key_value_width()),
            normed: pool.take(n * of.channels),
            chosen: pool.take(if counts.pruned { m * of.channels } else { 0 }),
            norms: pool.take(counts.tokens.len() * 2 * of.channels),
            lows: network.slots.iter().map(low).collect(),
        }
    }

    /// The parts of the chunks.
    pub(super) fn cut(
        &mut self,
        network: &Network<'_, T>,
        counts: &Counts<'_>,
    ) -> Vec<Factors<&mut [T]>> {
        let of = &network.dimensions;
        let Counts {
            tokens,
            asking,
            pruned,
        } = *counts;
        let attention = of.attention;
        let (none, ones) = (vec![0; tokens.len()], vec![1; tokens.len()]);
        let mut activated = cut(&mut self.activated, of.feed_forward, asking);
        let mut normed_post = cut(&mut self.normed_post, of.channels, asking);
        let mut d_middle = cut(&mut self.d_middle, of.channels, asking);
        let mut d_query = cut(&mut self.d_query, attention.query_width(), asking);
        let mut d_key_value = cut(&mut self.d_key_value, attention.key_value_width(), tokens);
        let mut normed = cut(&mut self.normed, of.channels, tokens);
        let choosing = if pruned { asking } else { &none };
        let mut chosen = cut(&mut self.chosen, of.channels, choosing);
        let mut norms = cut(&mut self.norms, 2 * of.channels, &ones);
        let mut lows: Vec<_> = self
            .lows
            .iter_mut()
            .zip(&network.slots)
            .map(|(pair, &(rank, all))| {
                let counts = if all { tokens } else { asking };
                pair.each_mut().map(|low| cut(low, rank, counts))
            })
            .collect();
        tokens
            .iter()
            .map(|_| Factors {
                activated: next(&mut activated),
                normed_post: next(&mut normed_post),
                d_middle: next(&mut d_middle),
                d_query: next(&mut d_query),
                d_key_value: next(&mut d_key_value),
                normed: next(&mut normed),
                chosen: next(&mut chosen),
                norms: next(&mut norms),
                lows: lows
                    .iter_mut()
                    .map(|pair| pair.each_mut().map(next))
                    .collect(),
            })
            .collect()
    }
}

/// Turns the gradient of a layer's result, `d_out` (m, C), into that of its input x (n, C), dx (n, C).
pub(super) fn backward<T: Element>(
    network: &Network<'_, T>,
    layer: &Layer<'_, T>,
    view: View<'_>,
    x: &[T],
    kept: &mut Activations<&mut [T]>,
    (d_out, dx): (&[T], &mut [T]),
    left: Factors<&mut [T]>,
) {
    let Dimensions {
        channels: c,
        feed_forward: f,
        eps,
        attention,
        ..
    } = network.dimensions;
    let norm = Norm::plain(eps);
    let pool = &network.pool;
    let threads = view.threads;
    let (of_input, of_post) = left.norms.split_at_mut(c);
    of_input.fill(T::zero());
    of_post.fill(T::zero());
    let (mut lows, mut low_grads): (Vec<&mut [T]>, Vec<&mut [T]>) =
        left.lows.into_iter().map(|[low, grad]| (low, grad)).unzip();

    // Feed-forward.
    layer.down.backward(
        d_out,
        (Start::Zero, &mut *left.activated),
        threads,
        &mut low_grads,
    );
    gated::backward(Activation::Silu, kept.gate_up, f, left.activated);
    layer.down.lows(left.activated, &mut lows, threads);
    let mut grad = pool.take(x.len().max(d_out.len()));
    let d_normed = &mut grad[..d_out.len()];
    layer.gate_up.backward(
        kept.gate_up,
        (Start::Zero, d_normed),
        threads,
        &mut low_grads,
    );
    let d_normed = &grad[..d_out.len()];
    rms_norm::forward(kept.middle, layer.post_norm, norm, left.normed_post);
    layer.gate_up.lows(left.normed_post, &mut lows, threads);
    rms_norm::backward(
        kept.middle,
        layer.post_norm,
        norm,
        d_normed,
        (Start::Of(d_out), &mut *left.d_middle),
        of_post,
    );

    // Attention.
    let mut d_mixed = pool.take(kept.mixed.len());
    layer.output.backward(
        left.d_middle,
        (Start::Zero, &mut d_mixed),
        threads,
        &mut low_grads,
    );
    layer.output.lows(kept.mixed, &mut lows, threads);
    let given = Given {
        query: kept.query,
        key_value: kept.key_value,
        out: kept.mixed,
        log_sums: kept.log_sums,
        grad: &d_mixed,
    };
    attention::backward(
        &given,
        view.spans,
        (attention, Scoring::plain(attention.size)),
        left.d_query,
        left.d_key_value,
    );
    rotate(
        network,
        view,
        left.d_query,
        left.d_key_value,
        Direction::Backward,
    );

    // Queries, keys and values, back to x.
    rms_norm::forward(x, layer.input_norm, norm, left.normed);
    let d_normed = &mut grad[..x.len()];
    layer.key_value.backward(
        left.d_key_value,
        (Start::Zero, &mut *d_normed),
        threads,
        &mut low_grads,
    );
    layer.key_value.lows(left.normed, &mut lows, threads);
    let stream = if view.pruned {
        let mut d_chosen = pool.take(d_out.len());
        layer.query.backward(
            left.d_query,
            (Start::Zero, &mut d_chosen),
            threads,
            &mut low_grads,
        );
        view.choose(left.normed, c, left.chosen);
        layer.query.lows(left.chosen, &mut lows, threads);
        dx.fill(T::zero());
        for span in view.spans {
            let to = (span.keys.start + span.first) * c;
            let from = span.queries.start * c..span.queries.end * c;
            let to = to..to + from.len();
            dx[to.clone()].copy_from_slice(&left.d_middle[from.clone()]);
            let sums = d_normed[to].iter_mut().zip(&d_chosen[from]);
            sums.for_each(|(sum, &d)| *sum += d);
        }
        Start::Result
    } else {
        layer.query.backward(
            left.d_query,
            (Start::Result, &mut *d_normed),
            threads,
            &mut low_grads,
        );
        layer.query.lows(left.normed, &mut lows, threads);
        Start::Of(&*left.d_middle)
    };
    rms_norm::backward(x, layer.input_norm, norm, d_normed, (stream, dx), of_input);
}

/// Where the gradients of a layer's parameters are added.
pub(super) enum LayerGradients<'g, T> {
    /// The layer's parameters, in their order.
    Weights(&'g mut [T]),
    /// An adapter's; the layer itself is frozen.
    Adapter(&'g mut [T]),
}

/// Rows of a weight whose gradient is one task.
const ROWS: usize = 1024;

/// A part of a weight's gradient: out += scale · gradᵀ · x.
struct Task<'a, T> {
    out: MatrixMut<'a, T>,
    /// (n, rows).
    grad: Matrix<'a, T>,
    /// (n, I).
    x: Matrix<'a, T>,
    scale: T,
}

/// Adds the gradients of a layer's parameters over all tokens. `d_out` (m, C) is the gradient of the layer's result.
pub(super) fn weights<T: Element>(
    network: &Network<'_, T>,
    layer: &Layer<'_, T>,
    kept: &Activations<Pooled<T>>,
    d_out: &[T],
    left: &Factors<Pooled<T>>,
    gradients: LayerGradients<'_, T>,
) {
    let chosen = if left.chosen.is_empty() {
        &left.normed
    } else {
        &left.chosen
    };
    // A map, the gradient of its result, and its input.
    let maps: [(&Projection<'_, T>, &[T], &[T]); 5] = [
        (&layer.query, &left.d_query, chosen),
        (&layer.key_value, &left.d_key_value, &left.normed),
        (&layer.output, &left.d_middle, &kept.mixed),
        (&layer.gate_up, &kept.gate_up, &left.normed_post),
        (&layer.down, d_out, &left.activated),
    ];
    let mut tasks = Vec::new();
    match gradients {
        LayerGradients::Weights(values) => {
            let mut rest = values;
            let parts = network.dimensions.layer().map(|count| {
                let part = rest.split_off_mut(..count);
                part.expect("invariant: the gradients of a layer are as many as its parameters")
            });
            let [
                input_norm,
                query,
                key_value,
                output,
                post_norm,
                gate_up,
                down,
            ] = parts;
            add_norms(&left.norms, input_norm, post_norm);
            let outs = [query, key_value, output, gate_up, down];
            for (out, (map, grad, x)) in outs.into_iter().zip(maps) {
                let (outputs, inputs) = (map.weight.rows(), map.weight.columns());
                let n = x.len() / inputs;
                let grad = Matrix::new(grad, n, outputs);
                push(&mut tasks, out, grad, Matrix::new(x, n, inputs), T::one());
            }
        }
        LayerGradients::Adapter(values) => {
            let mut slots: Vec<_> = (0..network.slots.len()).map(|_| None).collect();
            for (map, grad, x) in maps {
                let (outputs, inputs) = (map.weight.rows(), map.weight.columns());
                let n = x.len() / inputs;
                for adapter in &map.adapters {
                    let grad = Matrix::new(grad, n, outputs);
                    let grad = grad.part(adapter.first, adapter.b.rows());
                    slots[adapter.slot] = Some((adapter, grad, Matrix::new(x, n, inputs), n));
                }
            }
            let mut rest = values;
            let mut take = |count: usize| {
                let part = rest.split_off_mut(..count);
                part.expect("invariant: an adapter's gradients are as many as its parameters")
            };
            for (slot, [low, low_grad]) in slots.into_iter().flatten().zip(&left.lows) {
                let (adapter, grad, x, n) = slot;
                let rank = adapter.a.rows();
                let a = take(rank * adapter.a.columns());
                let b = take(adapter.b.rows() * rank);
                let low = Matrix::new(low, n, rank);
                let low_grad = Matrix::new(low_grad, n, rank);
                push(&mut tasks, a, low_grad, x, T::one());
                push(&mut tasks, b, grad, low, adapter.scale);
            }
        }
    }
    let threads = (rayon::current_num_threads() / tasks.len().max(1)).max(1);
    tasks.into_par_iter().with_max_len(1).for_each(|task| {
        let product = Product {
            scale: task.scale,
            ..Product::add(threads)
        };
        multiply(task.out, task.grad.t(), task.x, product);
    });
}

/// Cuts out (O, I) += scale · gradᵀ · x into tasks of some rows.
fn push<'a, T: Element>(
    tasks: &mut Vec<Task<'a, T>>,
    out: &'a mut [T],
    grad: Matrix<'a, T>,
    x: Matrix<'a, T>,
    scale: T,
) {
    let inputs = x.columns();
    for (block, out) in out.chunks_mut(ROWS * inputs).enumerate() {
        let rows = out.len() / inputs;
        tasks.push(Task {
            out: MatrixMut::new(out, rows, inputs),
            grad: grad.part(block * ROWS, rows),
            x,
            scale,
        });
    }
}

/// Adds the chunks' gradients of both norms, in the order of the chunks.
fn add_norms<T: Element>(chunks: &[T], input: &mut [T], post: &mut [T]) {
    let channels = input.len();
    for chunk in chunks.chunks_exact(2 * channels) {
        let (of_input, of_post) = chunk.split_at(channels);
        input
            .iter_mut()
            .zip(of_input)
            .for_each(|(sum, &d)| *sum += d);
        post.iter_mut().zip(of_post).for_each(|(sum, &d)| *sum += d);
    }
}
