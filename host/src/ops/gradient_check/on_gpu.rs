//! An operation on a GPU against the same on the processor in f64.

use std::sync::Arc;

use half::bf16;

use super::{Operation, wave};
use crate::device::{Buffer, Dtype, Gpu, testing};
use crate::error::Result;

/// What a GPU may be off by, of the largest element of a tensor. bf16 rounds by up to 2⁻⁹ at every result, and here and
/// there between.
fn tolerance(dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F32 => 1e-4,
        Dtype::Bf16 => 2e-2,
    }
}

/// Runs a test on the GPU in each of its dtypes; nothing where there is none.
pub(crate) fn with_gpus(mut test: impl FnMut(&Arc<Gpu>) -> Result<()>) -> Result<()> {
    for dtype in [Dtype::F32, Dtype::Bf16] {
        match testing::gpu(dtype) {
            Some(gpu) => test(&gpu)?,
            None => return Ok(()),
        }
    }
    Ok(())
}

/// Values that the GPU's dtype has, so that rounding operands is not counted.
pub(crate) fn rounded(gpu: &Gpu, values: &[f64]) -> Vec<f32> {
    let values = values.iter().map(|&x| x as f32);
    match gpu.dtype() {
        Dtype::F32 => values.collect(),
        Dtype::Bf16 => values.map(|x| bf16::from_f32(x).to_f32()).collect(),
    }
}

pub(crate) fn doubles(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&x| f64::from(x)).collect()
}

/// Asserts that the result, and the gradients by all inputs of its sum weighted by a wave, are the processor's in f64 from
/// operands rounded to the GPU's dtype: to 1e-4 of the largest element of each in f32, and 2e-2 in bf16.
pub(super) fn assert_on_gpu(
    gpu: &Arc<Gpu>,
    operation: &impl Operation,
    inputs: &[Vec<f64>],
) -> Result<()> {
    let single: Vec<Vec<f32>> = inputs.iter().map(|input| rounded(gpu, input)).collect();
    let inputs: Vec<Vec<f64>> = single.iter().map(|input| doubles(input)).collect();
    let result = operation.forward(&inputs);
    let grad = rounded(gpu, &wave(result.len(), 0.3));
    let mut expected = vec![result];
    expected.extend(operation.backward(&inputs, &doubles(&grad)));

    let operands = single.iter().map(|input| Buffer::upload_real(gpu, input));
    let operands = operands.collect::<Result<Vec<_>>>()?;
    let run = || -> Result<Vec<Vec<f32>>> {
        let mut found = vec![operation.forward_on(gpu, &operands)?];
        found.extend(operation.backward_on(gpu, &operands, &grad)?);
        Ok(found)
    };
    let found = run()?;
    assert!(found == run()?, "bits differ");
    assert_eq!(found.len(), expected.len());
    for (part, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let kind = std::any::type_name_of_val(operation);
        assert_near(
            &format!("{kind}, part {part}"),
            gpu.dtype(),
            found,
            expected,
        );
    }
    Ok(())
}

/// Asserts elements to the dtype's tolerance, of the largest that is expected; or of 1, where nothing but zeros are.
#[expect(
    clippy::print_stdout,
    reason = "`--nocapture` says how far off each tensor is"
)]
pub(crate) fn assert_near(what: &str, dtype: Dtype, found: &[f32], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
    let largest = if largest < 1e-6 { 1.0 } else { largest };
    let mut worst = 0.0;
    for (at, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let off = (f64::from(found) - expected).abs() / largest;
        assert!(
            off <= tolerance(dtype),
            "{what}, {dtype:?}, element {at}: {found}, processor {expected}, largest {largest}"
        );
        worst = f64::max(worst, off);
    }
    println!(
        "{what}, {dtype:?}: {} elements, off by at most {worst:.1e}",
        found.len()
    );
}
