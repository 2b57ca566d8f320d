//! The forward pass of one layer on a GPU; formulas stand in `pass/block.rs`.
//! Legend: n tokens, m tokens of them that ask, C channels, F feed-forward, H heads, K key/value heads, D head size.

use std::sync::Arc;

use super::network::{Layer, Network};
use super::rows::DeviceRows;
use crate::device::{Buffer, Gpu, Real, View, ViewMut};
use crate::error::Result;
use crate::model::pass::Dimensions;
use crate::ops::attention::Scoring;
use crate::ops::cuda::{Move, move_rows};
use crate::ops::gated::{self, Activation};
use crate::ops::rms_norm::Norm;
use crate::ops::rope::Direction;
use crate::ops::{attention, rms_norm, rope};

/// What a layer's backward pass needs besides its input x.
pub(super) struct Activations {
    /// After the rotation, (m, H·D).
    pub(super) query: Buffer<Real>,
    /// Keys after the rotation, then values, (n, 2·K·D).
    pub(super) key_value: Buffer<Real>,
    /// The attention's result, (m, H·D).
    pub(super) mixed: Buffer<Real>,
    /// (m, H).
    pub(super) log_sums: Buffer<f32>,
    /// The residual stream between attention and feed-forward, (m, C).
    pub(super) middle: Buffer<Real>,
    /// (m, 2·F).
    pub(super) gate_up: Buffer<Real>,
}

impl Activations {
    /// Buffers for n tokens of which m ask.
    pub(super) fn new(gpu: &Arc<Gpu>, of: &Dimensions, n: usize, m: usize) -> Result<Self> {
        let attention = of.attention;
        Ok(Self {
            query: Buffer::new(gpu, m * attention.query_width())?,
            key_value: Buffer::new(gpu, n * attention.key_value_width())?,
            mixed: Buffer::new(gpu, m * attention.query_width())?,
            log_sums: Buffer::new(gpu, m * attention.heads)?,
            middle: Buffer::new(gpu, m * of.channels)?,
            gate_up: Buffer::new(gpu, m * 2 * of.feed_forward)?,
        })
    }
}

/// The tokens of a batch as a layer sees them.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) rows: &'a DeviceRows,
    /// Whether it is the last layer, where only the tokens that are read ask.
    pub(super) last: bool,
}

impl<'a> Seen<'a> {
    /// Which of the n tokens ask, where some do not.
    pub(super) fn asking(&self) -> Option<View<'a, i32>> {
        (self.last && self.rows.pruned).then(|| self.rows.chosen())
    }

    /// Where in their rows the tokens that ask stand, (m,).
    pub(super) fn positions(&self) -> View<'a, i32> {
        if self.last {
            self.rows.read_positions()
        } else {
            self.rows.positions()
        }
    }
}

/// Takes x (n, C) through a layer: keeps what the backward pass needs, and writes out (m, C) where it is wanted.
pub(super) fn forward(
    network: &Network<'_>,
    layer: &Layer<'_>,
    seen: Seen<'_>,
    x: View<'_, Real>,
    kept: &mut Activations,
    out: Option<ViewMut<'_, Real>>,
) -> Result<()> {
    let Network {
        gpu, dimensions, ..
    } = network;
    let (c, f) = (dimensions.channels, dimensions.feed_forward);
    let norm = Norm::plain(dimensions.eps);
    let m = kept.middle.len() / c;

    let mut normed = Buffer::<Real>::new(gpu, x.len())?; // (n, C)
    rms_norm::cuda::forward(gpu, x, layer.input_norm, norm, normed.view_mut())?;
    let key_value = kept.key_value.view_mut();
    layer
        .key_value
        .forward(gpu, normed.view(), key_value, false)?;
    if let Some(asking) = seen.asking() {
        let mut chosen = Buffer::<Real>::new(gpu, m * c)?;
        let to = chosen.view_mut();
        move_rows(gpu, Move::Choose, normed.view(), asking, to, c)?;
        let query = kept.query.view_mut();
        layer.query.forward(gpu, chosen.view(), query, false)?;
        move_rows(gpu, Move::Choose, x, asking, kept.middle.view_mut(), c)?;
    } else {
        let query = kept.query.view_mut();
        layer.query.forward(gpu, normed.view(), query, false)?;
        kept.middle.view_mut().copy_from(gpu, x)?;
    }
    let (query, key_value) = (kept.query.view_mut(), kept.key_value.view_mut());
    rotate(network, seen, query, key_value, Direction::Forward)?;
    attention::cuda::forward(
        gpu,
        (kept.query.view(), kept.key_value.view()),
        seen.rows.spans(seen.last),
        (
            dimensions.attention,
            Scoring::plain(dimensions.attention.size),
        ),
        kept.mixed.view_mut(),
        kept.log_sums.view_mut(),
    )?;
    let middle = kept.middle.view_mut();
    layer.output.forward(gpu, kept.mixed.view(), middle, true)?;

    let normed = &mut normed.part_mut(0..m * c);
    let middle = kept.middle.view();
    rms_norm::cuda::forward(gpu, middle, layer.post_norm, norm, normed.again())?;
    let gate_up = kept.gate_up.view_mut();
    layer
        .gate_up
        .forward(gpu, normed.as_view(), gate_up, false)?;
    if let Some(mut out) = out {
        let mut activated = Buffer::<Real>::new(gpu, m * f)?;
        gated::cuda::forward(
            gpu,
            Activation::Silu,
            kept.gate_up.view(),
            f,
            activated.view_mut(),
        )?;
        out.copy_from(gpu, kept.middle.view())?;
        layer.down.forward(gpu, activated.view(), out, true)?;
    }
    Ok(())
}

/// Turns queries (m, H·D) and keys (n, 2·K·D) by their positions.
pub(super) fn rotate(
    network: &Network<'_>,
    seen: Seen<'_>,
    query: ViewMut<'_, Real>,
    key_value: ViewMut<'_, Real>,
    direction: Direction,
) -> Result<()> {
    let (gpu, table) = (&network.gpu, &network.rope);
    let sizes = network.dimensions.attention;
    let wide = (sizes.query_width(), sizes.heads);
    rope::cuda::turn(gpu, query, wide, seen.positions(), table, direction)?;
    let narrow = (sizes.key_value_width(), sizes.kv_heads);
    let positions = seen.rows.positions();
    rope::cuda::turn(gpu, key_value, narrow, positions, table, direction)
}
