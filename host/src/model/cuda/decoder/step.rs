//! One step of decoding on a GPU: the newest token of every row through the model, and the next one drawn.
//! Legend: R rows of a step, C channels, F feed-forward, H heads, K key/value heads, D head size, V vocabulary.

use super::cache::Cache;
use super::state::State;
use crate::device::{Buffer, Gpu, Graph, Matrix, MatrixMut, Real, View};
use crate::error::{Error, Result};
use crate::model::cuda::network::Network;
use crate::ops::attention::Scoring;
use crate::ops::gated::{self, Activation};
use crate::ops::rms_norm::Norm;
use crate::ops::{attention, embedding, rms_norm};

/// Buffers of a step, for so many rows at most.
pub(super) struct Step {
    ids: Buffer<i32>,
    /// The residual stream, (R, C).
    x: Buffer<Real>,
    normed: Buffer<Real>,
    query: Buffer<Real>,
    key_value: Buffer<Real>,
    mixed: Buffer<Real>,
    gate_up: Buffer<Real>,
    activated: Buffer<Real>,
    /// (R, V).
    logits: Buffer<f32>,
    /// What adapters need, (R, r).
    low: Buffer<Real>,
    /// The step as it was last recorded.
    graph: Option<Graph>,
}

impl Step {
    pub(super) fn new(network: &Network<'_>, rows: usize) -> Result<Self> {
        let (gpu, of) = (&network.gpu, &network.dimensions);
        let (c, f) = (of.channels, of.feed_forward);
        let (q, kv) = (of.attention.query_width(), of.attention.key_value_width());
        let rank = network
            .slots
            .iter()
            .map(|(rank, _)| *rank)
            .max()
            .unwrap_or(0);
        Ok(Self {
            ids: Buffer::new(gpu, rows)?,
            x: Buffer::new(gpu, rows * c)?,
            normed: Buffer::new(gpu, rows * c)?,
            query: Buffer::new(gpu, rows * q)?,
            key_value: Buffer::new(gpu, rows * kv)?,
            mixed: Buffer::new(gpu, rows * q)?,
            gate_up: Buffer::new(gpu, rows * 2 * f)?,
            activated: Buffer::new(gpu, rows * f)?,
            logits: Buffer::new(gpu, rows * of.vocabulary)?,
            low: Buffer::new(gpu, rows * rank)?,
            graph: None,
        })
    }

    /// Keeps a recorded step.
    pub(super) fn keep(&mut self, graph: Graph) {
        self.graph = Some(graph);
    }

    /// The step as it was recorded, once more.
    pub(super) fn again(&self, gpu: &Gpu) -> Result<()> {
        match &self.graph {
            Some(graph) => graph.launch(gpu),
            None => Err(Error::internal("no step of decoding was recorded")),
        }
    }

    /// Draws the first tokens of rows in `slots` from the hidden states of their last prompt tokens, (rows, C).
    pub(super) fn first(
        &mut self,
        network: &Network<'_>,
        hidden: View<'_, Real>,
        slots: &[i32],
        state: &mut State,
    ) -> Result<()> {
        state.set_active(slots)?;
        self.draw(network, hidden, slots.len(), state)
    }

    /// Feeds the newest token of every active row and draws the next.
    pub(super) fn run(
        &mut self,
        network: &Network<'_>,
        cache: &mut Cache,
        state: &mut State,
    ) -> Result<()> {
        let (gpu, of) = (&network.gpu, &network.dimensions);
        let (c, f) = (of.channels, of.feed_forward);
        let norm = Norm::plain(of.eps);
        let rows = state.active().len();
        let q = rows * of.attention.query_width();
        let kv = rows * of.attention.key_value_width();
        state.newest(&mut self.ids, of.attention.size)?;
        let (ids, x) = (self.ids.part(0..rows), self.x.part_mut(0..rows * c));
        embedding::cuda::forward(gpu, network.embedding, ids, x, c)?;
        for (index, layer) in network.layers.iter().enumerate() {
            let normed = self.normed.part_mut(0..rows * c);
            let x = self.x.part(0..rows * c);
            rms_norm::cuda::forward(gpu, x, layer.input_norm, norm, normed)?;
            let normed = self.normed.part(0..rows * c);
            let low = &mut self.low;
            let out = self.query.part_mut(0..q);
            layer.query.forward_with(gpu, normed, out, false, low)?;
            let out = self.key_value.part_mut(0..kv);
            layer.key_value.forward_with(gpu, normed, out, false, low)?;
            let (active, positions) = (state.active(), state.positions());
            let key_value = self.key_value.part(0..kv);
            let places = (active, positions);
            cache.extend(network, index, &mut self.query, key_value, places)?;
            attention::cuda::decode(
                gpu,
                self.query.part(0..q),
                cache.layer(network, index, active, positions),
                (of.attention, Scoring::plain(of.attention.size)),
                self.mixed.part_mut(0..q),
            )?;
            let (mixed, x) = (self.mixed.part(0..q), self.x.part_mut(0..rows * c));
            layer.output.forward_with(gpu, mixed, x, true, low)?;

            let normed = self.normed.part_mut(0..rows * c);
            let x = self.x.part(0..rows * c);
            rms_norm::cuda::forward(gpu, x, layer.post_norm, norm, normed)?;
            let normed = self.normed.part(0..rows * c);
            let out = self.gate_up.part_mut(0..rows * 2 * f);
            layer.gate_up.forward_with(gpu, normed, out, false, low)?;
            let gate_up = self.gate_up.part(0..rows * 2 * f);
            let activated = self.activated.part_mut(0..rows * f);
            gated::cuda::forward(gpu, Activation::Silu, gate_up, f, activated)?;
            let activated = self.activated.part(0..rows * f);
            let x = self.x.part_mut(0..rows * c);
            layer.down.forward_with(gpu, activated, x, true, low)?;
        }
        let normed = self.normed.part_mut(0..rows * c);
        let x = self.x.part(0..rows * c);
        rms_norm::cuda::forward(gpu, x, network.norm, norm, normed)?;
        let normed = self.normed.part(0..rows * c);
        logits(network, normed, rows, &mut self.logits)?;
        state.draw(self.logits.part(0..rows * of.vocabulary))
    }

    fn draw(
        &mut self,
        network: &Network<'_>,
        hidden: View<'_, Real>,
        rows: usize,
        state: &mut State,
    ) -> Result<()> {
        logits(network, hidden, rows, &mut self.logits)?;
        state.draw(self.logits.part(0..rows * network.dimensions.vocabulary))
    }
}

/// Logits of normed hidden states, (rows, C), into the beginning of `out`.
fn logits(
    network: &Network<'_>,
    hidden: View<'_, Real>,
    rows: usize,
    out: &mut Buffer<f32>,
) -> Result<()> {
    let (v, c) = (network.dimensions.vocabulary, network.dimensions.channels);
    network.gpu.multiply(
        MatrixMut::new(out.part_mut(0..rows * v), rows, v),
        Matrix::new(hidden, rows, c),
        Matrix::new(network.head, v, c).t(),
        1.0,
        false,
    )
}
