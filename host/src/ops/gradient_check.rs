//! What the tests of all operations ask: do the gradients agree with differences, does the fused operation agree with its
//! reference, are the bits the same again.

use candle_core::{DType, Device, Tensor, Var};

use crate::error::Result;

/// A tensor of sin(1.7 i + phase): no symmetry, no zeros, and easy to write down in Python.
pub(super) fn wave(shape: &[usize], phase: f64) -> Tensor {
    let count: usize = shape.iter().product();
    let values: Vec<f64> = (0..count).map(|i| (1.7 * i as f64 + phase).sin()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).expect("invariant: as many values as the shape")
}

/// All elements in f64.
pub(super) fn elements(tensor: &Tensor) -> Vec<f64> {
    let flat = tensor.flatten_all().and_then(|t| t.to_dtype(DType::F64));
    flat.and_then(|t| t.to_vec1())
        .expect("invariant: a float tensor on the CPU")
}

/// A function of tensors that returns one tensor.
pub(super) trait Function: Fn(&[Tensor]) -> Result<Tensor> {}
impl<F: Fn(&[Tensor]) -> Result<Tensor>> Function for F {}

/// The result's sum weighted by a wave, so that every element of the gradient differs.
fn weighted(function: &impl Function, inputs: &[Tensor]) -> Result<Tensor> {
    let out = function(inputs)?;
    let weights = wave(out.dims(), 0.3).to_dtype(out.dtype())?;
    Ok((out * weights)?.sum_all()?)
}

/// The result and the gradients by all inputs, in the element type `dtype`; `graph` says whether gradients may hold on to
/// the graph they come from.
fn run(
    function: &impl Function,
    inputs: &[Tensor],
    dtype: DType,
    graph: bool,
) -> Result<Vec<Vec<f64>>> {
    let vars: Vec<Var> = inputs
        .iter()
        .map(|input| Ok(Var::from_tensor(&input.to_dtype(dtype)?)?))
        .collect::<Result<_>>()?;
    let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let mut results = vec![elements(&function(&tensors)?)];
    let grads = weighted(function, &tensors)?.backward()?;
    for (index, tensor) in tensors.iter().enumerate() {
        let Some(grad) = grads.get(tensor) else {
            panic!("input {index} has no gradient");
        };
        // Plain compositions do: candle multiplies a gradient by a tracked operand.
        let holds = grad.track_op();
        assert!(graph || !holds, "gradient {index} holds on to a graph");
        results.push(elements(grad));
    }
    Ok(results)
}

/// Asserts that the gradients of a function in f64 agree with central differences to 1e-6 of their size.
pub(super) fn assert_gradients(function: impl Function, inputs: &[Tensor]) -> Result<()> {
    const STEP: f64 = 1e-5;
    let results = run(&function, inputs, DType::F64, false)?;
    for (index, input) in inputs.iter().enumerate() {
        let values = elements(input);
        for at in 0..values.len() {
            let moved = |step: f64| -> Result<f64> {
                let mut values = values.clone();
                values[at] += step;
                let mut inputs = inputs.to_vec();
                inputs[index] = Tensor::from_vec(values, input.shape(), &Device::Cpu)?;
                Ok(weighted(&function, &inputs)?.to_scalar::<f64>()?)
            };
            let expected = (moved(STEP)? - moved(-STEP)?) / (2.0 * STEP);
            let found = results[1 + index][at];
            // Below a hundredth the rounding of the difference itself is a millionth.
            let tolerance = 1e-6 * found.abs().max(expected.abs()).max(1e-2);
            assert!(
                (found - expected).abs() <= tolerance,
                "input {index}, element {at}: gradient {found}, difference {expected}"
            );
        }
    }
    Ok(())
}

/// Asserts that in f32 a fused function and its reference agree, results and gradients, to 1e-5 of the largest element,
/// and that the fused one gives the same bits twice.
pub(super) fn assert_agrees(
    fused: impl Function,
    reference: impl Function,
    inputs: &[Tensor],
) -> Result<()> {
    let found = run(&fused, inputs, DType::F32, false)?;
    let expected = run(&reference, inputs, DType::F32, true)?;
    assert_eq!(
        found,
        run(&fused, inputs, DType::F32, false)?,
        "bits differ"
    );
    for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert_eq!(found.len(), expected.len());
        let largest = expected.iter().fold(1.0, |most: f64, x| most.max(x.abs()));
        for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
            assert!(
                (found - expected).abs() <= 1e-5 * largest,
                "part {index}, element {at}: fused {found}, reference {expected}"
            );
        }
    }
    Ok(())
}

/// Asserts elements to an absolute tolerance.
pub(super) fn assert_close(tensor: &Tensor, expected: &[f64], tolerance: f64) {
    let found = elements(tensor);
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= tolerance, "{found}, {expected}");
    }
}
