//! The same step on a GPU.

use std::ops::Range;

use super::Update;
use crate::device::{Arg, Gpu, Launch, Program, ViewMut};
use crate::error::Result;
use crate::model::TrainedMut;

/// Updates the values of `run` among those of a set; its moments are given, its gradients are set to zero.
pub(super) fn step(
    gpu: &Gpu,
    p: &mut TrainedMut<'_>,
    g: &mut ViewMut<'_, f32>,
    (mut m, mut v): (ViewMut<'_, f32>, ViewMut<'_, f32>),
    run: Range<usize>,
    update: &Update,
) -> Result<()> {
    let count = run.len();
    let mut master = p.master.again().into_part(run.clone());
    let mut g = g.again().into_part(run.clone());
    let mut copy = p.copy.as_mut().map(|copy| copy.again().into_part(run));
    assert_eq!((m.len(), v.len()), (count, count));
    let copy = copy.as_mut().map_or(Arg::Pointer(0), Arg::from);
    gpu.launch(
        Program::Common,
        "adamw_step",
        Launch::flat(count),
        &[
            (&mut master).into(),
            copy,
            (&mut g).into(),
            (&mut m).into(),
            (&mut v).into(),
            Arg::Long(count as i64),
            update.keep.into(),
            update.beta1.into(),
            update.beta2.into(),
            update.rest1.into(),
            update.rest2.into(),
            update.eps.into(),
            update.step_size.into(),
            update.root_correction.into(),
            update.scale.into(),
        ],
    )
}
