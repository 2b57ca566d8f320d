//! Biases on a GPU.

use std::sync::Arc;

use crate::device::{Buffer, Gpu, Launch, Program, Real, View, ViewMut};
use crate::error::Result;
use crate::ops::cuda::{THREADS, sum_rows, threads_for};

/// Rows that a block sums at least, and parts of the rows at most.
const ROWS: usize = 64;
const PARTS: usize = 256;

/// Adds `bias` (O,) to every row of x (n, O), in place.
///
/// # Errors
/// A launch that fails.
pub(crate) fn add(gpu: &Gpu, mut x: ViewMut<'_, Real>, bias: View<'_, Real>) -> Result<()> {
    let outputs = bias.len();
    let rows = x.len() / outputs;
    assert_eq!(x.len(), rows * outputs);
    let args = [(&mut x).into(), bias.into(), rows.into(), outputs.into()];
    let launch = Launch::new(rows, threads_for(gpu, outputs));
    gpu.launch(Program::Common, "bias_add", launch, &args)
}

/// Adds the sum of the rows of `grad` (n, O) to `into` (O,): parts of the rows, each in its order, then the parts in theirs.
///
/// # Errors
/// A launch that fails; no memory.
pub(crate) fn sums(gpu: &Arc<Gpu>, grad: View<'_, Real>, into: ViewMut<'_, f32>) -> Result<()> {
    let outputs = into.len();
    let rows = grad.len() / outputs;
    assert_eq!(grad.len(), rows * outputs);
    if rows == 0 {
        return Ok(());
    }
    let parts = rows.div_ceil(ROWS).min(PARTS);
    let mut partial = Buffer::<f32>::new(gpu, parts * outputs)?;
    let args = [
        grad.into(),
        (&mut partial.view_mut()).into(),
        rows.into(),
        outputs.into(),
    ];
    // A lane has one output or a pack of them; blocks that find none left return at once.
    let launch = Launch::new(outputs.div_ceil(32), THREADS).by(parts);
    gpu.launch(Program::Common, "bias_sums", launch, &args)?;
    sum_rows(gpu, partial.view(), into)
}
