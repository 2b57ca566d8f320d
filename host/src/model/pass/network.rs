//! A model's parameters as the passes read them: matrices over one flat slice, and adapters beside them.
//! Legend: C channels, F feed-forward, H heads, K key/value heads, D head size, V vocabulary, r rank.

use std::sync::Arc;

use rayon::prelude::*;

use super::pool::{Pool, Pooled};
use crate::model::config::LlamaConfig;
use crate::model::lora::{Adapter, Place};
use crate::ops::attention::Sizes;
use crate::ops::panels::{self, Panels};
use crate::ops::product::{Matrix, MatrixMut, Product, multiply};
use crate::ops::rope::{Frequencies, Table, table};
use crate::ops::{Element, Start};

/// The sizes that the passes need.
#[derive(Clone, Debug)]
pub(in crate::model) struct Dimensions {
    pub(in crate::model) channels: usize,
    pub(in crate::model) feed_forward: usize,
    pub(in crate::model) attention: Sizes,
    pub(in crate::model) vocabulary: usize,
    pub(in crate::model) eps: f64,
}

impl Dimensions {
    pub(in crate::model) fn new(config: &LlamaConfig) -> Self {
        Self {
            channels: config.hidden_size,
            feed_forward: config.intermediate_size,
            attention: Sizes {
                heads: config.num_attention_heads,
                kv_heads: config.num_key_value_heads,
                size: config.head_dim,
            },
            vocabulary: config.vocab_size,
            eps: config.rms_norm_eps,
        }
    }

    /// Elements of a layer's parameters in their order: input norm, queries, keys and values, output, norm, gate and up,
    /// down. Keys and values lie side by side, and so do gate and up: each pair is one product.
    pub(in crate::model) fn layer(&self) -> [usize; 7] {
        let (c, f) = (self.channels, self.feed_forward);
        let (q, kv) = (
            self.attention.query_width(),
            self.attention.key_value_width(),
        );
        [c, q * c, kv * c, c * q, c, 2 * f * c, c * f]
    }
}

/// A low-rank addition to some outputs of a map: y[first..first + o] += scale · B · A · x.
pub(super) struct LowRank<'a, T> {
    /// Its number among the adapters of a layer.
    pub(super) slot: usize,
    /// The first output it adds to.
    pub(super) first: usize,
    /// (r, I).
    pub(super) a: Matrix<'a, T>,
    /// (o, r).
    pub(super) b: Matrix<'a, T>,
    /// α / r.
    pub(super) scale: T,
}

/// Which way a network is taken through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Forwards,
    Backwards,
}

/// Matrices of a layer with more elements than this (4 MiB of f32) are not laid out once for all chunks: the copy would be
/// felt in memory, and the products are large enough to lay out their own parts.
pub(crate) const LAID_OUT: usize = 1 << 20;

/// A linear map y = W · x with its adapters.
pub(super) struct Projection<'a, T> {
    /// (O, I).
    pub(super) weight: Matrix<'a, T>,
    /// Wᵀ for y and W for the gradient of x, laid out where all chunks share that.
    forwards: Option<Panels<Pooled<T>>>,
    backwards: Option<Panels<Pooled<T>>>,
    pub(super) adapters: Vec<LowRank<'a, T>>,
}

impl<'a, T: Element> Projection<'a, T> {
    fn new(values: &'a [T], outputs: usize, inputs: usize) -> Self {
        Self {
            weight: Matrix::new(values, outputs, inputs),
            forwards: None,
            backwards: None,
            adapters: Vec::new(),
        }
    }

    fn lay_out(&mut self, way: Way, pool: &Arc<Pool<T>>) {
        let (matrix, panels) = match way {
            Way::Forwards => (self.weight.t(), &mut self.forwards),
            Way::Backwards => (self.weight, &mut self.backwards),
        };
        let len = panels::len(matrix.rows(), matrix.columns());
        *panels = Some(Panels::new(matrix, pool.take(len)));
    }

    /// y of n tokens: x (n, I) → out (n, O) = start + y.
    pub(super) fn forward(
        &self,
        x: &[T],
        (start, out): (Start<'_, T>, &mut [T]),
        threads: usize,
        pool: &Arc<Pool<T>>,
    ) {
        let (inputs, outputs) = (self.weight.columns(), self.weight.rows());
        let n = out.len() / outputs;
        let map = (self.weight.t(), self.forwards.as_ref());
        product(map, x, (start, out), threads);
        let x = Matrix::new(x, n, inputs);
        for adapter in &self.adapters {
            let rank = adapter.a.rows();
            let mut low = pool.take(n * rank);
            let low_out = MatrixMut::new(&mut low, n, rank);
            multiply(low_out, x, adapter.a.t(), Product::set(threads));
            let part = MatrixMut::new(out, n, outputs).part(adapter.first, adapter.b.rows());
            let product = Product {
                scale: adapter.scale,
                ..Product::add(threads)
            };
            multiply(part, Matrix::new(&low, n, rank), adapter.b.t(), product);
        }
    }

    /// The gradient of x from that of y, grad (n, O): dx (n, I), added to `start`. What it computes on the way for the adapters'
    /// own gradients, scale · grad · B (n, r), goes into `low_grads`, one for each slot.
    pub(super) fn backward(
        &self,
        grad: &[T],
        (start, dx): (Start<'_, T>, &mut [T]),
        threads: usize,
        low_grads: &mut [&mut [T]],
    ) {
        let (inputs, outputs) = (self.weight.columns(), self.weight.rows());
        let n = dx.len() / inputs;
        let map = (self.weight, self.backwards.as_ref());
        product(map, grad, (start, dx), threads);
        let grad = Matrix::new(grad, n, outputs);
        for adapter in &self.adapters {
            let rank = adapter.a.rows();
            let low = &mut *low_grads[adapter.slot];
            let part = grad.part(adapter.first, adapter.b.rows());
            let product = Product {
                scale: adapter.scale,
                ..Product::set(threads)
            };
            multiply(MatrixMut::new(low, n, rank), part, adapter.b, product);
            let dx = MatrixMut::new(dx, n, inputs);
            let low = Matrix::new(low, n, rank);
            multiply(dx, low, adapter.a, Product::add(threads));
        }
    }

    /// A · x of every adapter, (n, r), into `lows`, one for each slot.
    pub(super) fn lows(&self, x: &[T], lows: &mut [&mut [T]], threads: usize) {
        let inputs = self.weight.columns();
        let n = x.len() / inputs;
        for adapter in &self.adapters {
            let low = MatrixMut::new(lows[adapter.slot], n, adapter.a.rows());
            let x = Matrix::new(x, n, inputs);
            multiply(low, x, adapter.a.t(), Product::set(threads));
        }
    }
}

/// out (n, O) = start + x (n, I) · matrix (I, O), by the matrix's panels where it has been laid out.
fn product<T: Element>(
    (matrix, panels): (Matrix<'_, T>, Option<&Panels<Pooled<T>>>),
    x: &[T],
    (start, out): (Start<'_, T>, &mut [T]),
    threads: usize,
) {
    if let Some(panels) = panels {
        panels.multiply(x, out, start, threads);
        return;
    }
    let how = match start {
        Start::Zero => Product::set(threads),
        Start::Result => Product::add(threads),
        Start::Of(base) => {
            out.copy_from_slice(base);
            Product::add(threads)
        }
    };
    let (inputs, outputs) = (matrix.rows(), matrix.columns());
    let n = out.len() / outputs;
    let out = MatrixMut::new(out, n, outputs);
    multiply(out, Matrix::new(x, n, inputs), matrix, how);
}

/// The parameters of one layer.
pub(super) struct Layer<'a, T> {
    pub(super) input_norm: &'a [T],
    pub(super) query: Projection<'a, T>,
    pub(super) key_value: Projection<'a, T>,
    pub(super) output: Projection<'a, T>,
    pub(super) post_norm: &'a [T],
    pub(super) gate_up: Projection<'a, T>,
    pub(super) down: Projection<'a, T>,
}

/// A model's parameters, and where its passes take their buffers from.
pub(crate) struct Network<'a, T> {
    pub(super) dimensions: Dimensions,
    /// (V, C).
    pub(super) embedding: &'a [T],
    pub(super) layers: Vec<Layer<'a, T>>,
    /// (C,).
    pub(super) norm: &'a [T],
    pub(super) rope: Arc<Table>,
    /// Ranks of the adapters of a layer, by slot, and whether they see all tokens (keys and values) or those that ask.
    pub(super) slots: Vec<(usize, bool)>,
    /// Whether the backward pass keeps layer inputs alone and computes the rest again.
    pub(super) recompute: bool,
    pub(super) pool: Arc<Pool<T>>,
}

impl<'a, T: Element> Network<'a, T> {
    /// A view of `values`, in the order of `parameters::specs`, and of an adapter's, for rows of at most `longest` tokens.
    pub(crate) fn new(
        config: &LlamaConfig,
        (values, adapter): (&'a [T], Option<(&Adapter, &'a [T])>),
        longest: usize,
        recompute: bool,
        pool: &Arc<Pool<T>>,
    ) -> Self {
        let dimensions = Dimensions::new(config);
        let (c, f) = (dimensions.channels, dimensions.feed_forward);
        let (q, kv) = (
            dimensions.attention.query_width(),
            dimensions.attention.key_value_width(),
        );
        let mut rest = values;
        let mut take = |count: usize| {
            let (taken, after) = rest.split_at(count);
            rest = after;
            taken
        };
        let embedding = take(dimensions.vocabulary * c);
        let sizes = dimensions.layer();
        let mut layers: Vec<Layer<'a, T>> = (0..config.num_hidden_layers)
            .map(|_| {
                let parts = sizes.map(&mut take);
                Layer {
                    input_norm: parts[0],
                    query: Projection::new(parts[1], q, c),
                    key_value: Projection::new(parts[2], kv, c),
                    output: Projection::new(parts[3], c, q),
                    post_norm: parts[4],
                    gate_up: Projection::new(parts[5], 2 * f, c),
                    down: Projection::new(parts[6], c, f),
                }
            })
            .collect();
        let norm = take(c);
        let slots = adapter.map_or_else(Vec::new, |(adapter, values)| {
            attach(&mut layers, config, adapter, values)
        });
        let half = config.head_dim / 2;
        Self {
            rope: table(&Frequencies::new(config.rope_theta, half), longest),
            dimensions,
            embedding,
            layers,
            norm,
            slots,
            recompute,
            pool: pool.clone(),
        }
    }
}

impl<T: Element> Network<'_, T> {
    /// Lays the weights out for the products of one way, where the model is small enough.
    #[must_use]
    pub(crate) fn laid_out(mut self, way: Way) -> Self {
        let pool = &self.pool;
        self.layers.par_iter_mut().for_each(|layer| {
            let maps = layer.maps();
            let elements = maps
                .iter()
                .map(|map| map.weight.rows() * map.weight.columns());
            if elements.sum::<usize>() <= LAID_OUT {
                for map in maps {
                    map.lay_out(way, pool);
                }
            }
        });
        self
    }
}

impl<'a, T> Layer<'a, T> {
    fn maps(&mut self) -> [&mut Projection<'a, T>; 5] {
        [
            &mut self.query,
            &mut self.key_value,
            &mut self.output,
            &mut self.gate_up,
            &mut self.down,
        ]
    }

    fn map(&mut self, place: Place) -> &mut Projection<'a, T> {
        match place {
            Place::Query => &mut self.query,
            Place::KeyValue => &mut self.key_value,
            Place::Output => &mut self.output,
            Place::GateUp => &mut self.gate_up,
            Place::Down => &mut self.down,
        }
    }
}

/// Puts an adapter's matrices beside the maps they add to; returns the slots.
fn attach<'a, T: Element>(
    layers: &mut [Layer<'a, T>],
    config: &LlamaConfig,
    adapter: &Adapter,
    values: &'a [T],
) -> Vec<(usize, bool)> {
    let rank = adapter.config().rank;
    for part in adapter.parts(config) {
        layers[part.layer].map(part.place).adapters.push(LowRank {
            slot: part.slot,
            first: part.first,
            a: Matrix::new(&values[part.a], rank, part.inputs),
            b: Matrix::new(&values[part.b], part.outputs, rank),
            scale: T::from_f64(adapter.config().scale()),
        });
    }
    adapter.slots(config)
}
