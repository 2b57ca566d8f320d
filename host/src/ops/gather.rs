//! Rows of a matrix by position.
//! Legend: N tokens, C channels, M chosen positions.
//!
//! The backward pass adds every row of the gradient to the row it came from. Positions are sorted by the row they name
//! first, so each row has one writer and adds in the order of the positions: the bits do not depend on the threads.

use std::marker::PhantomData;

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};
use rayon::prelude::*;

use super::element::{Element, with_element};
use super::shape;
use super::storage::{Held, slice};
use crate::error::Result;

/// Elements of one parallel task: adding is quick, waking a thread is not.
const BLOCK: usize = 1 << 18;

/// The rows at `positions`, in their order; a position may come several times: x (N, C), positions (M,) → (M, C).
pub fn gather(x: &Tensor, positions: &[u32]) -> Result<Tensor> {
    select("gather", "x", x, "positions", positions)
}

/// The same by plain tensor operations.
pub fn reference(x: &Tensor, positions: &[u32]) -> Result<Tensor> {
    let positions = Tensor::from_slice(positions, positions.len(), x.device())?;
    Ok(x.index_select(&positions, 0)?)
}

/// The rows of `source` that `indices` name; errors speak of the operation by `op` and of the operands by their names.
pub(super) fn select(
    op: &'static str,
    source_name: &str,
    source: &Tensor,
    indices_name: &str,
    indices: &[u32],
) -> Result<Tensor> {
    let (rows, _) = shape::matrix(op, source_name, source)?;
    let dtype = shape::elements(op, &[(source_name, source)])?;
    shape::indices(op, indices_name, indices, rows)?;
    let source = source.contiguous()?;
    let indices = indices.to_vec();
    with_element!(op, dtype, T => {
        let kind = PhantomData::<T>;
        Ok(source.apply_op1(Select { op, indices, kind })?)
    })
}

struct Select<T> {
    op: &'static str,
    indices: Vec<u32>,
    kind: PhantomData<T>,
}

impl<T: Element> Select<T> {
    fn forward(&self, source: &[T], columns: usize) -> Vec<T> {
        let mut out = Vec::with_capacity(self.indices.len() * columns);
        for &row in &self.indices {
            let row = row as usize;
            out.extend_from_slice(&source[row * columns..(row + 1) * columns]);
        }
        out
    }

    fn backward(&self, grad: &[T], rows: usize, columns: usize) -> Vec<T> {
        // Rows of no channels have nothing to add to; chunks of none are not allowed.
        let columns = columns.max(1);
        let (starts, order) = by_row(&self.indices, rows);
        let mut out = vec![T::zero(); rows * columns];
        let rows_of_block = (BLOCK / columns).max(1);
        out.par_chunks_mut(rows_of_block * columns)
            .enumerate()
            .for_each(|(block, out)| {
                for (i, out) in out.chunks_mut(columns).enumerate() {
                    let row = block * rows_of_block + i;
                    for &from in &order[starts[row]..starts[row + 1]] {
                        let grad = &grad[from * columns..(from + 1) * columns];
                        out.iter_mut().zip(grad).for_each(|(sum, &g)| *sum += g);
                    }
                }
            });
        out
    }
}

/// Sorts the places in `indices` by the row they name, stably: row r is named at `order[starts[r]..starts[r + 1]]`.
fn by_row(indices: &[u32], rows: usize) -> (Vec<usize>, Vec<usize>) {
    let mut starts = vec![0; rows + 1];
    for &row in indices {
        starts[row as usize + 1] += 1;
    }
    for row in 0..rows {
        starts[row + 1] += starts[row];
    }
    let mut next = starts.clone();
    let mut order = vec![0; indices.len()];
    for (place, &row) in indices.iter().enumerate() {
        order[next[row as usize]] = place;
        next[row as usize] += 1;
    }
    (starts, order)
}

impl<T: Element> CustomOp1 for Select<T> {
    fn name(&self) -> &'static str {
        self.op
    }

    fn cpu_fwd(
        &self,
        source: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (_, columns) = layout.shape().dims2()?;
        let out: Vec<T> = self.forward(slice(source, layout)?, columns);
        let shape = Shape::from((self.indices.len(), columns));
        Ok((T::to_cpu_storage_owned(out), shape))
    }

    fn bwd(
        &self,
        source: &Tensor,
        _out: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<Option<Tensor>> {
        let (rows, columns) = source.dims2()?;
        let grad = grad.contiguous()?;
        let out = self.backward(Held::new(&grad).slice::<T>()?, rows, columns);
        Ok(Some(Tensor::from_vec(
            out,
            source.shape(),
            source.device(),
        )?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::gradient_check::{assert_agrees, assert_gradients, elements, wave};
    use super::*;

    #[test]
    fn rows_in_the_order_of_the_positions() -> Result<()> {
        let x = Tensor::new(
            &[[1f32, 2.0], [3.0, 4.0], [5.0, 6.0]],
            &candle_core::Device::Cpu,
        )?;
        let found = elements(&gather(&x, &[2, 0, 2])?);
        assert_eq!(found, [5.0, 6.0, 1.0, 2.0, 5.0, 6.0]);
        assert_eq!(gather(&x, &[])?.dims(), [0, 2]);
        let error = gather(&x, &[0, 3]).unwrap_err();
        let expected = "gather: positions[1] is 3, below 3 is accepted";
        assert_eq!(error.to_string(), expected);
        Ok(())
    }

    #[test]
    fn gradients() -> Result<()> {
        assert_gradients(|t| gather(&t[0], &[1, 3, 1]), &[wave(&[4, 3], 0.2)])?;
        let positions: Vec<u32> = (0..300).map(|i| i * i % 97).collect();
        assert_agrees(
            |t| gather(&t[0], &positions),
            |t| reference(&t[0], &positions),
            &[wave(&[100, 7], 0.2)],
        )
    }
}
