//! The same on a GPU.

use crate::device::{Arg, Gpu, Launch, Program, Real, View, ViewMut};
use crate::error::Result;

/// Threads for `count` elements, a pack of 16 bytes each.
fn launch(gpu: &Gpu, count: usize) -> Launch {
    Launch::flat(count.div_ceil(16 / gpu.dtype().size()))
}

/// out = base + scale · x.
///
/// # Errors
/// A launch that fails.
pub(crate) fn add_scaled(
    gpu: &Gpu,
    base: View<'_, Real>,
    x: View<'_, Real>,
    scale: f64,
    out: ViewMut<'_, Real>,
) -> Result<()> {
    assert_eq!(base.len(), out.len());
    sum(gpu, base.into(), x, scale, out)
}

/// out += scale · x.
///
/// # Errors
/// A launch that fails.
pub(crate) fn accumulate(
    gpu: &Gpu,
    x: View<'_, Real>,
    scale: f64,
    mut out: ViewMut<'_, Real>,
) -> Result<()> {
    let base = Arg::from(&mut out);
    sum(gpu, base, x, scale, out)
}

fn sum(
    gpu: &Gpu,
    base: Arg,
    x: View<'_, Real>,
    scale: f64,
    mut out: ViewMut<'_, Real>,
) -> Result<()> {
    let count = x.len();
    assert_eq!(out.len(), count);
    let args = [
        base,
        x.into(),
        (scale as f32).into(),
        (&mut out).into(),
        Arg::Long(count as i64),
    ];
    gpu.launch(Program::Common, "add_scaled", launch(gpu, count), &args)
}

/// x ← factor · x.
///
/// # Errors
/// A launch that fails.
pub(crate) fn scale(gpu: &Gpu, mut x: ViewMut<'_, Real>, factor: f64) -> Result<()> {
    let count = x.len();
    let args = [
        (&mut x).into(),
        (factor as f32).into(),
        Arg::Long(count as i64),
    ];
    gpu.launch(Program::Common, "scale", launch(gpu, count), &args)
}

/// logits ← c · tanh(logits / c) with c = `bound`.
///
/// # Errors
/// A launch that fails.
pub(crate) fn cap(gpu: &Gpu, mut logits: ViewMut<'_, f32>, bound: f64) -> Result<()> {
    let count = logits.len();
    let args = [
        (&mut logits).into(),
        (bound as f32).into(),
        Arg::Long(count as i64),
    ];
    gpu.launch(Program::Common, "cap", Launch::flat(count), &args)
}

/// d ← d · (1 − (y / c)²), y = `capped` and c = `bound`.
///
/// # Errors
/// A launch that fails.
pub(crate) fn cap_backward(
    gpu: &Gpu,
    capped: View<'_, f32>,
    bound: f64,
    mut d: ViewMut<'_, Real>,
) -> Result<()> {
    let count = capped.len();
    assert_eq!(d.len(), count);
    let args = [
        capped.into(),
        (bound as f32).into(),
        (&mut d).into(),
        Arg::Long(count as i64),
    ];
    gpu.launch(Program::Common, "cap_backward", Launch::flat(count), &args)
}
