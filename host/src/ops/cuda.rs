//! Launches of kernels that belong to no single operation: choosing and spreading rows, sums. Their formulas stand in
//! `cuda/rows.cu`.
//!
//! Every launcher checks the lengths of what it is given, so that a kernel cannot leave its buffers.

use crate::device::{Arg, Buffer, Gpu, Launch, Program, Real, View, ViewMut};
use crate::error::Result;

/// Blocks of `square_sum`: the number of partial sums, whatever the length, so that the order of a sum is fixed.
const SUMS: usize = 512;

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
        gpu.launch(Program::Common, "square_sum", Launch::new(SUMS, 256), &args)?;
    }
    sums.download()
}

/// How rows are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Move {
    /// to[i] ← from[rows[i]].
    Choose,
    /// to[rows[i]] ← from[i].
    Scatter,
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
        Move::Scatter => (from.len(), "scatter_rows"),
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
    gpu.launch(Program::Common, name, Launch::new(count, 128), &args)
}

/// out (columns) += the sum of the rows of `partial` (rows, columns), in their order.
///
/// # Errors
/// A launch that fails.
pub(crate) fn sum_rows(
    gpu: &Gpu,
    partial: View<'_, f32>,
    mut out: ViewMut<'_, f32>,
) -> Result<()> {
    let columns = out.len();
    let rows = partial.len() / columns;
    assert_eq!(partial.len(), rows * columns);
    let args = [
        partial.into(),
        (&mut out).into(),
        rows.into(),
        columns.into(),
    ];
    gpu.launch(Program::Common, "sum_rows", Launch::flat(columns), &args)
}
