//! One layer, forwards and backwards, for every family and every device.
//!
//! ```text
//! x̂ = norm(x)              q = rotate(norm(W_q x̂))    k = rotate(norm(W_k x̂))    v = W_v x̂
//! middle = x + r · norm(W_o · attention(q, k, v))
//! out = middle + r · norm(W_down · act(gate) · up)      gate, up = W_gate, W_up of norm(middle)
//! ```
//! Which of the norms and biases there are, whether it rotates, what attention sees, act and r are the family's and the layer's
//! ([`super::description`]). What a step computes with is a [`Backend`]: slices on the CPU, buffers on a GPU; training has rows in
//! which some tokens ask, sampling has caches behind them.
//!
//! On the way back, both factors of every weight's gradient are left behind ([`Factors`]): dW = dyᵀ · x over all tokens is one
//! product, when all chunks of a batch are done.
//!
//! Legend: n tokens, m tokens of them that ask, C channels, F feed-forward, H heads, K key/value heads, D head size, r rank of an
//! adapter.

mod backward;
mod buffers;
mod forward;
mod on_slices;

use super::description::{LayerRule, NormPlace, Place};
use crate::error::Result;
use crate::ops::attention::{Scoring, Sizes};
use crate::ops::gated::Activation;
use crate::ops::rms_norm::{Norm, Rows};
use crate::ops::rope::Direction;

pub(super) use backward::{Through, backward, factors};
pub(crate) use buffers::{Activations, Factors, Scratch, ScratchBack, Slot, Tokens, Width};
pub(super) use forward::{Stream, forward};
pub(super) use on_slices::{steps_on_slices, turn};

/// What a result is added to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Base<V> {
    /// Nothing: it replaces what is there.
    Zero,
    /// What is there.
    Result,
    /// These, which lie as the result does.
    Of(V),
}

/// The parameters of one layer, and what it computes: `M` are linear maps with their adapters, `W` the weights of norms.
#[derive(Debug)]
pub(super) struct Layer<M, W> {
    maps: [M; 5],
    norms: [Option<W>; 6],
    pub(super) rule: LayerRule,
}

impl<M, W> Layer<M, W> {
    /// A layer of maps and norms in the order of [`Place::ALL`] and [`NormPlace::ALL`].
    pub(super) fn new(maps: [M; 5], norms: [Option<W>; 6], rule: LayerRule) -> Self {
        Self { maps, norms, rule }
    }

    pub(super) fn map(&self, place: Place) -> &M {
        &self.maps[place as usize]
    }

    pub(super) fn map_mut(&mut self, place: Place) -> &mut M {
        &mut self.maps[place as usize]
    }

    pub(super) fn maps(&self) -> &[M; 5] {
        &self.maps
    }

    pub(super) fn maps_mut(&mut self) -> &mut [M; 5] {
        &mut self.maps
    }

    pub(super) fn norm(&self, place: NormPlace) -> Option<&W> {
        self.norms[place as usize].as_ref()
    }
}

/// What a layer's forward pass is computed with. An instance knows the tokens that it is for: their places in their rows, and which
/// of them ask.
pub(super) trait Backend {
    /// Values that are read.
    type View<'a>: Copy;
    /// Values that are written.
    type ViewMut<'a>;
    /// Log-sums and the sums of norms' gradients.
    type Sums<'a>;
    /// A linear map with its adapters.
    type Map;
    /// A norm's weight.
    type Weight;

    /// The same values for a shorter time.
    fn shorter<'a, 'b: 'a>(values: Self::View<'b>) -> Self::View<'a>;
    /// The same values, to be read.
    fn read<'a>(values: &'a Self::ViewMut<'_>) -> Self::View<'a>;
    /// The same values, to be written.
    fn again<'a>(values: &'a mut Self::ViewMut<'_>) -> Self::ViewMut<'a>;
    /// The first `len` of them, to be written.
    fn first<'a>(values: &'a mut Self::ViewMut<'_>, len: usize) -> Self::ViewMut<'a>;
    /// The first `len` of them.
    fn head(values: Self::View<'_>, len: usize) -> Self::View<'_>;
    /// How many there are.
    fn len(values: Self::View<'_>) -> usize;

    /// Whether some tokens do not ask.
    fn pruned(&self) -> bool;

    /// out = norm(x), token by token.
    fn norm(
        &mut self,
        x: Self::View<'_>,
        weight: &Self::Weight,
        norm: Norm,
        out: Self::ViewMut<'_>,
    ) -> Result<()>;

    /// out = norm(x) over some channels of each token, in groups as wide as the weight; the others stay.
    fn norm_heads(
        &mut self,
        x: Self::View<'_>,
        weight: &Self::Weight,
        norm: Norm,
        rows: Rows,
        out: Self::ViewMut<'_>,
    ) -> Result<()>;

    /// out (·, O) = base + map(x), x (·, I). `low` is room for what adapters need on the way, (·, r).
    fn map(
        &mut self,
        map: &Self::Map,
        x: Self::View<'_>,
        base: Base<Self::View<'_>>,
        out: Self::ViewMut<'_>,
        low: Self::ViewMut<'_>,
    ) -> Result<()>;

    /// The rows of the tokens that ask, out of x (n, width) into out (m, width).
    fn choose(&mut self, x: Self::View<'_>, width: usize, out: Self::ViewMut<'_>) -> Result<()>;

    /// out = x.
    fn copy(&mut self, x: Self::View<'_>, out: Self::ViewMut<'_>) -> Result<()>;

    /// out = base + scale · x.
    fn add_scaled(
        &mut self,
        base: Base<Self::View<'_>>,
        x: Self::View<'_>,
        scale: f64,
        out: Self::ViewMut<'_>,
    ) -> Result<()>;

    /// Turns queries (m, H·D) and the keys of (n, 2·K·D) in place by their positions.
    fn rotate(
        &mut self,
        query: Self::ViewMut<'_>,
        key_value: Self::ViewMut<'_>,
        rotation: usize,
        direction: Direction,
    ) -> Result<()>;

    /// Attention of queries (m, H·D) over keys and values (n, 2·K·D), and where there are caches over those before them:
    /// out (m, H·D), and the log-sums of scores (m, H) where there is a way back.
    fn attend(
        &mut self,
        query: Self::View<'_>,
        key_value: Self::View<'_>,
        scoring: Scoring,
        out: Self::ViewMut<'_>,
        log_sums: Self::Sums<'_>,
    ) -> Result<()>;

    /// act(gate) · up: (m, 2·F) → out (m, F).
    fn gate(
        &mut self,
        activation: Activation,
        gate_up: Self::View<'_>,
        width: usize,
        out: Self::ViewMut<'_>,
    ) -> Result<()>;
}

/// Where the queries of a token lie in its row.
fn queries(sizes: Sizes) -> Rows {
    let width = sizes.query_width();
    Rows {
        stride: width,
        width,
    }
}

/// Where the keys of a token lie in its row, beside its values.
fn keys(sizes: Sizes) -> Rows {
    let stride = sizes.key_value_width();
    Rows {
        stride,
        width: stride / 2,
    }
}

/// The way back of a [`Backend`].
pub(super) trait BackBackend: Backend {
    /// The gradient of x from that of y = map(x), (·, O): dx (·, I) on top of `base`. What it computes on the way for the
    /// adapters' own gradients, scale · dy · B (·, r), goes into the second of each pair of `lows`, by slot.
    fn map_back(
        &mut self,
        map: &Self::Map,
        grad: Self::View<'_>,
        base: Base<Self::View<'_>>,
        dx: Self::ViewMut<'_>,
        lows: &mut [[Self::ViewMut<'_>; 2]],
    ) -> Result<()>;

    /// A · x of every adapter of a map, (·, r), into the first of each pair of `lows`.
    fn lows(
        &mut self,
        map: &Self::Map,
        x: Self::View<'_>,
        lows: &mut [[Self::ViewMut<'_>; 2]],
    ) -> Result<()>;

    /// The gradient of x from that of norm(x): dx on top of `base`; the weight's is added to `sums` where it is wanted.
    fn norm_back(
        &mut self,
        operands: (Self::View<'_>, &Self::Weight, Norm),
        grad: Self::View<'_>,
        base: Base<Self::View<'_>>,
        dx: Self::ViewMut<'_>,
        sums: Option<Self::Sums<'_>>,
    ) -> Result<()>;

    /// The same of [`Backend::norm_heads`], in place: `grad` becomes the gradient of x.
    fn norm_heads_back(
        &mut self,
        operands: (Self::View<'_>, &Self::Weight, Norm),
        rows: Rows,
        grad: Self::ViewMut<'_>,
        sums: Option<Self::Sums<'_>>,
    ) -> Result<()>;

    /// Adds x (m, width), rows of the tokens that ask, to theirs in out (n, width).
    fn scatter_add(
        &mut self,
        x: Self::View<'_>,
        width: usize,
        out: Self::ViewMut<'_>,
    ) -> Result<()>;

    /// Makes zeros of them.
    fn clear(&mut self, values: Self::ViewMut<'_>) -> Result<()>;

    /// The gradients of queries (m, H·D) and of keys and values (n, 2·K·D) from that of attention's result; `log_sums` (m, H) are
    /// those of its forward pass.
    fn attend_back(
        &mut self,
        given: Given<Self::View<'_>>,
        log_sums: Self::Sums<'_>,
        scoring: Scoring,
        d_query: Self::ViewMut<'_>,
        d_key_value: Self::ViewMut<'_>,
    ) -> Result<()>;

    /// In place: (m, 2·F) becomes its gradient, and `grad` (m, F), the gradient of act(gate) · up, becomes that product.
    fn gate_back(
        &mut self,
        activation: Activation,
        gate_up: Self::ViewMut<'_>,
        width: usize,
        grad: Self::ViewMut<'_>,
    ) -> Result<()>;
}

/// What attention's way back is given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given<V> {
    /// (m, H·D).
    pub(super) query: V,
    /// (n, 2·K·D).
    pub(super) key_value: V,
    /// The result, (m, H·D).
    pub(super) out: V,
    /// The gradient of the result, (m, H·D).
    pub(super) grad: V,
}
