//! The backward pass of one layer on a GPU, and the gradients of its weights.
//! Legend: n tokens, m tokens of them that ask, C channels, F feed-forward, H heads, K key/value heads, D head size, r rank of an
//! adapter.

use super::block::{Activations, Seen, rotate};
use super::network::{Layer, Network, Projection};
use crate::device::{Buffer, Gpu, Matrix, MatrixMut, Real, View, ViewMut};
use crate::error::Result;
use crate::ops::attention::Scoring;
use crate::ops::attention::cuda::Given;
use crate::ops::cuda::{Move, move_rows};
use crate::ops::gated::{self, Activation};
use crate::ops::rms_norm::Norm;
use crate::ops::rope::Direction;
use crate::ops::{attention, rms_norm};

/// Where the gradients of a layer's parameters are added.
pub(super) enum LayerGradients<'g> {
    /// The layer's parameters, in their order.
    Weights(ViewMut<'g, f32>),
    /// An adapter's; the layer itself is frozen.
    Adapter(ViewMut<'g, f32>),
}

/// The parts of a layer's own gradients; all `None` where the layer is frozen.
#[derive(Default)]
struct Parts<'g> {
    input_norm: Option<ViewMut<'g, f32>>,
    query: Option<ViewMut<'g, f32>>,
    key_value: Option<ViewMut<'g, f32>>,
    output: Option<ViewMut<'g, f32>>,
    post_norm: Option<ViewMut<'g, f32>>,
    gate_up: Option<ViewMut<'g, f32>>,
    down: Option<ViewMut<'g, f32>>,
}

/// Turns the gradient of a layer's result, `d_out` (m, C), into that of its input x (n, C), dx (n, C), and adds those of its
/// parameters. What was kept is used up.
pub(super) fn backward(
    network: &Network<'_>,
    layer: &Layer<'_>,
    seen: Seen<'_>,
    x: View<'_, Real>,
    mut kept: Activations,
    (d_out, mut dx): (View<'_, Real>, ViewMut<'_, Real>),
    gradients: LayerGradients<'_>,
) -> Result<()> {
    let gpu = &network.gpu;
    let of = &network.dimensions;
    let (c, f) = (of.channels, of.feed_forward);
    let norm = Norm::plain(of.eps);
    let (n, m) = (x.len() / c, d_out.len() / c);
    let (mut parts, adapter) = split(network, gradients);
    let mut lows = lows(network, n, m)?;

    // Feed-forward.
    let mut activated = Buffer::<Real>::new(gpu, m * f)?;
    layer
        .down
        .backward(gpu, d_out, activated.view_mut(), false, &mut lows)?;
    gated::cuda::backward(
        gpu,
        Activation::Silu,
        kept.gate_up.view_mut(),
        f,
        activated.view_mut(),
    )?;
    layer.down.lows(gpu, activated.view(), &mut lows)?;
    add(gpu, &layer.down, parts.down.take(), d_out, activated.view())?;
    let adapters = adapter.map(|mut adapter| {
        let mut slots = Vec::new();
        for &(a, b) in &adapter_sizes(network, layer) {
            slots.push((adapter.split_off(a), adapter.split_off(b)));
        }
        slots
    });
    let mut adapters = adapters.unwrap_or_default();
    add_adapters(
        gpu,
        &layer.down,
        &mut adapters,
        &lows,
        d_out,
        activated.view(),
    )?;
    drop(activated);
    let d_gate_up = kept.gate_up;
    let mut grad = Buffer::<Real>::new(gpu, n.max(m) * c)?;
    let mut d_normed = grad.part_mut(0..m * c);
    layer
        .gate_up
        .backward(gpu, d_gate_up.view(), d_normed.again(), false, &mut lows)?;
    let mut normed = Buffer::<Real>::new(gpu, n.max(m) * c)?;
    {
        let mut post = normed.part_mut(0..m * c);
        let middle = kept.middle.view();
        rms_norm::cuda::forward(gpu, middle, layer.post_norm, norm, post.again())?;
        layer.gate_up.lows(gpu, post.as_view(), &mut lows)?;
        let (map, d, x) = (&layer.gate_up, d_gate_up.view(), post.as_view());
        add(gpu, map, parts.gate_up.take(), d, x)?;
        add_adapters(gpu, map, &mut adapters, &lows, d, x)?;
    }
    drop(d_gate_up);
    let mut d_middle = Buffer::<Real>::new(gpu, m * c)?;
    d_middle.view_mut().copy_from(gpu, d_out)?;
    rms_norm::cuda::backward(
        gpu,
        (kept.middle.view(), layer.post_norm),
        norm,
        d_normed.as_view(),
        d_middle.view_mut(),
        parts.post_norm.take(),
    )?;

    // Attention.
    let mut d_mixed = Buffer::<Real>::new(gpu, kept.mixed.len())?;
    layer
        .output
        .backward(gpu, d_middle.view(), d_mixed.view_mut(), false, &mut lows)?;
    layer.output.lows(gpu, kept.mixed.view(), &mut lows)?;
    let (map, d, y) = (&layer.output, d_middle.view(), kept.mixed.view());
    add(gpu, map, parts.output.take(), d, y)?;
    add_adapters(gpu, map, &mut adapters, &lows, d, y)?;
    let given = Given {
        query: kept.query.view(),
        key_value: kept.key_value.view(),
        out: kept.mixed.view(),
        log_sums: kept.log_sums.view(),
        grad: d_mixed.view(),
    };
    let mut d_query = Buffer::<Real>::new(gpu, kept.query.len())?;
    let mut d_key_value = Buffer::<Real>::new(gpu, kept.key_value.len())?;
    attention::cuda::backward(
        gpu,
        given,
        seen.rows.spans(seen.last),
        (of.attention, Scoring::plain(of.attention.size)),
        d_query.view_mut(),
        d_key_value.view_mut(),
    )?;
    let (query, key_value) = (d_query.view_mut(), d_key_value.view_mut());
    rotate(network, seen, query, key_value, Direction::Backward)?;

    // Queries, keys and values, back to x.
    let mut normed = normed.part_mut(0..n * c);
    rms_norm::cuda::forward(gpu, x, layer.input_norm, norm, normed.again())?;
    let mut d_normed = grad.part_mut(0..n * c);
    let d = d_key_value.view();
    layer
        .key_value
        .backward(gpu, d, d_normed.again(), false, &mut lows)?;
    layer.key_value.lows(gpu, normed.as_view(), &mut lows)?;
    let (map, y) = (&layer.key_value, normed.as_view());
    add(gpu, map, parts.key_value.take(), d, y)?;
    add_adapters(gpu, map, &mut adapters, &lows, d, y)?;
    let (map, d) = (&layer.query, d_query.view());
    if let Some(asking) = seen.asking() {
        let mut d_chosen = Buffer::<Real>::new(gpu, m * c)?;
        map.backward(gpu, d, d_chosen.view_mut(), false, &mut lows)?;
        let mut chosen = Buffer::<Real>::new(gpu, m * c)?;
        let to = chosen.view_mut();
        move_rows(gpu, Move::Choose, normed.as_view(), asking, to, c)?;
        map.lows(gpu, chosen.view(), &mut lows)?;
        add(gpu, map, parts.query.take(), d, chosen.view())?;
        add_adapters(gpu, map, &mut adapters, &lows, d, chosen.view())?;
        dx.clear(gpu)?;
        move_rows(gpu, Move::Scatter, d_middle.view(), asking, dx.again(), c)?;
        let to = d_normed.again();
        move_rows(gpu, Move::ScatterAdd, d_chosen.view(), asking, to, c)?;
    } else {
        map.backward(gpu, d, d_normed.again(), true, &mut lows)?;
        map.lows(gpu, normed.as_view(), &mut lows)?;
        add(gpu, map, parts.query.take(), d, normed.as_view())?;
        add_adapters(gpu, map, &mut adapters, &lows, d, normed.as_view())?;
        dx.copy_from(gpu, d_middle.view())?;
    }
    let operands = (x, layer.input_norm);
    let d_weight = parts.input_norm.take();
    rms_norm::cuda::backward(gpu, operands, norm, d_normed.as_view(), dx, d_weight)
}

/// The parts of a layer's gradients, or an adapter's as they are.
fn split<'g>(
    network: &Network<'_>,
    gradients: LayerGradients<'g>,
) -> (Parts<'g>, Option<ViewMut<'g, f32>>) {
    match gradients {
        LayerGradients::Weights(mut rest) => {
            let parts = network.dimensions.layer();
            let [
                input_norm,
                query,
                key_value,
                output,
                post_norm,
                gate_up,
                down,
            ] = parts.map(|count| Some(rest.split_off(count)));
            let parts = Parts {
                input_norm,
                query,
                key_value,
                output,
                post_norm,
                gate_up,
                down,
            };
            (parts, None)
        }
        LayerGradients::Adapter(all) => (Parts::default(), Some(all)),
    }
}

/// A · x and scale · dy · B of every adapter of a layer, (m or n, r).
fn lows(network: &Network<'_>, n: usize, m: usize) -> Result<Vec<[Buffer<Real>; 2]>> {
    let slots = network.slots.iter();
    slots
        .map(|&(rank, all)| {
            let len = rank * if all { n } else { m };
            Ok([
                Buffer::new(&network.gpu, len)?,
                Buffer::new(&network.gpu, len)?,
            ])
        })
        .collect()
}

/// Elements of A and B of a layer's adapters, by slot.
fn adapter_sizes(network: &Network<'_>, layer: &Layer<'_>) -> Vec<(usize, usize)> {
    let mut sizes = vec![(0, 0); network.slots.len()];
    for map in [
        &layer.query,
        &layer.key_value,
        &layer.output,
        &layer.gate_up,
        &layer.down,
    ] {
        for adapter in &map.adapters {
            let size = |matrix: &Matrix<'_>| matrix.rows() * matrix.columns();
            sizes[adapter.slot] = (size(&adapter.a), size(&adapter.b));
        }
    }
    sizes
}

/// `d_weight` (O, I) += dᵀ · x over all tokens: d (n, O) is the gradient of a map's result, x (n, I) its input.
fn add(
    gpu: &Gpu,
    map: &Projection<'_>,
    d_weight: Option<ViewMut<'_, f32>>,
    d: View<'_, Real>,
    x: View<'_, Real>,
) -> Result<()> {
    let Some(d_weight) = d_weight else {
        return Ok(());
    };
    let (outputs, inputs) = (map.weight.rows(), map.weight.columns());
    let n = x.len() / inputs;
    gpu.multiply(
        MatrixMut::new(d_weight, outputs, inputs),
        Matrix::new(d, n, outputs).t(),
        Matrix::new(x, n, inputs),
        1.0,
        true,
    )
}

/// The same for a map's adapters: dA += lowᵀ · x with low = scale · d · B, and dB += scale · dᵀ · (A · x).
fn add_adapters(
    gpu: &Gpu,
    map: &Projection<'_>,
    gradients: &mut [(ViewMut<'_, f32>, ViewMut<'_, f32>)],
    lows: &[[Buffer<Real>; 2]],
    d: View<'_, Real>,
    x: View<'_, Real>,
) -> Result<()> {
    let (outputs, inputs) = (map.weight.rows(), map.weight.columns());
    let n = x.len() / inputs;
    for adapter in &map.adapters {
        let (d_a, d_b) = &mut gradients[adapter.slot];
        let rank = adapter.a.rows();
        let [low, low_grad] = lows[adapter.slot].each_ref().map(Buffer::view);
        gpu.multiply(
            MatrixMut::new(d_a.again(), rank, inputs),
            Matrix::new(low_grad, n, rank).t(),
            Matrix::new(x, n, inputs),
            1.0,
            true,
        )?;
        let part = Matrix::new(d, n, outputs).part(adapter.first, adapter.b.rows());
        gpu.multiply(
            MatrixMut::new(d_b.again(), adapter.b.rows(), rank),
            part.t(),
            Matrix::new(low, n, rank),
            adapter.scale,
            true,
        )?;
    }
    Ok(())
}
