//! A batch through all layers on a GPU, and back.
//! Legend: N tokens that go through, M tokens that are read, C channels.

use std::sync::Arc;

use super::block::{self, Activations, Seen};
use super::block_backward::{self, LayerGradients};
use super::network::Network;
use super::rows::DeviceRows;
use crate::data::ragged::TokenBatch;
use crate::device::{Buffer, Gpu, Real, View, ViewMut};
use crate::error::Result;
use crate::model::pass::{Read, Rows};
use crate::model::{Llama, LlamaConfig, pass};
use crate::ops::rms_norm::Norm;
use crate::ops::{embedding, rms_norm};

/// What a pass keeps for the way back.
struct Kept {
    /// The input of every layer, (N, C), then the residual stream behind the last, (M, C).
    streams: Vec<Buffer<Real>>,
    /// The rest of every layer; empty where it is computed again.
    layers: Vec<Activations>,
}

/// A batch that has gone through a model: hidden states, and what the way back needs.
pub(in crate::model) struct Pass {
    longest: usize,
    rows: DeviceRows,
    kept: Option<Kept>,
    /// After the final norm, (M, C).
    hidden: Buffer<Real>,
}

/// A model, prepared for passes over a batch.
pub(super) struct Prepared<'a> {
    pub(super) network: Network<'a>,
    rows: Rows,
}

/// Checks a batch against a model.
///
/// # Errors
/// A row that does not fit the model, by name; parameters on another device.
pub(super) fn prepare<'a>(
    model: &'a Llama,
    gpu: &Arc<Gpu>,
    batch: &TokenBatch,
    read: Read,
) -> Result<Prepared<'a>> {
    let rows = pass::prepare(batch, read, model.config())?.into_rows();
    Ok(Prepared {
        network: Network::new(model, gpu, rows.longest())?,
        rows,
    })
}

impl Pass {
    /// Takes a batch through a model; `keep` says whether there will be a way back.
    pub(super) fn forward(prepared: &Prepared<'_>, keep: bool) -> Result<Self> {
        Self::through(&prepared.network, &prepared.rows, keep, |_, _, _| Ok(()))
    }

    /// The same, and `look` gets what each layer has made: its number, the tokens' positions (N,), and their keys and values
    /// (N, 2·K·D).
    fn through(
        network: &Network<'_>,
        rows: &Rows,
        keep: bool,
        mut look: impl FnMut(usize, View<'_, i32>, &Buffer<Real>) -> Result<()>,
    ) -> Result<Self> {
        let (gpu, of) = (&network.gpu, &network.dimensions);
        let (n, m, c) = (rows.tokens(), rows.read(), of.channels);
        let depth = network.layers.len();
        let longest = rows.longest();
        let rows = DeviceRows::new(gpu, rows, of.attention.size)?;
        let mut streams = vec![Buffer::<Real>::new(gpu, n * c)?];
        let first = streams[0].view_mut();
        embedding::cuda::forward(gpu, network.embedding, rows.ids(), first, c)?;
        let mut layers = Vec::new();
        // Where nothing is kept, one set of activations serves all layers in turn.
        let mut shared = None;
        for (index, layer) in network.layers.iter().enumerate() {
            let last = index + 1 == depth;
            let asking = if last { m } else { n };
            let seen = Seen { rows: &rows, last };
            let mut kept = match shared.take() {
                Some(kept) if !last => kept,
                _ => Activations::new(gpu, of, n, asking)?,
            };
            let mut out = Buffer::<Real>::new(gpu, asking * c)?;
            let x = streams[streams.len() - 1].view();
            block::forward(network, layer, seen, x, &mut kept, Some(out.view_mut()))?;
            look(index, rows.positions(), &kept.key_value)?;
            if keep && !network.recompute {
                layers.push(kept);
            } else {
                shared = Some(kept);
            }
            if !keep {
                streams.clear();
            }
            streams.push(out);
        }
        let mut hidden = Buffer::new(gpu, m * c)?;
        let x = streams[streams.len() - 1].view();
        let norm = Norm::plain(of.eps);
        rms_norm::cuda::forward(gpu, x, network.norm, norm, hidden.view_mut())?;
        Ok(Self {
            longest,
            rows,
            kept: keep.then_some(Kept { streams, layers }),
            hidden,
        })
    }

    /// Tokens of the longest row.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// Hidden states after the final norm at the tokens that are read, row after row, (M, C).
    pub(in crate::model) fn hidden(&self) -> View<'_, Real> {
        self.hidden.view()
    }

    /// Adds the gradients of what is trained of the model that the batch went through, given that of the hidden states,
    /// `d_hidden` (M, C).
    ///
    /// # Panics
    /// A pass that kept nothing.
    pub(super) fn backward(
        self,
        network: &Network<'_>,
        d_hidden: View<'_, Real>,
        mut gradients: ViewMut<'_, f32>,
    ) -> Result<()> {
        let Self { rows, kept, .. } = self;
        let Kept {
            mut streams,
            mut layers,
        } = kept.expect("invariant: a pass with a way back keeps its activations");
        let (gpu, of) = (&network.gpu, &network.dimensions);
        let c = of.channels;
        let depth = network.layers.len();
        let adapted = !network.slots.is_empty();
        let table = network.embedding.len();
        let of_layer = if adapted {
            gradients.len() / depth
        } else {
            of.layer().iter().sum()
        };
        let kept = "invariant: every layer's input is kept";

        let last = streams.pop().expect(kept);
        let mut d_out = gpu.zeros::<Real>(last.len())?;
        let d_norm = (!adapted).then(|| {
            let start = table + depth * of_layer;
            gradients.again().into_part(start..start + c)
        });
        let (operands, norm) = ((last.view(), network.norm), Norm::plain(of.eps));
        rms_norm::cuda::backward(gpu, operands, norm, d_hidden, d_out.view_mut(), d_norm)?;
        drop(last);

        for (index, layer) in network.layers.iter().enumerate().rev() {
            let x = streams.pop().expect(kept);
            let last = index + 1 == depth;
            let seen = Seen { rows: &rows, last };
            let kept = if let Some(kept) = layers.pop() {
                kept
            } else {
                let (n, m) = (x.len() / c, d_out.len() / c);
                let mut again = Activations::new(gpu, of, n, m)?;
                block::forward(network, layer, seen, x.view(), &mut again, None)?;
                again
            };
            let mut dx = Buffer::<Real>::new(gpu, x.len())?;
            let first = if adapted { 0 } else { table } + index * of_layer;
            let part = gradients.again().into_part(first..first + of_layer);
            let part = if adapted {
                LayerGradients::Adapter(part)
            } else {
                LayerGradients::Weights(part)
            };
            let through = (d_out.view(), dx.view_mut());
            block_backward::backward(network, layer, seen, x.view(), kept, through, part)?;
            d_out = dx;
        }
        if adapted {
            return Ok(());
        }
        let table = gradients.into_part(0..table);
        embedding::cuda::backward(gpu, d_out.view(), rows.by_id(), table, c)
    }
}

/// Takes a batch through a model without a way back; returns the hidden states after the final norm at the tokens that are
/// read, (M, C), and shows `look` what each layer makes.
///
/// # Errors
/// Those of `look`; no memory.
pub(super) fn forward_through(
    network: &Network<'_>,
    (batch, read, config): (&TokenBatch, Read, &LlamaConfig),
    mut look: impl FnMut(usize, View<'_, i32>, View<'_, Real>) -> Result<()>,
) -> Result<Buffer<Real>> {
    let rows = pass::prepare(batch, read, config)?.into_rows();
    let look =
        |layer, positions: View<'_, i32>, made: &Buffer<Real>| look(layer, positions, made.view());
    Ok(Pass::through(network, &rows, false, look)?.hidden)
}

/// Hidden states after the final norm at the tokens that are read, (M, C).
///
/// # Errors
/// A row that does not fit the model, by name; no memory.
pub(in crate::model) fn hidden(
    model: &Llama,
    gpu: &Arc<Gpu>,
    batch: &TokenBatch,
    read: Read,
) -> Result<Vec<f32>> {
    let prepared = prepare(model, gpu, batch, read)?;
    Pass::forward(&prepared, false)?.hidden().download_real(gpu)
}
