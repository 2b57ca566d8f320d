//! The table on a GPU.

use crate::device::{Gpu, Launch, Program, Real, View, ViewMut};
use crate::error::Result;
use crate::ops::cuda::{THREADS, WARPS};

/// Rows of `table` (V, C) at `ids` (n,) → out (n, C). The ids lie inside the table, which whoever made them sees to.
///
/// # Errors
/// A launch that fails.
pub(crate) fn forward(
    gpu: &Gpu,
    table: View<'_, Real>,
    ids: View<'_, i32>,
    mut out: ViewMut<'_, Real>,
    channels: usize,
) -> Result<()> {
    let rows = ids.len();
    assert_eq!(out.len(), rows * channels);
    assert_eq!(table.len() % channels, 0);
    let args = [
        table.into(),
        ids.into(),
        (&mut out).into(),
        rows.into(),
        channels.into(),
    ];
    let launch = Launch::new(rows.div_ceil(WARPS), THREADS);
    gpu.launch(Program::Common, "embedding_forward", launch, &args)
}

/// The tokens of a batch by id, so that each row of the table's gradient has one writer and a fixed order of sums.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ById<'a> {
    /// The distinct ids, (u,).
    pub(crate) unique: View<'a, i32>,
    /// Where the tokens of each begin in `order`, (u + 1,).
    pub(crate) offsets: View<'a, i32>,
    /// Tokens, (n,).
    pub(crate) order: View<'a, i32>,
}

/// Adds the rows of `grad` (n, C) to the table's gradient, (V, C), f32.
///
/// # Errors
/// A launch that fails.
pub(crate) fn backward(
    gpu: &Gpu,
    grad: View<'_, Real>,
    ids: ById<'_>,
    mut d_table: ViewMut<'_, f32>,
    channels: usize,
) -> Result<()> {
    let count = ids.unique.len();
    assert_eq!(ids.offsets.len(), count + 1);
    assert_eq!(grad.len(), ids.order.len() * channels);
    let args = [
        grad.into(),
        ids.unique.into(),
        ids.offsets.into(),
        ids.order.into(),
        (&mut d_table).into(),
        count.into(),
        channels.into(),
    ];
    let launch = Launch::new(count, THREADS);
    gpu.launch(Program::Common, "embedding_backward", launch, &args)
}
