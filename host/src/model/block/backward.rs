//! A layer backwards.

use super::forward::LayerOf;
use super::{
    Activations, BackBackend, Backend, Base, Factors, Given, Layer, ScratchBack, keys, queries,
};
use crate::error::{Error, Result};
use crate::model::description::{Dimensions, NormPlace, Place};
use crate::ops::rope::Direction;

/// What goes through a layer backwards.
pub(in crate::model) struct Through<'a, B: Backend> {
    /// The layer's input, (n, C).
    pub(in crate::model) x: B::View<'a>,
    /// The gradient of its result, (m, C).
    pub(in crate::model) d_out: B::View<'a>,
    /// Where that of its input is written, (n, C).
    pub(in crate::model) dx: B::ViewMut<'a>,
}

/// Turns the gradient of a layer's result into that of its input. Leaves both factors of every weight's gradient behind, and adds
/// the gradients of norms to `sums` where they are wanted.
#[expect(
    clippy::too_many_arguments,
    reason = "what goes through, what was kept, room, and what is left, each with a meaning of its own"
)]
pub(in crate::model) fn backward<B: BackBackend>(
    backend: &mut B,
    of: &Dimensions,
    layer: &LayerOf<B>,
    Through { x, d_out, mut dx }: Through<'_, B>,
    (kept, log_sums): (&mut Activations<B::ViewMut<'_>>, B::Sums<'_>),
    scratch: &mut ScratchBack<B::ViewMut<'_>>,
    (left, lows): (&mut Factors<B::ViewMut<'_>>, &mut [[B::ViewMut<'_>; 2]]),
    sums: [Option<B::Sums<'_>>; 6],
) -> Result<()> {
    let [
        of_input,
        of_query,
        of_key,
        of_attention,
        of_feed_forward,
        of_last,
    ] = sums;
    let asking = B::len(d_out);

    // Feed-forward.
    let norm = layer.norm(NormPlace::Last);
    let raw = B::read(&kept.fed);
    let d_fed = finish(backend, of, norm, raw, d_out, &mut left.d_fed, of_last)?;
    let (map, activated) = (layer.map(Place::Down), B::again(&mut left.activated));
    backend.map_back(map, d_fed, Base::Zero, activated, lows)?;
    let (gate_up, width) = (B::again(&mut kept.gate_up), of.feed_forward);
    let activated = B::again(&mut left.activated);
    backend.gate_back(of.activation, gate_up, width, activated)?;
    backend.lows(map, B::read(&left.activated), lows)?;
    let (map, d_gate_up) = (layer.map(Place::GateUp), B::read(&kept.gate_up));
    let d_normed = B::first(&mut scratch.grad, asking);
    backend.map_back(map, d_gate_up, Base::Zero, d_normed, lows)?;
    let d_normed = B::head(B::read(&scratch.grad), asking);
    let (middle, d_middle) = (B::read(&kept.middle), B::again(&mut left.d_middle));
    let normed = B::again(&mut left.normed_post);
    if let Some(weight) = layer.norm(NormPlace::FeedForward) {
        backend.norm(middle, weight, of.norm, normed)?;
        let operands = (middle, weight, of.norm);
        backend.norm_back(
            operands,
            d_normed,
            Base::Of(d_out),
            d_middle,
            of_feed_forward,
        )?;
    } else {
        backend.copy(middle, normed)?;
        backend.add_scaled(Base::Of(d_out), d_normed, 1.0, d_middle)?;
    }
    backend.lows(map, B::read(&left.normed_post), lows)?;

    // Attention.
    let d_middle = B::read(&left.d_middle);
    let (norm, raw) = (layer.norm(NormPlace::Attention), B::read(&kept.attended));
    let d_attended = finish(
        backend,
        of,
        norm,
        raw,
        d_middle,
        &mut left.d_attended,
        of_attention,
    )?;
    let (map, d_mixed) = (layer.map(Place::Output), B::again(&mut scratch.d_mixed));
    backend.map_back(map, d_attended, Base::Zero, d_mixed, lows)?;
    backend.lows(map, B::read(&kept.mixed), lows)?;
    let given = Given {
        query: B::read(&kept.query),
        key_value: B::read(&kept.key_value),
        out: B::read(&kept.mixed),
        grad: B::read(&scratch.d_mixed),
    };
    let (query, key_value) = (B::again(&mut left.d_query), B::again(&mut left.d_key_value));
    backend.attend_back(given, log_sums, layer.rule.scoring, query, key_value)?;
    let (query, key_value) = (B::again(&mut left.d_query), B::again(&mut left.d_key_value));
    backend.rotate(query, key_value, layer.rule.rotation, Direction::Backward)?;
    if let Some(weight) = layer.norm(NormPlace::Query) {
        let operands = (B::read(&kept.raw_query), weight, of.norm);
        let grad = B::again(&mut left.d_query);
        backend.norm_heads_back(operands, queries(of.attention), grad, of_query)?;
    }
    if let Some(weight) = layer.norm(NormPlace::Key) {
        let operands = (B::read(&kept.raw_key_value), weight, of.norm);
        let grad = B::again(&mut left.d_key_value);
        backend.norm_heads_back(operands, keys(of.attention), grad, of_key)?;
    }

    // Queries, keys and values, back to x.
    let normed = B::again(&mut left.normed);
    if let Some(weight) = layer.norm(NormPlace::Input) {
        backend.norm(x, weight, of.norm, normed)?;
    } else {
        backend.copy(x, normed)?;
    }
    let normed = B::read(&left.normed);
    let d_normed = &mut scratch.grad;
    let (map, d_key_value) = (layer.map(Place::KeyValue), B::read(&left.d_key_value));
    backend.map_back(map, d_key_value, Base::Zero, B::again(d_normed), lows)?;
    backend.lows(map, normed, lows)?;
    let (map, d_query) = (layer.map(Place::Query), B::read(&left.d_query));
    let stream = if backend.pruned() {
        let d_chosen = B::again(&mut scratch.d_chosen);
        backend.map_back(map, d_query, Base::Zero, d_chosen, lows)?;
        backend.choose(normed, of.channels, B::again(&mut left.chosen))?;
        backend.lows(map, B::read(&left.chosen), lows)?;
        let d_chosen = B::read(&scratch.d_chosen);
        backend.scatter_add(d_chosen, of.channels, B::again(d_normed))?;
        backend.clear(B::again(&mut dx))?;
        backend.scatter_add(d_middle, of.channels, B::again(&mut dx))?;
        Base::Result
    } else {
        backend.map_back(map, d_query, Base::Result, B::again(d_normed), lows)?;
        backend.lows(map, normed, lows)?;
        Base::Of(d_middle)
    };
    let d_normed = B::read(d_normed);
    match layer.norm(NormPlace::Input) {
        Some(weight) => backend.norm_back((x, weight, of.norm), d_normed, stream, dx, of_input),
        None => backend.add_scaled(stream, d_normed, 1.0, dx),
    }
}

/// The gradient of what a map gave, `raw` (m, C), from that of the stream that r · norm(raw) was added to: the same where neither
/// changes it, else in `own`.
fn finish<'a, 'b: 'a, B: BackBackend>(
    backend: &mut B,
    of: &Dimensions,
    norm: Option<&B::Weight>,
    raw: B::View<'_>,
    grad: B::View<'b>,
    own: &'a mut B::ViewMut<'_>,
    sums: Option<B::Sums<'_>>,
) -> Result<B::View<'a>> {
    match (norm, of.residual == 1.0) {
        (None, true) => return Ok(B::shorter(grad)),
        (None, false) => backend.add_scaled(Base::Zero, grad, of.residual, B::again(own))?,
        (Some(weight), true) => {
            let operands = (raw, weight, of.norm);
            backend.norm_back(operands, grad, Base::Zero, B::again(own), sums)?;
        }
        (Some(_), false) => {
            return Err(Error::internal(
                "no family has norms behind its blocks and a residual multiplier",
            ));
        }
    }
    Ok(B::read(own))
}

/// The products of a layer with the gradient of each one's result and its input.
pub(in crate::model) fn factors<'a, V: Copy, M, W>(
    layer: &'a Layer<M, W>,
    kept: &Activations<V>,
    left: &Factors<V>,
    d_out: V,
    is_empty: impl Fn(V) -> bool,
) -> [(Place, &'a M, V, V); 5] {
    let or = |own: V, other: V| if is_empty(own) { other } else { own };
    let normed = or(left.chosen, left.normed);
    let all = [
        (Place::Query, left.d_query, normed),
        (Place::KeyValue, left.d_key_value, left.normed),
        (
            Place::Output,
            or(left.d_attended, left.d_middle),
            kept.mixed,
        ),
        (Place::GateUp, kept.gate_up, left.normed_post),
        (Place::Down, or(left.d_fed, d_out), left.activated),
    ];
    all.map(|(place, grad, x)| (place, layer.map(place), grad, x))
}
