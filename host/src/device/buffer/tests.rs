//! Buffers, their parts, and what a device refuses.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::device::{Launch, Program, testing};
use crate::ops::gradient_check::{rounded, wave, with_gpus};

#[test]
fn parts_are_places_in_the_whole() -> Result<()> {
    with_gpus(|gpu| {
        let values = rounded(gpu, &wave(10, 0.1));
        let mut buffer = Buffer::upload_real(gpu, &values)?;
        assert_eq!(
            buffer.part(3..7).part(1..3).download_real(gpu)?,
            values[4..6]
        );
        assert!(buffer.part(10..10).download_real(gpu)?.is_empty());
        let copy = buffer.duplicate()?;
        let mut rest = buffer.view_mut();
        let mut first = rest.split_off(4);
        first.clear(gpu)?;
        rest.into_part(1..3).copy_from(gpu, copy.part(0..2))?;
        let mut expected = values.clone();
        expected[..4].fill(0.0);
        expected[5..7].copy_from_slice(&values[..2]);
        assert_eq!(buffer.download_real()?, expected);
        assert_eq!(copy.download_real()?, values);
        Ok(())
    })
}

#[test]
fn a_part_that_is_not_inside_is_refused() -> Result<()> {
    let Some(gpu) = testing::gpu(Dtype::F32) else {
        return Ok(());
    };
    let mut buffer = gpu.zeros::<f32>(10)?;
    let mut panics = |part: &dyn Fn(&mut Buffer<f32>) -> usize| {
        catch_unwind(AssertUnwindSafe(|| part(&mut buffer))).is_err()
    };
    assert!(panics(&|b| b.part(0..11).len()));
    assert!(panics(&|b| b.part_mut(11..11).len()));
    assert!(panics(&|b| b.part(2..6).part(0..5).len()));
    assert!(panics(&|b| b.view_mut().split_off(11).len()));
    assert!(panics(&|b| b
        .view_mut()
        .fill(&gpu, &[0.0; 9])
        .map_or(1, |()| 0)));
    assert!(!panics(&|b| b.part(0..10).len()));
    Ok(())
}

#[test]
fn a_launch_that_the_driver_refuses_names_the_kernel() {
    let Some(gpu) = testing::gpu(Dtype::F32) else {
        return;
    };
    let launch = Launch::new(1, 2048);
    let args = [crate::device::Arg::Pointer(0); 4];
    let error = gpu.launch(Program::Common, "swiglu_forward", launch, &args);
    let error = error.expect_err("2048 threads");
    assert!(error.to_string().contains("swiglu_forward"), "{error}");
    assert_eq!(error.exit_code(), 3);
}

#[test]
fn too_much_memory_is_wrong_input_with_a_hint_and_leaves_the_device_usable() -> Result<()> {
    let Some(gpu) = testing::gpu(Dtype::F32) else {
        return Ok(());
    };
    let count = (gpu.facts().memory + (1 << 30)) / size_of::<f32>();
    let error = Buffer::<f32>::new(&gpu, count).expect_err("more than there is");
    assert_eq!(error.exit_code(), 2);
    let text = format!("{error} {error:?}");
    assert!(
        text.contains("out of memory") && text.contains("finegrain plan"),
        "{text}"
    );
    assert_eq!(gpu.zeros::<f32>(3)?.download()?, [0.0; 3]);
    Ok(())
}
