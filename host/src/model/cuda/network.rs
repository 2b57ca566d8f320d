//! A model's parameters as the passes on a GPU read them: matrices over one flat buffer, and adapters beside them.
//! Legend: C channels, F feed-forward, V vocabulary, I inputs, O outputs, r rank.

use std::sync::Arc;

use crate::device::{Gpu, Matrix, MatrixMut, Real, View, ViewMut};
use crate::error::Result;
use crate::model::CausalLm;
use crate::model::block::{self, Slot};
use crate::model::description::{Dimensions, Layout, MapPlace, NormPlace, Place};
use crate::model::lora::{Adapter, AdapterPart};
use crate::ops::log_prob::Form;
use crate::ops::rope::cuda::{DeviceTable, device_table};
use crate::ops::{bias, pointwise};

/// A low-rank addition to some outputs of a map: y[first..first + o] += scale · B · A · x.
pub(super) struct LowRank<'a> {
    /// Its number among the adapters of a layer.
    pub(super) slot: usize,
    /// The first output it adds to.
    pub(super) first: usize,
    /// (r, I).
    pub(super) a: Matrix<'a>,
    /// (o, r).
    pub(super) b: Matrix<'a>,
    /// α / r.
    pub(super) scale: f32,
}

/// A linear map y = W · x + b with its adapters.
pub(super) struct Projection<'a> {
    /// (O, I).
    pub(super) weight: Matrix<'a>,
    /// (O,).
    bias: Option<View<'a, Real>>,
    pub(super) adapters: Vec<LowRank<'a>>,
}

impl<'a> Projection<'a> {
    /// The map that lies at `place` among a layer's parameters.
    fn new(of_layer: View<'a, Real>, place: &MapPlace) -> Self {
        let weight = of_layer.part(place.weight.clone());
        Self {
            weight: Matrix::new(weight, place.outputs, place.inputs),
            bias: place.bias.clone().map(|range| of_layer.part(range)),
            adapters: Vec::new(),
        }
    }

    fn tokens(&self, x: View<'_, Real>) -> usize {
        x.len() / self.weight.columns()
    }

    /// y of n tokens: x (n, I) → out (n, O), added to what is there where `add` says so. `low` has room for n rows of the largest
    /// rank.
    pub(super) fn forward(
        &self,
        gpu: &Gpu,
        x: View<'_, Real>,
        mut out: ViewMut<'_, Real>,
        add: bool,
        mut low: ViewMut<'_, Real>,
    ) -> Result<()> {
        let (inputs, outputs) = (self.weight.columns(), self.weight.rows());
        let n = self.tokens(x);
        let x = Matrix::new(x, n, inputs);
        let all = MatrixMut::new(out.again(), n, outputs);
        gpu.multiply(all, x, self.weight.t(), 1.0, add)?;
        if let Some(bias) = self.bias {
            bias::cuda::add(gpu, out.again(), bias)?;
        }
        for adapter in &self.adapters {
            let rank = adapter.a.rows();
            let mut low = low.again().into_part(0..n * rank);
            let low_out = MatrixMut::new(low.again(), n, rank);
            gpu.multiply(low_out, x, adapter.a.t(), 1.0, false)?;
            let part =
                MatrixMut::new(out.again(), n, outputs).part(adapter.first, adapter.b.rows());
            let low = Matrix::new(low.as_view(), n, rank);
            gpu.multiply(part, low, adapter.b.t(), adapter.scale, true)?;
        }
        Ok(())
    }

    /// The gradient of x from that of y, grad (n, O): dx (n, I), added where `add` says so. What it computes on the way for the
    /// adapters' own gradients, scale · grad · B (n, r), goes into the second of each pair of `lows`, by slot.
    pub(super) fn backward(
        &self,
        gpu: &Gpu,
        grad: View<'_, Real>,
        mut dx: ViewMut<'_, Real>,
        add: bool,
        lows: &mut [[ViewMut<'_, Real>; 2]],
    ) -> Result<()> {
        let (inputs, outputs) = (self.weight.columns(), self.weight.rows());
        let n = grad.len() / outputs;
        let grad = Matrix::new(grad, n, outputs);
        let all = MatrixMut::new(dx.again(), n, inputs);
        gpu.multiply(all, grad, self.weight, 1.0, add)?;
        for adapter in &self.adapters {
            let rank = adapter.a.rows();
            let [_, low] = &mut lows[adapter.slot];
            let part = grad.part(adapter.first, adapter.b.rows());
            let out = MatrixMut::new(low.again(), n, rank);
            gpu.multiply(out, part, adapter.b, adapter.scale, false)?;
            let low = Matrix::new(low.as_view(), n, rank);
            let dx = MatrixMut::new(dx.again(), n, inputs);
            gpu.multiply(dx, low, adapter.a, 1.0, true)?;
        }
        Ok(())
    }

    /// A · x of every adapter, (n, r), into the first of each pair of `lows`, by slot.
    pub(super) fn lows(
        &self,
        gpu: &Gpu,
        x: View<'_, Real>,
        lows: &mut [[ViewMut<'_, Real>; 2]],
    ) -> Result<()> {
        let n = self.tokens(x);
        for adapter in &self.adapters {
            let [low, _] = &mut lows[adapter.slot];
            let out = MatrixMut::new(low.again(), n, adapter.a.rows());
            let x = Matrix::new(x, n, self.weight.columns());
            gpu.multiply(out, x, adapter.a.t(), 1.0, false)?;
        }
        Ok(())
    }
}

/// The parameters of one layer.
pub(super) type Layer<'a> = block::Layer<Projection<'a>, View<'a, Real>>;

/// A model's parameters on a GPU.
pub(in crate::model) struct Network<'a> {
    pub(super) gpu: Arc<Gpu>,
    pub(super) dimensions: Dimensions,
    pub(super) layout: Layout,
    /// (V, C).
    pub(super) embedding: View<'a, Real>,
    pub(super) layers: Vec<Layer<'a>>,
    /// (C,).
    pub(super) norm: View<'a, Real>,
    /// (V, C): the embedding where the two are tied.
    pub(super) head: View<'a, Real>,
    pub(super) rotations: Vec<DeviceTable>,
    /// The adapters of a layer, by slot, and their parts; none where all parameters are trained.
    pub(super) slots: Vec<Slot>,
    pub(super) parts: Vec<AdapterPart>,
    pub(super) recompute: bool,
}

impl<'a> Network<'a> {
    /// A view of a model's parameters, for rows of at most `longest` tokens.
    pub(in crate::model) fn new(
        model: &'a CausalLm,
        gpu: &Arc<Gpu>,
        longest: usize,
    ) -> Result<Self> {
        let config = model.config();
        let (dimensions, layout) = (config.dimensions(), config.layout());
        let c = dimensions.channels;
        let values = model.weights().storage.read_on(gpu)?;
        let mut at = 0;
        let mut take = |count: usize| {
            at += count;
            values.part(at - count..at)
        };
        let embedding = take(dimensions.vocabulary * c);
        let rules = dimensions.layers.iter();
        let mut layers: Vec<Layer<'a>> = rules
            .map(|rule| {
                let of_layer = take(layout.len);
                block::Layer::new(
                    Place::ALL.map(|place| Projection::new(of_layer, layout.map(place))),
                    NormPlace::ALL.map(|place| layout.norm(place).map(|it| of_layer.part(it))),
                    *rule,
                )
            })
            .collect();
        let norm = take(c);
        let head = if config.tie_word_embeddings {
            embedding
        } else {
            take(dimensions.vocabulary * c)
        };
        let (mut slots, mut parts) = (Vec::new(), Vec::new());
        if let Some(adapter) = model.adapter() {
            (slots, parts) = (adapter.slots(config), adapter.parts(config));
            attach(&mut layers, adapter, &parts, gpu)?;
        }
        let rotations = dimensions.rotations.iter();
        Ok(Self {
            gpu: gpu.clone(),
            rotations: rotations
                .map(|of| device_table(gpu, of, longest))
                .collect::<Result<_>>()?,
            dimensions,
            layout,
            embedding,
            layers,
            norm,
            head,
            slots,
            parts,
            recompute: model.recompute(),
        })
    }

    /// Logits of normed hidden states (rows, C) into `out` (rows, V), scaled and capped as the model says.
    pub(super) fn logits(&self, hidden: View<'_, Real>, mut out: ViewMut<'_, f32>) -> Result<()> {
        let (v, c) = (self.dimensions.vocabulary, self.dimensions.channels);
        let rows = hidden.len() / c;
        let Form { scale, cap } = self.dimensions.logits;
        self.gpu.multiply(
            MatrixMut::new(out.again(), rows, v),
            Matrix::new(hidden, rows, c),
            Matrix::new(self.head, v, c).t(),
            scale as f32,
            false,
        )?;
        match cap {
            Some(cap) => pointwise::cuda::cap(&self.gpu, out, cap),
            None => Ok(()),
        }
    }

    /// The largest rank of a layer's adapters.
    pub(super) fn rank(&self) -> usize {
        self.slots.iter().map(|slot| slot.rank).max().unwrap_or(0)
    }
}

/// Puts an adapter's matrices beside the maps they add to.
fn attach<'a>(
    layers: &mut [Layer<'a>],
    adapter: &'a Adapter,
    parts: &[AdapterPart],
    gpu: &Arc<Gpu>,
) -> Result<()> {
    let rank = adapter.config().rank;
    let all = adapter.parameters.storage.read_on(gpu)?;
    let of_layer = all.len() / layers.len();
    for (index, layer) in layers.iter_mut().enumerate() {
        let values = all.part(index * of_layer..(index + 1) * of_layer);
        for (slot, part) in parts.iter().enumerate() {
            layer.map_mut(part.place).adapters.push(LowRank {
                slot,
                first: part.first,
                a: Matrix::new(values.part(part.a.clone()), rank, part.inputs),
                b: Matrix::new(values.part(part.b.clone()), part.outputs, rank),
                scale: adapter.config().scale() as f32,
            });
        }
    }
    Ok(())
}
