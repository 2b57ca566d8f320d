//! A batch through all layers on a GPU, and back.
//! Legend: N tokens that go through, M tokens that are read, C channels.

use std::sync::Arc;

use super::layer::{OnGpu, Seen};
use super::network::Network;
use super::rows::DeviceRows;
use super::weights;
use crate::data::ragged::TokenBatch;
use crate::device::{Buffer, Gpu, Real, View, ViewMut};
use crate::error::Result;
use crate::model::block::{self, Activations, Factors, Scratch, ScratchBack, Stream, Through};
use crate::model::pass::{Read, Rows};
use crate::model::{CausalLm, CausalLmConfig, pass};
use crate::ops::{embedding, pointwise, rms_norm};

/// What a pass keeps for the way back.
struct Kept {
    /// The input of every layer, (N, C), then the residual stream behind the last, (M, C).
    streams: Vec<Buffer<Real>>,
    /// The rest of every layer; empty where it is computed again.
    layers: Vec<KeptLayer>,
}

/// What a layer keeps for its way back, besides its input.
struct KeptLayer {
    values: Activations<Buffer<Real>>,
    /// (m, H).
    log_sums: Buffer<f32>,
}

impl KeptLayer {
    /// Buffers for n tokens of which m ask.
    fn new(network: &Network<'_>, n: usize, m: usize) -> Result<Self> {
        let (gpu, of) = (&network.gpu, &network.dimensions);
        let widths = Activations::widths(of);
        Ok(Self {
            values: widths.try_map(|width| Buffer::new(gpu, width.len(n, m)))?,
            log_sums: Buffer::new(gpu, m * of.attention.heads)?,
        })
    }
}

/// Takes the stream (n, C) through a layer, to `out` (m, C) where it is wanted.
fn forward(
    network: &Network<'_>,
    index: usize,
    tokens: Seen<'_>,
    (x, out): (View<'_, Real>, Option<ViewMut<'_, Real>>),
    kept: &mut KeptLayer,
) -> Result<()> {
    let (gpu, of) = (&network.gpu, &network.dimensions);
    let (n, m) = (
        x.len() / of.channels,
        kept.values.middle.len() / of.channels,
    );
    let widths = Scratch::widths(of, tokens.pruned(), network.rank());
    let mut scratch = widths.try_map(|width| Buffer::<Real>::new(gpu, width.len(n, m)))?;
    let mut scratch = scratch.each_mut().map(Buffer::view_mut);
    let mut values = kept.values.each_mut().map(Buffer::view_mut);
    block::forward(
        &mut network.steps(tokens),
        of,
        &network.layers[index],
        Stream::Apart { x, out },
        (&mut values, kept.log_sums.view_mut()),
        &mut scratch,
    )
}

impl Network<'_> {
    fn steps<'a>(&'a self, tokens: Seen<'a>) -> OnGpu<'a> {
        OnGpu {
            gpu: &self.gpu,
            sizes: self.dimensions.attention,
            rotations: &self.rotations,
            tokens,
        }
    }
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
    model: &'a CausalLm,
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
        if of.embedding != 1.0 {
            pointwise::cuda::scale(gpu, streams[0].view_mut(), of.embedding)?;
        }
        let mut layers = Vec::new();
        // Where nothing is kept, one set of activations serves all layers in turn.
        let mut shared = None;
        for index in 0..depth {
            let last = index + 1 == depth;
            let asking = if last { m } else { n };
            let seen = Seen { rows: &rows, last };
            let mut kept = match shared.take() {
                Some(kept) if !last => kept,
                _ => KeptLayer::new(network, n, asking)?,
            };
            let mut out = Buffer::<Real>::new(gpu, asking * c)?;
            let x = streams[streams.len() - 1].view();
            forward(network, index, seen, (x, Some(out.view_mut())), &mut kept)?;
            look(index, rows.positions(), &kept.values.key_value)?;
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
        rms_norm::cuda::forward(gpu, x, network.norm, of.norm, hidden.view_mut())?;
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
            network.layout.len
        };
        let kept = "invariant: every layer's input is kept";

        let last = streams.pop().expect(kept);
        let mut d_out = gpu.zeros::<Real>(last.len())?;
        let d_norm = (!adapted).then(|| {
            let start = table + depth * of_layer;
            gradients.again().into_part(start..start + c)
        });
        let norm = (last.view(), network.norm);
        rms_norm::cuda::backward(gpu, norm, of.norm, d_hidden, d_out.view_mut(), d_norm)?;
        drop(last);

        for index in (0..depth).rev() {
            let x = streams.pop().expect(kept);
            let last = index + 1 == depth;
            let seen = Seen { rows: &rows, last };
            let kept = if let Some(kept) = layers.pop() {
                kept
            } else {
                let (n, m) = (x.len() / c, d_out.len() / c);
                let mut again = KeptLayer::new(network, n, m)?;
                forward(network, index, seen, (x.view(), None), &mut again)?;
                again
            };
            let first = if adapted { 0 } else { table } + index * of_layer;
            let part = gradients.again().into_part(first..first + of_layer);
            d_out = backward(network, index, seen, (&x, &d_out), kept, part)?;
        }
        if adapted {
            return Ok(());
        }
        if of.embedding != 1.0 {
            pointwise::cuda::scale(gpu, d_out.view_mut(), of.embedding)?;
        }
        let table = gradients.into_part(0..table);
        embedding::cuda::backward(gpu, d_out.view(), rows.by_id(), table, c)
    }
}

/// Turns the gradient of a layer's result, `d_out` (m, C), into that of its input x (n, C), and adds those of its parameters, or of
/// its adapters. What was kept is used up.
fn backward(
    network: &Network<'_>,
    index: usize,
    tokens: Seen<'_>,
    (x, d_out): (&Buffer<Real>, &Buffer<Real>),
    mut kept: KeptLayer,
    mut gradients: ViewMut<'_, f32>,
) -> Result<Buffer<Real>> {
    let (gpu, of, layer) = (&network.gpu, &network.dimensions, &network.layers[index]);
    let (n, m) = (x.len() / of.channels, d_out.len() / of.channels);
    let adapted = !network.slots.is_empty();
    let buffer = |len: usize| Buffer::<Real>::new(gpu, len);
    let pruned = tokens.pruned();
    let mut left = Factors::widths(of, pruned).try_map(|width| buffer(width.len(n, m)))?;
    let mut lows = Vec::with_capacity(network.slots.len());
    for slot in &network.slots {
        let len = slot.width().len(n, m);
        lows.push([buffer(len)?, buffer(len)?]);
    }
    let mut dx = buffer(x.len())?;
    {
        let widths = ScratchBack::widths(of, pruned);
        let mut scratch = widths.try_map(|width| buffer(width.len(n, m)))?;
        let mut scratch = scratch.each_mut().map(Buffer::view_mut);
        let mut values = kept.values.each_mut().map(Buffer::view_mut);
        let mut left = left.each_mut().map(Buffer::view_mut);
        let lows = lows.iter_mut();
        let mut lows: Vec<_> = lows
            .map(|pair| pair.each_mut().map(Buffer::view_mut))
            .collect();
        let sums = if adapted {
            Default::default()
        } else {
            weights::norms(network, gradients.again())
        };
        let through = Through {
            x: x.view(),
            d_out: d_out.view(),
            dx: dx.view_mut(),
        };
        block::backward(
            &mut network.steps(tokens),
            of,
            layer,
            through,
            (&mut values, kept.log_sums.view_mut()),
            &mut scratch,
            (&mut left, &mut lows),
            sums,
        )?;
    }
    let values = kept.values.each_mut().map(|buffer| buffer.view());
    let left = left.each_mut().map(|buffer| buffer.view());
    let factors = block::factors(layer, &values, &left, d_out.view(), |view| view.is_empty());
    if adapted {
        let lows = lows.iter();
        let lows: Vec<_> = lows.map(|pair| pair.each_ref().map(Buffer::view)).collect();
        weights::add_adapters(network, &factors, &lows, gradients)?;
    } else {
        weights::add_own(network, &factors, gradients)?;
    }
    Ok(dx)
}

/// Takes a batch through a model without a way back; returns the hidden states after the final norm at the tokens that are
/// read, (M, C), and shows `look` what each layer makes.
///
/// # Errors
/// Those of `look`; no memory.
pub(super) fn forward_through(
    network: &Network<'_>,
    (batch, read, config): (&TokenBatch, Read, &CausalLmConfig),
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
    model: &CausalLm,
    gpu: &Arc<Gpu>,
    batch: &TokenBatch,
    read: Read,
) -> Result<Vec<f32>> {
    let prepared = prepare(model, gpu, batch, read)?;
    Pass::forward(&prepared, false)?.hidden().download_real(gpu)
}
