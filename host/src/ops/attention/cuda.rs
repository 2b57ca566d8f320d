//! Attention on a GPU. What the kernels want of a launch stands in `common.cuh`, whose table this file mirrors.
//! Legend: n tokens, m tokens that ask, H heads, K key/value heads, D head size, R rows of a decoding step.

use std::cmp::Reverse;
use std::ops::Range;

use super::{Scoring, Sizes, Span};
use crate::device::{Arg, Dtype, Gpu, Launch, Program, Real, View, ViewMut};
use crate::error::{Error, Result};

#[cfg(test)]
mod tests;

const THREADS: u32 = 128;
/// Integers of a tile.
const TILE: usize = 2;

/// Queries or keys of a tile.
fn tile(size: usize) -> usize {
    if size <= 128 { 64 } else { 32 }
}

/// The largest head, and every head's size is even.
const LARGEST: usize = 256;

/// Refuses a size of head that the kernels have no version for.
///
/// # Errors
/// An odd size, or one above 256.
pub(crate) fn check_size(size: usize) -> Result<()> {
    if size.is_multiple_of(2) && (2..=LARGEST).contains(&size) {
        return Ok(());
    }
    Err(Error::input(format!(
        "the model's heads have {size} channels; on a GPU even numbers up to {LARGEST} are accepted"
    ))
    .hint("--set device.kind=cpu"))
}

/// Where rows and their tiles lie in an upload of integers.
#[derive(Debug)]
pub(crate) struct Layout {
    rows: Range<usize>,
    query_tiles: Range<usize>,
    key_tiles: Range<usize>,
    tokens: usize,
    asking: usize,
}

/// Rows and their tiles on the device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spans<'a> {
    rows: View<'a, i32>,
    query_tiles: View<'a, i32>,
    key_tiles: View<'a, i32>,
    tokens: usize,
    asking: usize,
}

impl Layout {
    /// Writes rows for heads of `size` channels by `push`, which says where it put them; parts begin at even places. Tiles
    /// with the most work come first, so that no long one is left when the others are done.
    pub(crate) fn new(
        spans: &[Span],
        size: usize,
        mut push: impl FnMut(Vec<i32>) -> Range<usize>,
    ) -> Self {
        let rows = spans.iter().flat_map(|span| {
            let (keys, queries) = (&span.keys, &span.queries);
            let parts = [
                keys.start,
                keys.len(),
                queries.start,
                queries.len(),
                span.first,
            ];
            parts.map(|value| value as i32)
        });
        let tile = tile(size);
        // `work(span, tile's first query or key)`: how many it is met with.
        let tiles = |count: fn(&Span) -> usize, work: &dyn Fn(&Span, usize) -> usize| {
            let all = spans.iter().enumerate().flat_map(|(row, span)| {
                let tiles = 0..count(span).div_ceil(tile);
                tiles.map(move |t| (work(span, t * tile), [row as i32, t as i32]))
            });
            let mut all: Vec<_> = all.collect();
            all.sort_by_key(|&(work, _)| Reverse(work));
            all.into_iter()
                .flat_map(|(_, tile)| tile)
                .collect::<Vec<i32>>()
        };
        let keys_seen =
            |span: &Span, query: usize| span.first + (query + tile).min(span.queries.len());
        let queries_that_see = |span: &Span, key: usize| {
            span.queries
                .len()
                .saturating_sub(key.saturating_sub(span.first))
        };
        Self {
            rows: push(rows.collect()),
            query_tiles: push(tiles(|span| span.queries.len(), &keys_seen)),
            key_tiles: push(tiles(|span| span.keys.len(), &queries_that_see)),
            tokens: spans.iter().map(|span| span.keys.end).max().unwrap_or(0),
            asking: spans.iter().map(|span| span.queries.end).max().unwrap_or(0),
        }
    }

    /// The same, in the upload.
    pub(crate) fn on<'a>(&self, upload: View<'a, i32>) -> Spans<'a> {
        Spans {
            rows: upload.part(self.rows.clone()),
            query_tiles: upload.part(self.query_tiles.clone()),
            key_tiles: upload.part(self.key_tiles.clone()),
            tokens: self.tokens,
            asking: self.asking,
        }
    }
}

/// Bytes of shared memory: of the forward pass, and of the backward passes over queries and over keys.
fn shared(gpu: &Gpu, d: usize) -> [usize; 3] {
    let t = tile(d);
    if gpu.dtype() == Dtype::Bf16 && d.is_multiple_of(16) && d <= 128 {
        let step = if d <= 64 { 64 } else { 32 };
        let stages = 8 * step * (d + 8);
        // Rows of the tile that lie beside them.
        let own = if d > 64 { 2 * t * (d + 8) } else { 0 };
        return [stages, stages + own, stages + 16 * step + 2 * own];
    }
    let step = if d <= 64 { 32 } else { 16 };
    let width = 4 * (d.div_ceil(4) | 1);
    let (rows, steps, scores) = (t * width, 2 * step * width, t * (step + 4));
    [
        4 * (rows + steps + scores),
        4 * (2 * rows + steps + scores),
        4 * (2 * rows + steps + 2 * scores),
    ]
}

/// The kernels' last arguments: scale, cap and window; what there is not the program does not read.
fn scoring_args(scoring: Scoring) -> [Arg; 3] {
    assert!(scoring.window != Some(0), "a query sees itself");
    // No row is as long as the largest number that fits.
    let window = scoring
        .window
        .map_or(0, |tokens| tokens.min(i32::MAX as usize));
    [
        (scoring.scale as f32).into(),
        (scoring.cap.unwrap_or(0.0) as f32).into(),
        window.into(),
    ]
}

/// The kernels for heads of this size and this kind of scores.
fn program(sizes: Sizes, scoring: Scoring) -> Program {
    let (capped, windowed) = (scoring.cap.is_some(), scoring.window.is_some());
    if capped || windowed {
        Program::Scores {
            size: sizes.size,
            capped,
            windowed,
        }
    } else {
        Program::Heads(sizes.size)
    }
}

/// query (m, H·D), `key_value` (n, 2·K·D) → out (m, H·D), `log_sums` (m, H).
///
/// # Errors
/// A launch that fails.
pub(crate) fn forward(
    gpu: &Gpu,
    (query, key_value): (View<'_, Real>, View<'_, Real>),
    spans: Spans<'_>,
    (sizes, scoring): (Sizes, Scoring),
    mut out: ViewMut<'_, Real>,
    mut log_sums: ViewMut<'_, f32>,
) -> Result<()> {
    let (m, n) = (
        query.len() / sizes.query_width(),
        key_value.len() / sizes.key_value_width(),
    );
    assert_eq!((spans.asking, spans.tokens), (m, n));
    assert_eq!((out.len(), log_sums.len()), (query.len(), m * sizes.heads));
    let [scale, cap, window] = scoring_args(scoring);
    let args = [
        query.into(),
        key_value.into(),
        spans.rows.into(),
        spans.query_tiles.into(),
        (&mut out).into(),
        (&mut log_sums).into(),
        sizes.heads.into(),
        sizes.kv_heads.into(),
        scale,
        cap,
        window,
    ];
    let launch = Launch::new(spans.query_tiles.len() / TILE, THREADS)
        .by(sizes.heads)
        .shared(shared(gpu, sizes.size)[0]);
    gpu.launch(program(sizes, scoring), "attention_forward", launch, &args)
}

/// What the backward pass is given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Given<'a> {
    /// (m, H·D).
    pub(crate) query: View<'a, Real>,
    /// (n, 2·K·D).
    pub(crate) key_value: View<'a, Real>,
    /// The result, (m, H·D).
    pub(crate) out: View<'a, Real>,
    /// (m, H).
    pub(crate) log_sums: View<'a, f32>,
    /// The gradient of the result, (m, H·D).
    pub(crate) grad: View<'a, Real>,
}

/// Writes the gradients of queries (m, H·D) and of keys and values (n, 2·K·D).
///
/// # Errors
/// A launch that fails; no memory.
pub(crate) fn backward(
    gpu: &std::sync::Arc<Gpu>,
    given: Given<'_>,
    spans: Spans<'_>,
    (sizes, scoring): (Sizes, Scoring),
    mut d_query: ViewMut<'_, Real>,
    mut d_key_value: ViewMut<'_, Real>,
) -> Result<()> {
    let m = given.query.len() / sizes.query_width();
    let n = given.key_value.len() / sizes.key_value_width();
    assert_eq!((spans.asking, spans.tokens), (m, n));
    assert_eq!(
        (given.out.len(), given.grad.len()),
        (given.query.len(), given.query.len())
    );
    assert_eq!(given.log_sums.len(), m * sizes.heads);
    assert_eq!(
        (d_query.len(), d_key_value.len()),
        (given.query.len(), given.key_value.len())
    );
    let program = program(sizes, scoring);
    let [scale, cap, window] = scoring_args(scoring);
    let mut delta = crate::device::Buffer::<f32>::new(gpu, m * sizes.heads)?;
    let args = [
        given.out.into(),
        given.grad.into(),
        (&mut delta.view_mut()).into(),
        m.into(),
        sizes.heads.into(),
    ];
    let launch = Launch::new((m * sizes.heads).div_ceil(16), THREADS);
    gpu.launch(program, "attention_delta", launch, &args)?;
    let [_, over_queries, over_keys] = shared(gpu, sizes.size);
    let passes = [
        (
            "attention_backward_query",
            spans.query_tiles,
            sizes.heads,
            over_queries,
            Arg::from(&mut d_query),
        ),
        (
            "attention_backward_key_value",
            spans.key_tiles,
            sizes.kv_heads,
            over_keys,
            Arg::from(&mut d_key_value),
        ),
    ];
    for (name, tiles, heads, bytes, out) in passes {
        let args = [
            given.query.into(),
            given.key_value.into(),
            given.grad.into(),
            given.log_sums.into(),
            delta.view().into(),
            spans.rows.into(),
            tiles.into(),
            out,
            sizes.heads.into(),
            sizes.kv_heads.into(),
            scale,
            cap,
            window,
        ];
        let launch = Launch::new(tiles.len() / TILE, THREADS)
            .by(heads)
            .shared(bytes);
        gpu.launch(program, name, launch, &args)?;
    }
    Ok(())
}

/// The caches of one layer while decoding.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cached<'a> {
    /// (slots, room, K·D).
    pub(crate) keys: View<'a, Real>,
    /// (slots, room, K·D).
    pub(crate) values: View<'a, Real>,
    /// Tokens there is room for in a slot.
    pub(crate) room: usize,
    /// The slot of each row, (R,).
    pub(crate) active: View<'a, i32>,
    /// Where each slot's newest token stands, (slots,).
    pub(crate) positions: View<'a, i32>,
}

/// The newest token of every row over its cache: query (R, H·D), rotated → out (R, H·D). Slots and positions lie inside the
/// caches, which the decoder sees to.
///
/// # Errors
/// A launch that fails.
pub(crate) fn decode(
    gpu: &Gpu,
    query: View<'_, Real>,
    cached: Cached<'_>,
    (sizes, scoring): (Sizes, Scoring),
    mut out: ViewMut<'_, Real>,
) -> Result<()> {
    let rows = cached.active.len();
    let slots = cached.positions.len();
    let size = slots * cached.room * sizes.key_value_width() / 2;
    assert_eq!((cached.keys.len(), cached.values.len()), (size, size));
    assert_eq!(
        (query.len(), out.len()),
        (rows * sizes.query_width(), query.len())
    );
    let [scale, cap, window] = scoring_args(scoring);
    let args = [
        query.into(),
        cached.keys.into(),
        cached.values.into(),
        cached.active.into(),
        cached.positions.into(),
        (&mut out).into(),
        cached.room.into(),
        sizes.heads.into(),
        sizes.kv_heads.into(),
        scale,
        cap,
        window,
    ];
    let launch = Launch::new(rows, THREADS)
        .by(sizes.kv_heads)
        .shared(4 * (16 * sizes.size + 32));
    gpu.launch(program(sizes, scoring), "attention_decode", launch, &args)
}
