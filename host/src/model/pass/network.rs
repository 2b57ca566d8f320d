//! A model's parameters as the passes read them: matrices over one flat slice, and adapters beside them.
//! Legend: I inputs, O outputs, V vocabulary, C channels, r rank.

use std::sync::Arc;

use rayon::prelude::*;

use super::pool::{Pool, Pooled};
use crate::model::block::{self, Slot};
use crate::model::config::CausalLmConfig;
use crate::model::description::{Dimensions, Layout, MapPlace, NormPlace, Place};
use crate::model::lora::{Adapter, AdapterPart};
use crate::ops::panels::{self, Panels};
use crate::ops::product::{Matrix, MatrixMut, Product, multiply};
use crate::ops::rope::{Table, table};
use crate::ops::{Element, Start, bias};

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

/// A linear map y = W · x + b with its adapters.
pub(super) struct Projection<'a, T> {
    /// (O, I).
    pub(super) weight: Matrix<'a, T>,
    /// (O,).
    bias: Option<&'a [T]>,
    /// Wᵀ for y and W for the gradient of x, laid out where all chunks share that.
    forwards: Option<Panels<Pooled<T>>>,
    backwards: Option<Panels<Pooled<T>>>,
    pub(super) adapters: Vec<LowRank<'a, T>>,
}

impl<'a, T: Element> Projection<'a, T> {
    /// The map that lies at `place` among a layer's parameters.
    fn new(of_layer: &'a [T], place: &MapPlace) -> Self {
        let weight = &of_layer[place.weight.clone()];
        Self {
            weight: Matrix::new(weight, place.outputs, place.inputs),
            bias: place.bias.clone().map(|range| &of_layer[range]),
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

    /// y of n tokens: x (n, I) → out (n, O) = start + y. `low` has room for n rows of the largest rank.
    pub(super) fn forward(
        &self,
        x: &[T],
        (start, out): (Start<'_, T>, &mut [T]),
        threads: usize,
        low: &mut [T],
    ) {
        let (inputs, outputs) = (self.weight.columns(), self.weight.rows());
        let n = out.len() / outputs;
        let map = (self.weight.t(), self.forwards.as_ref());
        product(map, x, (start, out), threads);
        if let Some(bias) = self.bias {
            bias::add(out, bias);
        }
        let x = Matrix::new(x, n, inputs);
        for adapter in &self.adapters {
            let rank = adapter.a.rows();
            let low = &mut low[..n * rank];
            let low_out = MatrixMut::new(low, n, rank);
            multiply(low_out, x, adapter.a.t(), Product::set(threads));
            let part = MatrixMut::new(out, n, outputs).part(adapter.first, adapter.b.rows());
            let product = Product {
                scale: adapter.scale,
                ..Product::add(threads)
            };
            multiply(part, Matrix::new(low, n, rank), adapter.b.t(), product);
        }
    }

    /// The gradient of x from that of y, grad (n, O): dx (n, I), added to `start`. What it computes on the way for the adapters'
    /// own gradients, scale · grad · B (n, r), goes into the second of each pair of `lows`, by slot.
    pub(super) fn backward(
        &self,
        grad: &[T],
        (start, dx): (Start<'_, T>, &mut [T]),
        threads: usize,
        lows: &mut [[&mut [T]; 2]],
    ) {
        let (inputs, outputs) = (self.weight.columns(), self.weight.rows());
        let n = dx.len() / inputs;
        let map = (self.weight, self.backwards.as_ref());
        product(map, grad, (start, dx), threads);
        let grad = Matrix::new(grad, n, outputs);
        for adapter in &self.adapters {
            let rank = adapter.a.rows();
            let [_, low] = &mut lows[adapter.slot];
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

    /// A · x of every adapter, (n, r), into the first of each pair of `lows`, by slot.
    pub(super) fn lows(&self, x: &[T], lows: &mut [[&mut [T]; 2]], threads: usize) {
        let inputs = self.weight.columns();
        let n = x.len() / inputs;
        for adapter in &self.adapters {
            let low = MatrixMut::new(lows[adapter.slot][0], n, adapter.a.rows());
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
pub(super) type Layer<'a, T> = block::Layer<Projection<'a, T>, &'a [T]>;

/// Where an adapter's gradients go.
pub(super) struct Adapted {
    /// Its parts in a layer, by slot.
    pub(super) parts: Vec<AdapterPart>,
    /// Values of an adapter in one layer.
    pub(super) len: usize,
}

/// A model's parameters, and where its passes take their buffers from.
pub(crate) struct Network<'a, T> {
    pub(super) dimensions: Dimensions,
    pub(super) layout: Layout,
    /// (V, C).
    pub(super) embedding: &'a [T],
    pub(super) layers: Vec<Layer<'a, T>>,
    /// (C,).
    pub(super) norm: &'a [T],
    pub(super) rotations: Vec<Arc<Table>>,
    /// The adapters of a layer, by slot.
    pub(super) slots: Vec<Slot>,
    pub(super) adapted: Option<Adapted>,
    /// Whether the backward pass keeps layer inputs alone and computes the rest again.
    pub(super) recompute: bool,
    pub(super) pool: Arc<Pool<T>>,
}

impl<'a, T: Element> Network<'a, T> {
    /// A view of `values`, in the order of the model's parameters, and of an adapter's, for rows of at most `longest` tokens.
    pub(crate) fn new(
        config: &CausalLmConfig,
        (values, adapter): (&'a [T], Option<(&Adapter, &'a [T])>),
        longest: usize,
        recompute: bool,
        pool: &Arc<Pool<T>>,
    ) -> Self {
        let (dimensions, layout) = (config.dimensions(), config.layout());
        let c = dimensions.channels;
        let (embedding, rest) = values.split_at(dimensions.vocabulary * c);
        let (of_layers, rest) = rest.split_at(dimensions.layers.len() * layout.len);
        let layers = of_layers.chunks_exact(layout.len).zip(&dimensions.layers);
        let mut layers: Vec<Layer<'a, T>> = layers
            .map(|(of_layer, rule)| {
                block::Layer::new(
                    Place::ALL.map(|place| Projection::new(of_layer, layout.map(place))),
                    NormPlace::ALL.map(|place| layout.norm(place).map(|range| &of_layer[range])),
                    *rule,
                )
            })
            .collect();
        let mut slots = Vec::new();
        let mut adapted = None;
        if let Some((adapter, values)) = adapter {
            let parts = adapter.parts(config);
            let len = values.len() / layers.len();
            attach(&mut layers, adapter, &parts, values);
            slots = adapter.slots(config);
            adapted = Some(Adapted { parts, len });
        }
        let rotations = dimensions.rotations.iter();
        Self {
            rotations: rotations.map(|of| table(of, longest)).collect(),
            embedding,
            layers,
            norm: &rest[..c],
            slots,
            adapted,
            recompute,
            pool: pool.clone(),
            dimensions,
            layout,
        }
    }

    /// The largest rank of a layer's adapters.
    pub(super) fn rank(&self) -> usize {
        self.slots.iter().map(|slot| slot.rank).max().unwrap_or(0)
    }
}

impl<T: Element> Network<'_, T> {
    /// Lays the weights out for the products of one way, where the model is small enough.
    #[must_use]
    pub(crate) fn laid_out(mut self, way: Way) -> Self {
        let pool = &self.pool;
        self.layers.par_iter_mut().for_each(|layer| {
            let elements = layer
                .maps()
                .iter()
                .map(|map| map.weight.rows() * map.weight.columns());
            if elements.sum::<usize>() <= LAID_OUT {
                for map in layer.maps_mut() {
                    map.lay_out(way, pool);
                }
            }
        });
        self
    }
}

/// Puts an adapter's matrices beside the maps they add to.
fn attach<'a, T: Element>(
    layers: &mut [Layer<'a, T>],
    adapter: &Adapter,
    parts: &[AdapterPart],
    values: &'a [T],
) {
    let rank = adapter.config().rank;
    let of_layer = values.len() / layers.len();
    for (layer, values) in layers.iter_mut().zip(values.chunks_exact(of_layer)) {
        for (slot, part) in parts.iter().enumerate() {
            layer.map_mut(part.place).adapters.push(LowRank {
                slot,
                first: part.first,
                a: Matrix::new(&values[part.a.clone()], rank, part.inputs),
                b: Matrix::new(&values[part.b.clone()], part.outputs, rank),
                scale: T::from_f64(adapter.config().scale()),
            });
        }
    }
}
