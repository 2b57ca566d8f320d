//! The activations on a GPU.

use super::Activation;
use crate::device::{Gpu, Launch, Program, Real, View, ViewMut};
use crate::error::Result;
use crate::ops::cuda::threads_for;

/// `gate_up` (n, 2·F) → out (n, F).
///
/// # Errors
/// A launch that fails.
pub(crate) fn forward(
    gpu: &Gpu,
    activation: Activation,
    gate_up: View<'_, Real>,
    f: usize,
    mut out: ViewMut<'_, Real>,
) -> Result<()> {
    let rows = out.len() / f;
    assert_eq!((gate_up.len(), out.len()), (rows * 2 * f, rows * f));
    let args = [gate_up.into(), (&mut out).into(), rows.into(), f.into()];
    let launch = Launch::new(rows, threads_for(gpu, f));
    let kernel = match activation {
        Activation::Silu => "swiglu_forward",
        Activation::GeluTanh => "geglu_forward",
    };
    gpu.launch(Program::Common, kernel, launch, &args)
}

/// `gate_up` (n, 2·F) becomes its own gradient; `activated` (n, F) holds the gradient of the result and becomes the result.
///
/// # Errors
/// A launch that fails.
pub(crate) fn backward(
    gpu: &Gpu,
    activation: Activation,
    mut gate_up: ViewMut<'_, Real>,
    f: usize,
    mut activated: ViewMut<'_, Real>,
) -> Result<()> {
    let rows = activated.len() / f;
    assert_eq!((gate_up.len(), activated.len()), (rows * 2 * f, rows * f));
    let launch = Launch::new(rows, threads_for(gpu, f));
    let args = [
        (&mut gate_up).into(),
        (&mut activated).into(),
        rows.into(),
        f.into(),
    ];
    let kernel = match activation {
        Activation::Silu => "swiglu_backward",
        Activation::GeluTanh => "geglu_backward",
    };
    gpu.launch(Program::Common, kernel, launch, &args)
}
