//! The norm on a GPU.

use std::sync::Arc;

use crate::device::{Arg, Buffer, Gpu, Launch, Program, Real, View, ViewMut};
use crate::error::Result;
use crate::ops::cuda::{sum_rows, threads_for};

/// Blocks of the backward pass at most, each of which sums the weight's gradient over its rows.
const SUMS: usize = 1024;

/// x (n, C) → out (n, C).
///
/// # Errors
/// A launch that fails.
pub(crate) fn forward(
    gpu: &Gpu,
    x: View<'_, Real>,
    weight: View<'_, Real>,
    eps: f64,
    mut out: ViewMut<'_, Real>,
) -> Result<()> {
    let (rows, channels) = (x.len() / weight.len(), weight.len());
    assert_eq!((x.len(), out.len()), (rows * channels, x.len()));
    let args = [
        x.into(),
        weight.into(),
        (&mut out).into(),
        channels.into(),
        (eps as f32).into(),
    ];
    let launch = Launch::new(rows, threads_for(gpu, channels));
    gpu.launch(Program::Common, "rms_norm_forward", launch, &args)
}

/// Adds the gradient of x to `dx` (n, C), and that of the weight to `d_weight` (C,) where it is wanted; `grad` (n, C) is that of
/// the result.
///
/// # Errors
/// A launch that fails.
pub(crate) fn backward(
    gpu: &Arc<Gpu>,
    (x, weight): (View<'_, Real>, View<'_, Real>),
    eps: f64,
    grad: View<'_, Real>,
    mut dx: ViewMut<'_, Real>,
    d_weight: Option<ViewMut<'_, f32>>,
) -> Result<()> {
    let (rows, channels) = (x.len() / weight.len(), weight.len());
    assert_eq!((x.len(), grad.len()), (rows * channels, x.len()));
    assert_eq!(dx.len(), x.len());
    let blocks = rows.min(SUMS);
    let mut partial = match d_weight {
        Some(_) => Some(Buffer::<f32>::new(gpu, blocks * channels)?),
        None => None,
    };
    let args = [
        x.into(),
        weight.into(),
        grad.into(),
        (&mut dx).into(),
        match &mut partial {
            Some(partial) => Arg::from(&mut partial.view_mut()),
            None => Arg::Pointer(0),
        },
        rows.into(),
        channels.into(),
        (eps as f32).into(),
    ];
    let sums = partial.as_ref().map_or(0, |_| channels * size_of::<f32>());
    let launch = Launch::new(blocks, threads_for(gpu, channels)).shared(sums);
    gpu.launch(Program::Common, "rms_norm_backward", launch, &args)?;
    match (partial, d_weight) {
        (Some(partial), Some(d_weight)) if rows > 0 => sum_rows(gpu, partial.view(), d_weight),
        _ => Ok(()),
    }
}
