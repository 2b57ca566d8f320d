//! Launches of kernels that belong to no single operation: choosing and spreading rows, sums. Their formulas stand in
//! `cuda/rows.cu`.
//!
//! Every launcher checks the lengths of what it is given; what indices are in it is checked where it is made.

use crate::device::{Arg, Buffer, Gpu, Launch, Program, Real, View, ViewMut};
use crate::error::Result;

/// Blocks of `square_sum`: the number of partial sums, whatever the length, so that the order of a sum is fixed.
const SUMS: usize = 512;

/// Threads of a block, and its warps, where a warp has a row.
pub(crate) const THREADS: u32 = 256;
pub(crate) const WARPS: usize = 8;

/// Threads of a block that goes through `width` elements together: a multiple of 32 near a pack of 16 bytes each, and at most
/// 256; more elements are taken in equal turns.
pub(crate) fn threads_for(gpu: &Gpu, width: usize) -> u32 {
    let packs = width.div_ceil(16 / gpu.dtype().size());
    let turns = packs.div_ceil(THREADS as usize).max(1);
    let threads = packs.div_ceil(turns).next_multiple_of(32);
    (threads as u32).clamp(32, THREADS)
}

/// Sums of squares of parts; their sum, in this order, is the squared norm.
///
/// # Errors
/// Work on the device that failed.
pub(crate) fn square_sums(values: &Buffer<f32>) -> Result<Vec<f64>> {
    let gpu = values.gpu();
    let mut sums = gpu.zeros::<f64>(SUMS)?;
    if !values.is_empty() {
        let args = [
            values.view().into(),
            (&mut sums.view_mut()).into(),
            Arg::Long(values.len() as i64),
        ];
        gpu.launch(
            Program::Common,
            "square_sum",
            Launch::new(SUMS, THREADS),
            &args,
        )?;
    }
    sums.download()
}

/// How rows are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Move {
    /// to[i] ← from[rows[i]].
    Choose,
    /// to[rows[i]] ← to[rows[i]] + from[i]; the rows differ.
    ScatterAdd,
}

/// Moves rows of `width` elements; `rows` lie inside the longer side, which whoever made them sees to.
///
/// # Errors
/// A launch that fails.
pub(crate) fn move_rows(
    gpu: &Gpu,
    how: Move,
    from: View<'_, Real>,
    rows: View<'_, i32>,
    mut to: ViewMut<'_, Real>,
    width: usize,
) -> Result<()> {
    let count = rows.len();
    let (short, name) = match how {
        Move::Choose => (to.len(), "choose_rows"),
        Move::ScatterAdd => (from.len(), "scatter_add_rows"),
    };
    assert_eq!(short, count * width);
    let args = [
        from.into(),
        rows.into(),
        (&mut to).into(),
        count.into(),
        width.into(),
    ];
    let launch = Launch::new(count.div_ceil(WARPS), THREADS);
    gpu.launch(Program::Common, name, launch, &args)
}

/// out (columns) += the sum of the rows of `partial` (rows, columns), in their order.
///
/// # Errors
/// A launch that fails.
pub(crate) fn sum_rows(gpu: &Gpu, partial: View<'_, f32>, mut out: ViewMut<'_, f32>) -> Result<()> {
    let columns = out.len();
    let rows = partial.len() / columns;
    assert_eq!(partial.len(), rows * columns);
    let args = [
        partial.into(),
        (&mut out).into(),
        rows.into(),
        columns.into(),
    ];
    // Few blocks, and many rows for each.
    let launch = Launch::new(columns.div_ceil(32), 1024);
    gpu.launch(Program::Common, "sum_rows", launch, &args)
}
