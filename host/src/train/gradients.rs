//! Gradients between the backward passes of micro-batches and the optimizer's step: sums and their norm.
//!
//! Losses here are gradients by a flat vector x (log-probabilities, scores, values) that a rule or a plugin computed on
//! slices; [`surrogate`] turns them into a scalar whose backward pass continues through the model.

use candle_core::backprop::GradStore;
use candle_core::{
    CpuStorage, DType, Device, InplaceOp2, Layout, Result as CandleResult, Storage, Tensor, Var,
};
use rayon::prelude::*;

use crate::error::{Error, Result};

/// Elements that one thread works on at a time; a tensor that is smaller is not worth a second thread. The sums below
/// are taken chunk by chunk, so this constant, and not the number of threads, decides their bits.
pub(super) const CHUNK: usize = 16 * 1024;

/// `Σ x · stop_grad(gradient)`: its derivative by x is `gradient`, whatever the loss was. `x` is (M,) f32, `gradient`
/// has M elements.
///
/// # Errors
/// Lengths that differ.
pub fn surrogate(x: &Tensor, gradient: &[f32]) -> Result<Tensor> {
    if x.elem_count() != gradient.len() {
        return Err(Error::internal(format!(
            "a gradient of {} elements does not fit {} outputs of the model",
            gradient.len(),
            x.elem_count()
        )));
    }
    let gradient = Tensor::from_slice(gradient, x.shape(), x.device())?;
    Ok((x * gradient)?.sum_all()?)
}

/// The sum of the gradients of several backward passes, one entry per parameter, in the parameters' order.
#[derive(Debug)]
pub struct GradientSum {
    sums: Vec<Option<Tensor>>,
}

impl GradientSum {
    /// An empty sum for so many parameters.
    pub fn new(parameters: usize) -> Self {
        Self {
            sums: vec![None; parameters],
        }
    }

    /// Adds what one backward pass left. A parameter that the loss does not reach keeps its sum.
    pub fn add(&mut self, parameters: &[(String, Var)], mut store: GradStore) -> Result<()> {
        for (sum, (_, var)) in self.sums.iter_mut().zip(parameters) {
            let Some(gradient) = store.remove(var) else {
                continue;
            };
            let gradient = gradient.contiguous()?;
            match sum {
                None => *sum = Some(gradient),
                // In place: the sum came out of an earlier backward pass, which keeps nothing.
                Some(sum) if on_cpu_f32(sum) => sum.inplace_op2(&gradient, &AddAssign)?,
                Some(sum) => *sum = (&*sum + gradient)?,
            }
        }
        Ok(())
    }

    /// The sum for parameter `i`, or `None` where no loss has reached it.
    pub fn get(&self, i: usize) -> Option<&Tensor> {
        self.sums[i].as_ref()
    }

    /// The Euclidean norm over all parameters, accumulated in f64 in an order that no thread decides.
    pub fn norm(&self) -> Result<f64> {
        let mut total = 0.0;
        for sum in self.sums.iter().flatten() {
            total += sum_of_squares(sum)?;
        }
        Ok(total.sqrt())
    }

    /// Forgets everything, for the next step.
    pub fn clear(&mut self) {
        self.sums.fill(None);
    }
}

/// Whether the fused loops below can work on the tensor.
pub(super) fn on_cpu_f32(tensor: &Tensor) -> bool {
    matches!(tensor.device(), Device::Cpu) && tensor.dtype() == DType::F32
}

fn sum_of_squares(tensor: &Tensor) -> Result<f64> {
    let (storage, layout) = tensor.storage_and_layout();
    if let Storage::Cpu(storage) = &*storage
        && let Ok(values) = slice(storage, layout)
    {
        let partial: Vec<f64> = values
            .par_chunks(CHUNK)
            .map(|chunk| chunk.iter().map(|&x| f64::from(x) * f64::from(x)).sum())
            .collect();
        return Ok(partial.iter().sum());
    }
    drop(storage);
    Ok(tensor
        .to_dtype(DType::F64)?
        .sqr()?
        .sum_all()?
        .to_scalar::<f64>()?)
}

/// The elements of a contiguous f32 tensor on the CPU.
pub(super) fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> CandleResult<&'a [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        candle_core::bail!("a tensor of the optimizer is not contiguous");
    };
    Ok(&storage.as_slice::<f32>()?[start..end])
}

/// The elements of a contiguous f32 tensor on the CPU, to be written.
pub(super) fn slice_mut<'a>(
    storage: &'a mut CpuStorage,
    layout: &Layout,
) -> CandleResult<&'a mut [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        candle_core::bail!("a tensor of the optimizer is not contiguous");
    };
    match storage {
        CpuStorage::F32(values) => Ok(&mut values[start..end]),
        _ => candle_core::bail!("a tensor of the optimizer is not f32"),
    }
}

/// `a += b` for f32 on the CPU.
struct AddAssign;

impl InplaceOp2 for AddAssign {
    fn name(&self) -> &'static str {
        "add-assign"
    }

    fn cpu_fwd(
        &self,
        a: &mut CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> CandleResult<()> {
        slice_mut(a, a_layout)?
            .par_chunks_mut(CHUNK)
            .zip(slice(b, b_layout)?.par_chunks(CHUNK))
            .for_each(|(a, b)| a.iter_mut().zip(b).for_each(|(a, b)| *a += b));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters() -> Vec<(String, Var)> {
        let var = |values: &[f32]| Var::from_slice(values, values.len(), &Device::Cpu).unwrap();
        vec![
            ("a".into(), var(&[1.0, 2.0])),
            ("b".into(), var(&[3.0])),
            ("unused".into(), var(&[5.0])),
        ]
    }

    #[test]
    fn sums_over_backward_passes_and_takes_the_norm() {
        let parameters = parameters();
        let (a, b) = (&parameters[0].1, &parameters[1].1);
        let mut sum = GradientSum::new(3);
        // d/da Σ a·(1, -2) twice, d/db b² = 2b = 6 once.
        sum.add(
            &parameters,
            surrogate(a, &[1.0, -2.0]).unwrap().backward().unwrap(),
        )
        .unwrap();
        let second =
            (surrogate(a, &[1.0, -2.0]).unwrap() + b.sqr().unwrap().sum_all().unwrap()).unwrap();
        sum.add(&parameters, second.backward().unwrap()).unwrap();
        assert_eq!(sum.get(0).unwrap().to_vec1::<f32>().unwrap(), [2.0, -4.0]);
        assert_eq!(sum.get(1).unwrap().to_vec1::<f32>().unwrap(), [6.0]);
        assert!(sum.get(2).is_none());
        assert!((sum.norm().unwrap() - 56f64.sqrt()).abs() < 1e-12);
        sum.clear();
        assert_eq!(sum.norm().unwrap(), 0.0);
    }

    #[test]
    fn the_norm_is_exact_over_many_chunks() {
        let n = 3 * CHUNK + 7;
        let var = Var::from_vec(vec![0.0f32; n], n, &Device::Cpu).unwrap();
        let parameters = vec![("w".to_owned(), var)];
        let gradient: Vec<f32> = (0..n).map(|i| (i % 5) as f32).collect();
        let squares: f64 = gradient.iter().map(|&g| f64::from(g * g)).sum();
        let mut sum = GradientSum::new(1);
        sum.add(
            &parameters,
            surrogate(&parameters[0].1, &gradient)
                .unwrap()
                .backward()
                .unwrap(),
        )
        .unwrap();
        assert_eq!(sum.norm().unwrap(), squares.sqrt());
    }

    #[test]
    fn refuses_a_gradient_of_the_wrong_length() {
        let x = Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap();
        assert!(
            surrogate(&x, &[1.0])
                .unwrap_err()
                .to_string()
                .contains("1 elements")
        );
    }
}
