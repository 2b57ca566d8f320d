//! A batch on its way through a model, on the device: one upload of small integers.

use std::ops::Range;
use std::sync::Arc;

use crate::device::{Buffer, Gpu, View};
use crate::error::Result;
use crate::model::pass::Rows;
use crate::ops::attention::Span;
use crate::ops::attention::cuda::{Layout, Spans};
use crate::ops::embedding::cuda::ById;

/// Parts of the upload begin at multiples of this many integers, so that kernels may read pairs and fours.
const ALIGN: usize = 4;

/// A batch's rows on the device.
pub(super) struct DeviceRows {
    values: Buffer<i32>,
    ids: Range<usize>,
    positions: Range<usize>,
    read_positions: Range<usize>,
    chosen: Range<usize>,
    unique: Range<usize>,
    offsets: Range<usize>,
    order: Range<usize>,
    whole: Layout,
    last: Layout,
    /// Whether some tokens do not ask in the last layer.
    pub(super) pruned: bool,
}

impl DeviceRows {
    pub(super) fn new(gpu: &Arc<Gpu>, rows: &Rows, size: usize) -> Result<Self> {
        let (whole, last) = spans(rows);
        let mut upload = Upload::default();
        let ids = upload.push(signed(&rows.ids));
        let positions = upload.push(signed(&rows.positions));
        let read_positions = upload.push(signed(&rows.read_positions));
        let chosen = last.iter().flat_map(|span| {
            let first = span.keys.start + span.first;
            (first..first + span.queries.len()).map(|token| token as i32)
        });
        let chosen = upload.push(chosen);
        let (by_id, starts, tokens) = sorted(&rows.ids);
        let (unique, offsets, order) =
            (upload.push(by_id), upload.push(starts), upload.push(tokens));
        let pruned = whole != last;
        let whole = Layout::new(&whole, size, |values| upload.push(values));
        let last = Layout::new(&last, size, |values| upload.push(values));
        Ok(Self {
            values: Buffer::upload(gpu, &upload.0)?,
            ids,
            positions,
            read_positions,
            chosen,
            unique,
            offsets,
            order,
            whole,
            last,
            pruned,
        })
    }

    /// (N,).
    pub(super) fn ids(&self) -> View<'_, i32> {
        self.values.part(self.ids.clone())
    }

    /// Where in its row each token stands, (N,).
    pub(super) fn positions(&self) -> View<'_, i32> {
        self.values.part(self.positions.clone())
    }

    /// The same of the tokens that are read, (M,).
    pub(super) fn read_positions(&self) -> View<'_, i32> {
        self.values.part(self.read_positions.clone())
    }

    /// Which of the N tokens are read, (M,).
    pub(super) fn chosen(&self) -> View<'_, i32> {
        self.values.part(self.chosen.clone())
    }

    /// Tokens by id.
    pub(super) fn by_id(&self) -> ById<'_> {
        ById {
            unique: self.values.part(self.unique.clone()),
            offsets: self.values.part(self.offsets.clone()),
            order: self.values.part(self.order.clone()),
        }
    }

    /// Rows with all tokens asking, or those that are read.
    pub(super) fn spans(&self, last: bool) -> Spans<'_> {
        let layout = if last { &self.last } else { &self.whole };
        layout.on(self.values.view())
    }
}

/// Integers that are uploaded together.
#[derive(Default)]
struct Upload(Vec<i32>);

impl Upload {
    fn push(&mut self, values: impl IntoIterator<Item = i32>) -> Range<usize> {
        self.0.resize(self.0.len().next_multiple_of(ALIGN), 0);
        let start = self.0.len();
        self.0.extend(values);
        start..self.0.len()
    }
}

fn signed(values: &[u32]) -> impl Iterator<Item = i32> + '_ {
    values.iter().map(|&value| value as i32)
}

/// The rows of all chunks, counted from the batch's first token: with all tokens asking, and with those that are read.
fn spans(rows: &Rows) -> (Vec<Span>, Vec<Span>) {
    let moved = |range: &Range<usize>, by: usize| range.start + by..range.end + by;
    let (mut whole, mut last) = (Vec::new(), Vec::new());
    for chunk in &rows.chunks {
        let (token, read) = (chunk.tokens.start, chunk.read.start);
        whole.extend(chunk.whole.iter().map(|span| Span {
            keys: moved(&span.keys, token),
            queries: moved(&span.queries, token),
            first: span.first,
        }));
        last.extend(chunk.spans.iter().map(|span| Span {
            keys: moved(&span.keys, token),
            queries: moved(&span.queries, read),
            first: span.first,
        }));
    }
    (whole, last)
}

/// The distinct ids, where the tokens of each begin, and the tokens in that order.
fn sorted(ids: &[u32]) -> (Vec<i32>, Vec<i32>, Vec<i32>) {
    let mut order: Vec<i32> = (0..ids.len() as i32).collect();
    order.sort_by_key(|&token| ids[token as usize]);
    let (mut unique, mut offsets) = (Vec::new(), Vec::new());
    for (at, &token) in order.iter().enumerate() {
        let id = ids[token as usize] as i32;
        if unique.last() != Some(&id) {
            unique.push(id);
            offsets.push(at as i32);
        }
    }
    offsets.push(ids.len() as i32);
    (unique, offsets, order)
}
