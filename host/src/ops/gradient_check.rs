//! What the tests of all operations ask: do the gradients agree with differences, does the operation agree with its
//! reference and candle's own backward pass of it, are the bits the same again; and does a GPU say the same.

#[cfg(feature = "cuda")]
pub(crate) use on_gpu::{assert_near, doubles, rounded, with_gpus};

#[cfg(feature = "cuda")]
use std::sync::Arc;

use candle_core::{DType, Device as CandleDevice, Tensor, Var};

use super::element::Element;
use crate::device::Device;
#[cfg(feature = "cuda")]
use crate::device::{Buffer, Gpu, Real};
use crate::error::Result;

#[cfg(feature = "cuda")]
mod on_gpu;

/// Operands of more elements are compared with the reference alone: a difference costs a forward pass an element.
const DIFFERENCES: usize = 400;

/// `count` values of sin(1.7 i + phase): no symmetry, no zeros, and easy to write down in Python.
pub(crate) fn wave(count: usize, phase: f64) -> Vec<f64> {
    (0..count).map(|i| (1.7 * i as f64 + phase).sin()).collect()
}

/// An operation on flat operands.
pub(super) trait Operation {
    /// The result.
    fn forward<T: Element>(&self, inputs: &[Vec<T>]) -> Vec<T>;
    /// The gradients by all inputs from that by the result.
    fn backward<T: Element>(&self, inputs: &[Vec<T>], grad: &[T]) -> Vec<Vec<T>>;
    /// The result by tensor operations on flat tensors.
    fn reference(&self, inputs: &[Tensor]) -> Result<Tensor>;
    /// The result on a GPU.
    #[cfg(feature = "cuda")]
    fn forward_on(&self, gpu: &Arc<Gpu>, inputs: &[Buffer<Real>]) -> Result<Vec<f32>>;
    /// The gradients by all inputs on a GPU, from that by the result in numbers that the GPU's dtype has.
    #[cfg(feature = "cuda")]
    fn backward_on(
        &self,
        gpu: &Arc<Gpu>,
        inputs: &[Buffer<Real>],
        grad: &[f32],
    ) -> Result<Vec<Vec<f32>>>;
}

/// Two tests of one body, which gets the device: the processor, and a GPU in each of its dtypes.
macro_rules! test_device {
    ($body:ident, $cpu:ident, $cuda:ident) => {
        #[test]
        fn $cpu() -> $crate::error::Result<()> {
            $body(&$crate::device::Device::Cpu)
        }

        #[cfg(feature = "cuda")]
        #[test]
        fn $cuda() -> $crate::error::Result<()> {
            $crate::ops::gradient_check::with_gpus(|gpu| {
                $body(&$crate::device::Device::Cuda(gpu.clone()))
            })
        }
    };
}
pub(crate) use test_device;

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn to<T: Element>(values: &[f64]) -> Vec<T> {
    values.iter().map(|&x| T::from_f64(x)).collect()
}

/// On the processor, asserts that the gradients of the sum of the result weighted by a wave agree in f64 with central
/// differences to 1e-6 of their size, and that in f32 results and gradients agree with the reference's to 1e-5 of the largest
/// element. On a GPU, asserts that results and gradients are the processor's in f64 (`on_gpu.rs`).
pub(super) fn assert_gradients(
    device: &Device,
    operation: &impl Operation,
    inputs: &[Vec<f64>],
) -> Result<()> {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(gpu) = device {
        return on_gpu::assert_on_gpu(gpu, operation, inputs);
    }
    assert!(!device.is_cuda());
    if inputs.iter().map(Vec::len).sum::<usize>() <= DIFFERENCES {
        against_differences(operation, inputs);
    }
    against_reference(operation, inputs)
}

fn against_differences(operation: &impl Operation, inputs: &[Vec<f64>]) {
    const STEP: f64 = 1e-5;
    let weights = wave(operation.forward(inputs).len(), 0.3);
    let gradients = operation.backward(inputs, &weights);
    assert_eq!(gradients.len(), inputs.len());
    for (index, input) in inputs.iter().enumerate() {
        for at in 0..input.len() {
            let moved = |step: f64| {
                let mut inputs = inputs.to_vec();
                inputs[index][at] += step;
                dot(&operation.forward(&inputs), &weights)
            };
            let expected = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
            let found = gradients[index][at];
            // Below a hundredth the rounding of the difference itself is a millionth.
            let tolerance = 1e-6 * found.abs().max(expected.abs()).max(1e-2);
            assert!(
                (found - expected).abs() <= tolerance,
                "input {index}, element {at}: gradient {found}, difference {expected}"
            );
        }
    }
}

fn against_reference(operation: &impl Operation, inputs: &[Vec<f64>]) -> Result<()> {
    let singles: Vec<Vec<f32>> = inputs.iter().map(|input| to(input)).collect();
    let run = || {
        let result = operation.forward(&singles);
        let gradients = operation.backward(&singles, &to(&wave(result.len(), 0.3)));
        let mut all = vec![result];
        all.extend(gradients);
        all
    };
    let found = run();
    assert_eq!(found, run(), "bits differ");

    let vars = singles
        .iter()
        .map(|input| Ok(Var::from_slice(input, input.len(), &CandleDevice::Cpu)?))
        .collect::<Result<Vec<_>>>()?;
    let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let result = operation.reference(&tensors)?;
    let weights: Vec<f32> = to(&wave(result.elem_count(), 0.3));
    let weights = Tensor::from_vec(weights, result.shape(), &CandleDevice::Cpu)?;
    let gradients = (&result * weights)?.sum_all()?.backward()?;
    let mut expected = vec![result];
    for tensor in &tensors {
        let gradient = gradients.get(tensor).expect("a gradient for every operand");
        expected.push(gradient.clone());
    }
    for (part, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let expected = elements(expected);
        assert_eq!(found.len(), expected.len());
        let largest = expected.iter().fold(1.0, |most: f64, x| most.max(x.abs()));
        for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert!(
                (f64::from(*found) - expected).abs() <= 1e-5 * largest,
                "part {part}, element {at}: fused {found}, reference {expected}"
            );
        }
    }
    Ok(())
}

/// All elements in f64.
pub(crate) fn elements(tensor: &Tensor) -> Vec<f64> {
    let flat = tensor.flatten_all().and_then(|t| t.to_dtype(DType::F64));
    flat.and_then(|t| t.to_vec1())
        .expect("invariant: a float tensor on the CPU")
}

/// Asserts elements to an absolute tolerance.
pub(crate) fn assert_close(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= tolerance, "{found}, {expected}");
    }
}
