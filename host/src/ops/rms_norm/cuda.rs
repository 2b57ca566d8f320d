//! The norm on a GPU.

use std::sync::Arc;

use super::{Norm, Rows};
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
    norm: Norm,
    out: ViewMut<'_, Real>,
) -> Result<()> {
    let rows = Rows {
        stride: weight.len(),
        width: weight.len(),
    };
    forward_strided(gpu, x, weight, norm, rows, out)
}

/// The channels of x (n, stride) that `rows` names → those of out (n, stride), whose others stay.
///
/// # Errors
/// A launch that fails.
pub(crate) fn forward_strided(
    gpu: &Gpu,
    x: View<'_, Real>,
    weight: View<'_, Real>,
    norm: Norm,
    rows: Rows,
    mut out: ViewMut<'_, Real>,
) -> Result<()> {
    let channels = weight.len();
    let (tokens, groups) = cut(x.len(), channels, rows);
    assert_eq!(out.len(), x.len());
    let args = [
        x.into(),
        weight.into(),
        (&mut out).into(),
        channels.into(),
        groups.into(),
        rows.stride.into(),
        (norm.eps as f32).into(),
        (norm.offset as f32).into(),
    ];
    let launch = Launch::new(tokens * groups, threads_for(gpu, channels));
    gpu.launch(Program::Common, "rms_norm_forward", launch, &args)
}

/// Tokens, and groups of a token.
fn cut(len: usize, channels: usize, rows: Rows) -> (usize, usize) {
    let (tokens, groups) = (len / rows.stride, rows.width / channels);
    assert_eq!((len, rows.width), (tokens * rows.stride, groups * channels));
    assert!(rows.width <= rows.stride);
    (tokens, groups)
}

/// Adds the gradient of x to `dx` (n, C), and that of the weight to `d_weight` (C,) where it is wanted; `grad` (n, C) is that of
/// the result.
///
/// # Errors
/// A launch that fails.
pub(crate) fn backward(
    gpu: &Arc<Gpu>,
    (x, weight): (View<'_, Real>, View<'_, Real>),
    norm: Norm,
    grad: View<'_, Real>,
    mut dx: ViewMut<'_, Real>,
    d_weight: Option<ViewMut<'_, f32>>,
) -> Result<()> {
    let (rows, channels) = (x.len() / weight.len(), weight.len());
    assert_eq!((x.len(), grad.len()), (rows * channels, x.len()));
    assert_eq!(dx.len(), x.len());
    summed(gpu, (rows, channels), d_weight, |launch, partial| {
        let args = [
            x.into(),
            weight.into(),
            grad.into(),
            (&mut dx).into(),
            partial,
            rows.into(),
            channels.into(),
            (norm.eps as f32).into(),
            (norm.offset as f32).into(),
        ];
        gpu.launch(Program::Common, "rms_norm_backward", launch, &args)
    })
}

/// In place: the channels of `grad` (n, stride) that `rows` names hold the gradient of the result and become that of x, the
/// others stay; adds that of the weight to `d_weight` (C,) where it is wanted.
///
/// # Errors
/// A launch that fails.
pub(crate) fn backward_strided(
    gpu: &Arc<Gpu>,
    (x, weight): (View<'_, Real>, View<'_, Real>),
    norm: Norm,
    rows: Rows,
    mut grad: ViewMut<'_, Real>,
    d_weight: Option<ViewMut<'_, f32>>,
) -> Result<()> {
    let channels = weight.len();
    let (tokens, groups) = cut(x.len(), channels, rows);
    assert_eq!(grad.len(), x.len());
    summed(
        gpu,
        (tokens * groups, channels),
        d_weight,
        |launch, partial| {
            let args = [
                x.into(),
                weight.into(),
                (&mut grad).into(),
                partial,
                (tokens * groups).into(),
                channels.into(),
                groups.into(),
                rows.stride.into(),
                (norm.eps as f32).into(),
                (norm.offset as f32).into(),
            ];
            gpu.launch(Program::Common, "rms_norm_backward_in_place", launch, &args)
        },
    )
}

/// A backward pass over `rows` of `channels`, which is told where its blocks' sums of the weight's gradient go, if anywhere;
/// they are added to `d_weight` after it.
fn summed(
    gpu: &Arc<Gpu>,
    (rows, channels): (usize, usize),
    d_weight: Option<ViewMut<'_, f32>>,
    pass: impl FnOnce(Launch, Arg) -> Result<()>,
) -> Result<()> {
    let blocks = rows.min(SUMS);
    let launch = Launch::new(blocks, threads_for(gpu, channels));
    let Some(d_weight) = d_weight else {
        return pass(launch, Arg::Pointer(0));
    };
    let mut partial = Buffer::<f32>::new(gpu, blocks * channels)?;
    let to = Arg::from(&mut partial.view_mut());
    pass(launch.shared(channels * size_of::<f32>()), to)?;
    if rows > 0 {
        sum_rows(gpu, partial.view(), d_weight)?;
    }
    Ok(())
}
