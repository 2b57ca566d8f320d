//! Linear map without a bias: y = x · Wᵀ. Legend: N tokens, I inputs, O outputs.
//!
//! dx = dy · W and dW = dyᵀ · x. Candle's own backward pass of a product by a transposed weight makes the transposed
//! gradient and turns it; here both gradients come out as they are stored.

use std::marker::PhantomData;

use candle_core::{CpuStorage, CustomOp2, Layout, Shape, Tensor};

use super::element::{Element, with_element};
use super::product::{Matrix, multiply};
use super::shape;
use super::storage::{Held, slice};
use crate::error::Result;

const OP: &str = "linear";

/// Multiplies every token by the weight: x (N, I), weight (O, I) → (N, O).
pub fn linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let (_, inputs) = shape::matrix(OP, "x", x)?;
    let (_, expected) = shape::matrix(OP, "weight", weight)?;
    let dtype = shape::elements(OP, &[("x", x), ("weight", weight)])?;
    if inputs != expected {
        return Err(shape::mismatch(OP, ("x", x), ("weight", weight)));
    }
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    with_element!(OP, dtype, T => Ok(x.apply_op2(&weight, Linear(PhantomData::<T>))?))
}

/// The same by plain tensor operations.
pub fn reference(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    Ok(x.matmul(&weight.t()?)?)
}

struct Linear<T>(PhantomData<T>);

impl<T: Element> CustomOp2 for Linear<T> {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (tokens, inputs) = x_layout.shape().dims2()?;
        let outputs = weight_layout.dims()[0];
        let x = Matrix::new(slice::<T>(x, x_layout)?, tokens, inputs);
        let weight = Matrix::new(slice::<T>(weight, weight_layout)?, outputs, inputs);
        let mut out = vec![T::zero(); tokens * outputs];
        multiply(&mut out, x, weight.t(), false);
        Ok((T::to_cpu_storage_owned(out), (tokens, outputs).into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _out: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let held = [x, weight, &grad].map(Held::new);
        let (tokens, outputs) = grad.dims2()?;
        let inputs = x.dim(1)?;
        let dy = Matrix::new(held[2].slice::<T>()?, tokens, outputs);
        // A frozen operand gets no gradient and costs no product.
        let product_for = |operand: &Tensor, left, right| {
            operand.track_op().then(|| {
                let mut out = vec![T::zero(); operand.elem_count()];
                multiply(&mut out, left, right, false);
                Tensor::from_vec(out, operand.shape(), operand.device())
            })
        };
        let dx = product_for(x, dy, Matrix::new(held[1].slice()?, outputs, inputs));
        let dw = product_for(
            weight,
            dy.t(),
            Matrix::new(held[0].slice()?, tokens, inputs),
        );
        Ok((dx.transpose()?, dw.transpose()?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::gradient_check::{assert_agrees, assert_gradients, elements, wave};
    use super::*;

    #[test]
    fn every_output_is_a_row_of_the_weight() -> Result<()> {
        let device = candle_core::Device::Cpu;
        let x = Tensor::new(&[[1f32, 2.0]], &device)?;
        let weight = Tensor::new(&[[1f32, 0.0], [0.0, 1.0], [10.0, -1.0]], &device)?;
        assert_eq!(elements(&linear(&x, &weight)?), [1.0, 2.0, 8.0]);
        Ok(())
    }

    #[test]
    fn gradients() -> Result<()> {
        let fused = |t: &[Tensor]| linear(&t[0], &t[1]);
        assert_gradients(fused, &[wave(&[3, 4], 0.1), wave(&[5, 4], 1.0)])?;
        let inputs = [wave(&[70, 33], 0.1), wave(&[40, 33], 1.0)];
        assert_agrees(fused, |t| reference(&t[0], &t[1]), &inputs)
    }

    #[test]
    fn operands_of_another_shape_or_element_are_refused() -> Result<()> {
        let x = wave(&[2, 4], 0.0);
        let error = linear(&x, &wave(&[5, 3], 0.0)).unwrap_err();
        let expected = "linear: x has shape [2, 4], which does not fit weight of shape [5, 3]";
        assert_eq!(error.to_string(), expected);
        let half = x.to_dtype(candle_core::DType::F16)?;
        let error = linear(&half, &half).unwrap_err().to_string();
        assert!(error.contains("F16") && error.contains("F32"), "{error}");
        Ok(())
    }

    /// A frozen weight gets no gradient and costs no product.
    #[test]
    fn a_constant_gets_no_gradient() -> Result<()> {
        let x = candle_core::Var::from_tensor(&wave(&[2, 4], 0.0))?;
        let weight = wave(&[3, 4], 1.0);
        let grads = linear(x.as_tensor(), &weight)?.sum_all()?.backward()?;
        assert!(grads.get(x.as_tensor()).is_some());
        assert!(grads.get(&weight).is_none());
        Ok(())
    }
}
