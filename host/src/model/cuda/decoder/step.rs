//! One step of decoding on a GPU: the newest token of every row through the model, and the next one drawn.
//! Legend: R rows of a step, C channels, F feed-forward, H heads, K key/value heads, D head size, V vocabulary.

use super::cache::Cache;
use super::state::State;
use super::steps::Decoding;
use crate::device::{Buffer, Gpu, Graph, Real, View};
use crate::error::{Error, Result};
use crate::model::block::{self, Activations, Scratch, Stream};
use crate::model::cuda::network::Network;
use crate::ops::{embedding, pointwise, rms_norm};

/// Buffers of a step, for so many rows at most.
pub(super) struct Step {
    ids: Buffer<i32>,
    /// The residual stream, (R, C), is `middle` of these.
    kept: Activations<Buffer<Real>>,
    scratch: Scratch<Buffer<Real>>,
    /// The stream after the final norm, (R, C).
    normed: Buffer<Real>,
    /// (R, V).
    logits: Buffer<f32>,
    /// No log-sums are kept.
    none: Buffer<f32>,
    /// The step as it was last recorded.
    graph: Option<Graph>,
}

impl Step {
    pub(super) fn new(network: &Network<'_>, rows: usize) -> Result<Self> {
        let (gpu, of) = (&network.gpu, &network.dimensions);
        let scratch = Scratch::widths(of, false, network.rank());
        Ok(Self {
            ids: Buffer::new(gpu, rows)?,
            kept: Activations::widths(of)
                .try_map(|width| Buffer::new(gpu, width.len(rows, rows)))?,
            scratch: scratch.try_map(|width| Buffer::new(gpu, width.len(rows, rows)))?,
            normed: Buffer::new(gpu, rows * of.channels)?,
            logits: Buffer::new(gpu, rows * of.vocabulary)?,
            none: Buffer::new(gpu, rows * of.attention.heads)?,
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
        let (c, rows) = (of.channels, state.active().len());
        state.newest(&mut self.ids, of.attention.size)?;
        let (ids, mut x) = (
            self.ids.part(0..rows),
            self.kept.middle.part_mut(0..rows * c),
        );
        embedding::cuda::forward(gpu, network.embedding, ids, x.again(), c)?;
        if of.embedding != 1.0 {
            pointwise::cuda::scale(gpu, x, of.embedding)?;
        }
        for (index, layer) in network.layers.iter().enumerate() {
            let kept = self.kept.each_mut().zip(Activations::widths(of));
            let mut kept = kept.map(|(it, width)| it.part_mut(0..width.len(rows, rows)));
            let widths = Scratch::widths(of, false, network.rank());
            let scratch = self.scratch.each_mut().zip(widths);
            let mut scratch = scratch.map(|(it, width)| it.part_mut(0..width.len(rows, rows)));
            let mut steps = Decoding {
                gpu,
                sizes: of.attention,
                rotations: &network.rotations,
                layer: index,
                cache: &mut *cache,
                active: state.active(),
                positions: state.positions(),
            };
            let keep = (&mut kept, self.none.view_mut());
            block::forward(&mut steps, of, layer, Stream::InPlace, keep, &mut scratch)?;
        }
        let x = self.kept.middle.part(0..rows * c);
        let normed = self.normed.part_mut(0..rows * c);
        rms_norm::cuda::forward(gpu, x, network.norm, of.norm, normed)?;
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
    network.logits(
        hidden,
        out.part_mut(0..rows * network.dimensions.vocabulary),
    )
}
