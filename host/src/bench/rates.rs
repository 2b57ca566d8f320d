//! What this machine can do at most, measured in the same process: operations a second in a matrix product, and bytes a
//! second: on the processor when a buffer as large as the workload's working set is read, on a GPU when its memory is copied.

#[cfg(feature = "cuda")]
mod on_gpu;

use std::hint::black_box;
use std::time::Instant;

use rayon::prelude::*;

use super::cost::Cost;
use crate::device::Device;
use crate::error::Result;
use crate::ops::product::{Matrix, MatrixMut, Product, multiply};

/// Side of the matrices that are multiplied: large enough for the product's best rate.
const SIDE: usize = 1024;

/// The buffer that is read is as large as the working set, within these bounds (bytes).
const BUFFER: (u64, u64) = (1 << 20, 256 << 20);

/// Seconds that each rate is measured for; the best of all passes counts.
const SECONDS: f64 = 0.5;

/// Sums worked on together, so that loads and not additions are waited for.
const LANES: usize = 64;

/// The machine's rates.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rates {
    /// Of a product of two large matrices.
    pub(super) flops_per_second: f64,
    /// Of reading, or of reading and writing.
    pub(super) bytes_per_second: f64,
}

pub(super) fn measure(cost: &Cost, device: &Device) -> Result<Rates> {
    match device {
        Device::Cpu => Ok(Rates {
            flops_per_second: product(),
            bytes_per_second: reading(cost.working_set.clamp(BUFFER.0, BUFFER.1)),
        }),
        #[cfg(feature = "cuda")]
        Device::Cuda(gpu) => Ok(Rates {
            flops_per_second: on_gpu::product(gpu)?,
            bytes_per_second: on_gpu::copying(gpu)?,
        }),
    }
}

/// The least seconds of `once` among as many calls as fit the time, and at least three.
fn best(mut once: impl FnMut()) -> f64 {
    let (begin, mut calls, mut least) = (Instant::now(), 0, f64::INFINITY);
    while calls < 3 || begin.elapsed().as_secs_f64() < SECONDS {
        let start = Instant::now();
        once();
        least = least.min(start.elapsed().as_secs_f64());
        calls += 1;
    }
    least
}

fn product() -> f64 {
    let (a, b) = (vec![1f32; SIDE * SIDE], vec![1f32; SIDE * SIDE]);
    let mut out = vec![0f32; SIDE * SIDE];
    let seconds = best(|| {
        let (a, b) = (Matrix::new(&a, SIDE, SIDE), Matrix::new(&b, SIDE, SIDE));
        let out = MatrixMut::new(&mut out, SIDE, SIDE);
        multiply(out, a, b, Product::set(rayon::current_num_threads()));
    });
    black_box(&out);
    2.0 * (SIDE as f64).powi(3) / seconds
}

fn reading(bytes: u64) -> f64 {
    let threads = rayon::current_num_threads();
    let part = (bytes as usize / size_of::<f32>() / threads).next_multiple_of(LANES);
    // Small buffers are read several times in a call, so that starting threads does not count.
    let passes = (BUFFER.1 as usize / 8 / (part * threads * size_of::<f32>())).max(1);
    let mut buffer = vec![0f32; part * threads];
    // Written by the threads that will read, so that the pages lie near them.
    buffer.par_chunks_mut(part).for_each(|part| part.fill(1.0));
    let seconds = best(|| {
        buffer.par_chunks(part).for_each(|part| {
            for _ in 0..passes {
                black_box(sum(black_box(part)));
            }
        });
    });
    (passes * buffer.len() * size_of::<f32>()) as f64 / seconds
}

fn sum(values: &[f32]) -> [f32; LANES] {
    let mut sums = [0.0; LANES];
    for lanes in values.as_chunks::<LANES>().0 {
        for (sum, value) in sums.iter_mut().zip(lanes) {
            *sum += value;
        }
    }
    sums
}
