//! A layer forwards.

use super::{Activations, Backend, Base, Layer, Scratch, keys, queries};
use crate::error::Result;
use crate::model::description::{Dimensions, NormPlace, Place};
use crate::ops::rope::Direction;

/// A layer as a backend has it.
pub(super) type LayerOf<B> = Layer<<B as Backend>::Map, <B as Backend>::Weight>;

/// The residual stream on its way through a layer.
pub(in crate::model) enum Stream<'a, B: Backend> {
    /// x (n, C), and where the result (m, C) is written; nowhere, where only what is kept is wanted.
    Apart {
        x: B::View<'a>,
        out: Option<B::ViewMut<'a>>,
    },
    /// x lies in `middle`, and the result takes its place: all tokens ask, and there is no way back.
    #[cfg_attr(
        not(feature = "cuda"),
        expect(dead_code, reason = "a GPU's step of sampling keeps its stream there")
    )]
    InPlace,
}

/// Takes the stream through a layer and keeps what the way back needs.
pub(in crate::model) fn forward<B: Backend>(
    backend: &mut B,
    of: &Dimensions,
    layer: &LayerOf<B>,
    stream: Stream<'_, B>,
    (kept, log_sums): (&mut Activations<B::ViewMut<'_>>, B::Sums<'_>),
    scratch: &mut Scratch<B::ViewMut<'_>>,
) -> Result<()> {
    let asking = B::len(B::read(&kept.middle));
    let (apart, out) = match stream {
        Stream::Apart { x, out } => (Some(x), Some(out)),
        Stream::InPlace => (None, None),
    };
    project(backend, of, layer, apart, kept, scratch)?;
    let (query, key_value) = (B::again(&mut kept.query), B::again(&mut kept.key_value));
    backend.rotate(query, key_value, layer.rule.rotation, Direction::Forward)?;
    let (query, key_value) = (B::read(&kept.query), B::read(&kept.key_value));
    let mixed = B::again(&mut kept.mixed);
    backend.attend(query, key_value, layer.rule.scoring, mixed, log_sums)?;
    let base = match apart {
        Some(x) if backend.pruned() => {
            backend.choose(x, of.channels, B::again(&mut kept.middle))?;
            Base::Result
        }
        Some(x) => Base::Of(x),
        None => Base::Result,
    };
    Addition {
        map: layer.map(Place::Output),
        norm: layer.norm(NormPlace::Attention),
        raw: B::again(&mut kept.attended),
        x: B::read(&kept.mixed),
    }
    .onto(
        backend,
        of,
        base,
        (&mut scratch.aside, &mut scratch.low),
        B::again(&mut kept.middle),
    )?;

    let middle = B::read(&kept.middle);
    let into = if let Some(weight) = layer.norm(NormPlace::FeedForward) {
        let normed = B::first(&mut scratch.normed, asking);
        backend.norm(middle, weight, of.norm, normed)?;
        B::head(B::read(&scratch.normed), asking)
    } else {
        middle
    };
    let (map, gate_up) = (layer.map(Place::GateUp), B::again(&mut kept.gate_up));
    backend.map(map, into, Base::Zero, gate_up, B::again(&mut scratch.low))?;
    let norm = layer.norm(NormPlace::Last);
    // Without a result, only what the way back looks at is computed.
    let is_wanted = !matches!(out, Some(None));
    if !is_wanted && norm.is_none() {
        return Ok(());
    }
    let (gate_up, width) = (B::read(&kept.gate_up), of.feed_forward);
    let activated = B::again(&mut scratch.activated);
    backend.gate(of.activation, gate_up, width, activated)?;
    let map = layer.map(Place::Down);
    if !is_wanted {
        let (x, raw) = (B::read(&scratch.activated), B::again(&mut kept.fed));
        return backend.map(map, x, Base::Zero, raw, B::again(&mut scratch.low));
    }
    let Scratch {
        aside,
        activated,
        low,
        ..
    } = scratch;
    let addition = Addition {
        map,
        norm,
        raw: B::again(&mut kept.fed),
        x: B::read(activated),
    };
    if let Some(out) = out.flatten() {
        let base = Base::Of(B::read(&kept.middle));
        addition.onto(backend, of, base, (aside, low), out)
    } else {
        let out = B::again(&mut kept.middle);
        addition.onto(backend, of, Base::Result, (aside, low), out)
    }
}

/// Queries, keys and values of x (n, C), which may lie in `middle`, normed where the family does so and not rotated.
fn project<B: Backend>(
    backend: &mut B,
    of: &Dimensions,
    layer: &LayerOf<B>,
    x: Option<B::View<'_>>,
    kept: &mut Activations<B::ViewMut<'_>>,
    scratch: &mut Scratch<B::ViewMut<'_>>,
) -> Result<()> {
    let x = match x {
        Some(x) => B::shorter(x),
        None => B::read(&kept.middle),
    };
    let sizes = of.attention;
    let norms = [NormPlace::Query, NormPlace::Key].map(|place| layer.norm(place));
    let into = if let Some(weight) = layer.norm(NormPlace::Input) {
        backend.norm(x, weight, of.norm, B::again(&mut scratch.normed))?;
        B::read(&scratch.normed)
    } else {
        x
    };
    let out = if norms[1].is_some() {
        &mut kept.raw_key_value
    } else {
        &mut kept.key_value
    };
    let (map, low) = (layer.map(Place::KeyValue), B::again(&mut scratch.low));
    backend.map(map, into, Base::Zero, B::again(out), low)?;
    let into = if backend.pruned() {
        backend.choose(into, of.channels, B::again(&mut scratch.aside))?;
        B::read(&scratch.aside)
    } else {
        into
    };
    let out = if norms[0].is_some() {
        &mut kept.raw_query
    } else {
        &mut kept.query
    };
    let (map, low) = (layer.map(Place::Query), B::again(&mut scratch.low));
    backend.map(map, into, Base::Zero, B::again(out), low)?;
    if let Some(weight) = norms[0] {
        let rows = queries(sizes);
        let (raw, query) = (B::read(&kept.raw_query), B::again(&mut kept.query));
        backend.norm_heads(raw, weight, of.norm, rows, query)?;
    }
    if let Some(weight) = norms[1] {
        // Values, which lie beside the keys, are not normed.
        let raw = B::read(&kept.raw_key_value);
        backend.copy(raw, B::again(&mut kept.key_value))?;
        let (rows, to) = (keys(sizes), B::again(&mut kept.key_value));
        backend.norm_heads(raw, weight, of.norm, rows, to)?;
    }
    Ok(())
}

/// What a half of a layer adds to the residual stream: r · norm(map(x)).
struct Addition<'a, B: Backend> {
    map: &'a B::Map,
    norm: Option<&'a B::Weight>,
    /// Where map(x) is kept for the norm's way back.
    raw: B::ViewMut<'a>,
    x: B::View<'a>,
}

impl<B: Backend> Addition<'_, B> {
    /// out = base + this, with room for (m, C) and for what adapters need.
    fn onto(
        mut self,
        backend: &mut B,
        of: &Dimensions,
        base: Base<B::View<'_>>,
        (aside, low): (&mut B::ViewMut<'_>, &mut B::ViewMut<'_>),
        out: B::ViewMut<'_>,
    ) -> Result<()> {
        let low = B::again(low);
        match self.norm {
            None if of.residual == 1.0 => {
                return backend.map(self.map, self.x, base, out, low);
            }
            None => backend.map(self.map, self.x, Base::Zero, B::again(aside), low)?,
            Some(weight) => {
                let raw = B::again(&mut self.raw);
                backend.map(self.map, self.x, Base::Zero, raw, low)?;
                backend.norm(B::read(&self.raw), weight, of.norm, B::again(aside))?;
            }
        }
        backend.add_scaled(base, B::read(aside), of.residual, out)
    }
}
