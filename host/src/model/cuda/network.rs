//! A model's parameters as the passes on a GPU read them: matrices over one flat buffer, and adapters beside them.
//! Legend: C channels, F feed-forward, V vocabulary, I inputs, O outputs, r rank.

use std::sync::Arc;

use crate::device::{Buffer, Gpu, Matrix, MatrixMut, Real, View, ViewMut};
use crate::error::Result;
use crate::model::Llama;
use crate::model::lora::{Adapter, Place};
use crate::model::pass::Dimensions;
use crate::ops::rope::Frequencies;
use crate::ops::rope::cuda::{DeviceTable, device_table};

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

/// A linear map y = W · x with its adapters.
pub(super) struct Projection<'a> {
    /// (O, I).
    pub(super) weight: Matrix<'a>,
    pub(super) adapters: Vec<LowRank<'a>>,
}

impl<'a> Projection<'a> {
    fn new(values: View<'a, Real>, outputs: usize, inputs: usize) -> Self {
        Self {
            weight: Matrix::new(values, outputs, inputs),
            adapters: Vec::new(),
        }
    }

    fn tokens(&self, x: View<'_, Real>) -> usize {
        x.len() / self.weight.columns()
    }

    /// y of n tokens: x (n, I) → out (n, O), added to what is there where `add` says so.
    pub(super) fn forward(
        &self,
        gpu: &Arc<Gpu>,
        x: View<'_, Real>,
        out: ViewMut<'_, Real>,
        add: bool,
    ) -> Result<()> {
        let rank = self.adapters.iter().map(|adapter| adapter.a.rows()).max();
        let mut low = Buffer::new(gpu, self.tokens(x) * rank.unwrap_or(0))?;
        self.forward_with(gpu, x, out, add, &mut low)
    }

    /// The same with room for what adapters need on the way, (n, r) at least.
    pub(super) fn forward_with(
        &self,
        gpu: &Gpu,
        x: View<'_, Real>,
        mut out: ViewMut<'_, Real>,
        add: bool,
        low: &mut Buffer<Real>,
    ) -> Result<()> {
        let (inputs, outputs) = (self.weight.columns(), self.weight.rows());
        let n = self.tokens(x);
        let x = Matrix::new(x, n, inputs);
        let all = MatrixMut::new(out.again(), n, outputs);
        gpu.multiply(all, x, self.weight.t(), 1.0, add)?;
        for adapter in &self.adapters {
            let rank = adapter.a.rows();
            let low_out = MatrixMut::new(low.part_mut(0..n * rank), n, rank);
            gpu.multiply(low_out, x, adapter.a.t(), 1.0, false)?;
            let part =
                MatrixMut::new(out.again(), n, outputs).part(adapter.first, adapter.b.rows());
            let low = Matrix::new(low.part(0..n * rank), n, rank);
            gpu.multiply(part, low, adapter.b.t(), adapter.scale, true)?;
        }
        Ok(())
    }

    /// The gradient of x from that of y, grad (n, O): dx (n, I), added where `add` says so. What it computes on the way for the
    /// adapters' own gradients, scale · grad · B (n, r), goes into `lows`, one for each slot.
    pub(super) fn backward(
        &self,
        gpu: &Gpu,
        grad: View<'_, Real>,
        mut dx: ViewMut<'_, Real>,
        add: bool,
        lows: &mut [[Buffer<Real>; 2]],
    ) -> Result<()> {
        let (inputs, outputs) = (self.weight.columns(), self.weight.rows());
        let n = grad.len() / outputs;
        let grad = Matrix::new(grad, n, outputs);
        let all = MatrixMut::new(dx.again(), n, inputs);
        gpu.multiply(all, grad, self.weight, 1.0, add)?;
        for adapter in &self.adapters {
            let rank = adapter.a.rows();
            let low = &mut lows[adapter.slot][1];
            let part = grad.part(adapter.first, adapter.b.rows());
            let out = MatrixMut::new(low.view_mut(), n, rank);
            gpu.multiply(out, part, adapter.b, adapter.scale, false)?;
            let low = Matrix::new(low.view(), n, rank);
            gpu.multiply(
                MatrixMut::new(dx.again(), n, inputs),
                low,
                adapter.a,
                1.0,
                true,
            )?;
        }
        Ok(())
    }

    /// A · x of every adapter, (n, r), into `lows`, one for each slot.
    pub(super) fn lows(
        &self,
        gpu: &Gpu,
        x: View<'_, Real>,
        lows: &mut [[Buffer<Real>; 2]],
    ) -> Result<()> {
        let n = self.tokens(x);
        for adapter in &self.adapters {
            let low = &mut lows[adapter.slot][0];
            let out = MatrixMut::new(low.view_mut(), n, adapter.a.rows());
            let x = Matrix::new(x, n, self.weight.columns());
            gpu.multiply(out, x, adapter.a.t(), 1.0, false)?;
        }
        Ok(())
    }
}

/// The parameters of one layer.
pub(super) struct Layer<'a> {
    pub(super) input_norm: View<'a, Real>,
    pub(super) query: Projection<'a>,
    pub(super) key_value: Projection<'a>,
    pub(super) output: Projection<'a>,
    pub(super) post_norm: View<'a, Real>,
    pub(super) gate_up: Projection<'a>,
    pub(super) down: Projection<'a>,
}

/// A model's parameters on a GPU.
pub(in crate::model) struct Network<'a> {
    pub(super) gpu: Arc<Gpu>,
    pub(super) dimensions: Dimensions,
    /// (V, C).
    pub(super) embedding: View<'a, Real>,
    pub(super) layers: Vec<Layer<'a>>,
    /// (C,).
    pub(super) norm: View<'a, Real>,
    /// (V, C): the embedding where the two are tied.
    pub(super) head: View<'a, Real>,
    pub(super) rope: DeviceTable,
    /// Ranks of the adapters of a layer, by slot, and whether they see all tokens (keys and values) or those that ask.
    pub(super) slots: Vec<(usize, bool)>,
    pub(super) recompute: bool,
}

impl<'a> Network<'a> {
    /// A view of a model's parameters, for rows of at most `longest` tokens.
    pub(in crate::model) fn new(model: &'a Llama, gpu: &Arc<Gpu>, longest: usize) -> Result<Self> {
        let config = model.config();
        let dimensions = Dimensions::new(config);
        let (c, f) = (dimensions.channels, dimensions.feed_forward);
        let (q, kv) = (
            dimensions.attention.query_width(),
            dimensions.attention.key_value_width(),
        );
        let values = model.weights().storage.read_on(gpu)?;
        let mut at = 0;
        let mut take = |count: usize| {
            at += count;
            values.part(at - count..at)
        };
        let embedding = take(dimensions.vocabulary * c);
        let sizes = dimensions.layer();
        let mut layers: Vec<Layer<'a>> = (0..config.num_hidden_layers)
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
        let head = if config.tie_word_embeddings {
            embedding
        } else {
            take(dimensions.vocabulary * c)
        };
        let slots = match model.adapter() {
            Some(adapter) => attach(&mut layers, model, adapter, gpu)?,
            None => Vec::new(),
        };
        let frequencies = Frequencies::new(config.rope_theta, config.head_dim / 2);
        Ok(Self {
            gpu: gpu.clone(),
            rope: device_table(gpu, &frequencies, longest)?,
            dimensions,
            embedding,
            layers,
            norm,
            head,
            slots,
            recompute: model.recompute(),
        })
    }
}

impl<'a> Layer<'a> {
    fn map(&mut self, place: Place) -> &mut Projection<'a> {
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
fn attach<'a>(
    layers: &mut [Layer<'a>],
    model: &'a Llama,
    adapter: &'a Adapter,
    gpu: &Arc<Gpu>,
) -> Result<Vec<(usize, bool)>> {
    let rank = adapter.config().rank;
    let values = adapter.parameters.storage.read_on(gpu)?;
    for part in adapter.parts(model.config()) {
        layers[part.layer].map(part.place).adapters.push(LowRank {
            slot: part.slot,
            first: part.first,
            a: Matrix::new(values.part(part.a), rank, part.inputs),
            b: Matrix::new(values.part(part.b), part.outputs, rank),
            scale: adapter.config().scale() as f32,
        });
    }
    Ok(adapter.slots(model.config()))
}
