//! Token embedding: one row of the table for every id. Legend: n tokens, C channels, V vocabulary.
//!
//! The backward pass adds every row of the gradient to the row it came from. Ids are sorted by the row they name first, so
//! each row has one writer and adds in the order of the tokens: the bits do not depend on the threads.

#[cfg(feature = "cuda")]
pub(crate) mod cuda;

use candle_core::Tensor;
use rayon::prelude::*;

use super::element::Element;
use crate::error::Result;

/// Elements of one parallel task: adding is quick, waking a thread is not.
const BLOCK: usize = 1 << 18;

/// The rows of `ids`, each below V: table (V, C), ids (n,) → out (n, C).
pub fn forward<T: Element>(table: &[T], ids: &[u32], out: &mut [T]) {
    let channels = out.len() / ids.len().max(1);
    for (out, &id) in out.chunks_exact_mut(channels.max(1)).zip(ids) {
        out.copy_from_slice(&table[id as usize * channels..][..channels]);
    }
}

/// Adds the gradient of the rows, `grad` (n, C), to that of the table, `d_table` (V, C).
pub fn backward<T: Element>(ids: &[u32], grad: &[T], d_table: &mut [T]) {
    if ids.is_empty() {
        return;
    }
    let channels = grad.len() / ids.len();
    let (starts, order) = by_row(ids, d_table.len() / channels);
    let rows_of_block = (BLOCK / channels).max(1);
    d_table
        .par_chunks_mut(rows_of_block * channels)
        .enumerate()
        .for_each(|(block, out)| {
            for (i, out) in out.chunks_mut(channels).enumerate() {
                let row = block * rows_of_block + i;
                for &from in &order[starts[row]..starts[row + 1]] {
                    let grad = &grad[from * channels..(from + 1) * channels];
                    out.iter_mut().zip(grad).for_each(|(sum, &g)| *sum += g);
                }
            }
        });
}

/// Sorts the places in `ids` by the row they name, stably: row r is named at `order[starts[r]..starts[r + 1]]`.
fn by_row(ids: &[u32], rows: usize) -> (Vec<usize>, Vec<usize>) {
    let mut starts = vec![0; rows + 1];
    for &row in ids {
        starts[row as usize + 1] += 1;
    }
    for row in 0..rows {
        starts[row + 1] += starts[row];
    }
    let mut next = starts.clone();
    let mut order = vec![0; ids.len()];
    for (place, &row) in ids.iter().enumerate() {
        order[next[row as usize]] = place;
        next[row as usize] += 1;
    }
    (starts, order)
}

/// The same by plain tensor operations: table (V, C), ids (n,) → (n, C).
pub fn reference(table: &Tensor, ids: &[u32]) -> Result<Tensor> {
    let ids = Tensor::from_slice(ids, ids.len(), table.device())?;
    Ok(table.index_select(&ids, 0)?)
}

#[cfg(test)]
mod tests {
    use super::super::gradient_check::{Operation, assert_gradients, test_device, wave};
    use super::*;
    use crate::device::Device;
    #[cfg(feature = "cuda")]
    use {
        super::super::gradient_check::with_gpus,
        crate::device::{Buffer, Gpu, Real},
        std::sync::Arc,
    };

    struct Embedding {
        ids: Vec<u32>,
        channels: usize,
    }

    impl Operation for Embedding {
        fn forward<T: Element>(&self, inputs: &[Vec<T>]) -> Vec<T> {
            let mut out = vec![T::zero(); self.ids.len() * self.channels];
            forward(&inputs[0], &self.ids, &mut out);
            out
        }

        fn backward<T: Element>(&self, inputs: &[Vec<T>], grad: &[T]) -> Vec<Vec<T>> {
            let mut d_table = vec![T::zero(); inputs[0].len()];
            backward(&self.ids, grad, &mut d_table);
            vec![d_table]
        }

        fn reference(&self, inputs: &[Tensor]) -> Result<Tensor> {
            reference(&inputs[0].reshape(((), self.channels))?, &self.ids)
        }

        #[cfg(feature = "cuda")]
        fn forward_on(&self, gpu: &Arc<Gpu>, inputs: &[Buffer<Real>]) -> Result<Vec<f32>> {
            let ids: Vec<i32> = self.ids.iter().map(|&id| id as i32).collect();
            let ids = Buffer::upload(gpu, &ids)?;
            let mut out = Buffer::<Real>::new(gpu, ids.len() * self.channels)?;
            let table = inputs[0].view();
            cuda::forward(gpu, table, ids.view(), out.view_mut(), self.channels)?;
            out.download_real()
        }

        #[cfg(feature = "cuda")]
        fn backward_on(
            &self,
            gpu: &Arc<Gpu>,
            inputs: &[Buffer<Real>],
            grad: &[f32],
        ) -> Result<Vec<Vec<f32>>> {
            let (starts, order) = by_row(&self.ids, inputs[0].len() / self.channels);
            let int = |values: Vec<usize>| values.into_iter().map(|x| x as i32).collect::<Vec<_>>();
            let named: Vec<usize> = (0..starts.len() - 1)
                .filter(|&row| starts[row] < starts[row + 1])
                .collect();
            let offsets = named
                .iter()
                .map(|&row| starts[row])
                .chain([order.len()])
                .collect();
            let [unique, offsets, order] =
                [named, offsets, order].map(|part| Buffer::upload(gpu, &int(part)));
            let (unique, offsets, order) = (unique?, offsets?, order?);
            let ids = cuda::ById {
                unique: unique.view(),
                offsets: offsets.view(),
                order: order.view(),
            };
            let grad = Buffer::upload_real(gpu, grad)?;
            let mut d_table = gpu.zeros(inputs[0].len())?;
            cuda::backward(gpu, grad.view(), ids, d_table.view_mut(), self.channels)?;
            Ok(vec![d_table.download()?])
        }
    }

    #[test]
    fn rows_in_the_order_of_the_ids() {
        let embedding = Embedding {
            ids: vec![2, 0, 2],
            channels: 2,
        };
        let table = vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        assert_eq!(embedding.forward(&[table]), [5.0, 6.0, 1.0, 2.0, 5.0, 6.0]);
        let mut nothing: [f64; 0] = [];
        forward(&[1.0, 2.0], &[], &mut nothing);
    }

    fn gradients(device: &Device) -> Result<()> {
        let few = Embedding {
            ids: vec![1, 3, 1],
            channels: 3,
        };
        assert_gradients(device, &few, &[wave(12, 0.2)])?;
        for channels in [7, 12, 96, 577] {
            let many = Embedding {
                ids: (0..300).map(|i| i * i % 97).collect(),
                channels,
            };
            assert_gradients(device, &many, &[wave(100 * channels, 0.2)])?;
        }
        Ok(())
    }

    test_device!(gradients, gradients_on_cpu, gradients_on_cuda);

    /// No tokens; a table of tens of thousands of rows; one id for all tokens.
    #[cfg(feature = "cuda")]
    #[test]
    fn a_gpu_takes_tables_and_batches_of_any_size() -> Result<()> {
        with_gpus(|gpu| {
            let device = Device::Cuda(gpu.clone());
            let ids = [Vec::new(), vec![0, 32_002, 5], vec![7; 257]];
            for (ids, rows) in ids.into_iter().zip([11, 32_003, 600]) {
                let embedding = Embedding { ids, channels: 12 };
                assert_gradients(&device, &embedding, &[wave(rows * 12, 0.2)])?;
            }
            Ok(())
        })
    }
}
