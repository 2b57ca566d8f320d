//! The rates of a GPU. Sizes are doubled until a call takes long enough for the time of asking not to count, so that they are
//! large on a large GPU and small on the emulator.

use std::sync::Arc;
use std::time::Instant;

use super::SECONDS;
use crate::device::{Buffer, Gpu, Matrix, MatrixMut, Real};
use crate::error::Result;

/// Seconds that one call takes at least, unless its size is at its bound.
const LONG: f64 = 1e-3;
/// Sides of the matrices.
const SIDES: (usize, usize) = (256, 8192);
/// Bytes of the buffers.
const BUFFERS: (usize, usize) = (1 << 20, 2 << 30);
/// Calls that are queued together.
const CALLS: usize = 4;

/// Operations a second of a product of two square matrices of the GPU's dtype.
pub(super) fn product(gpu: &Arc<Gpu>) -> Result<f64> {
    let mut side = SIDES.0;
    loop {
        let a = filled(gpu, side * side)?;
        let b = filled(gpu, side * side)?;
        let mut out: Buffer<Real> = Buffer::new(gpu, side * side)?;
        let mut once = || {
            let a = Matrix::new(a.view(), side, side);
            let b = Matrix::new(b.view(), side, side);
            let out = MatrixMut::new(out.view_mut(), side, side);
            gpu.multiply(out, a, b, 1.0, false)
        };
        if side < SIDES.1 && seconds(gpu, &mut once)? < LONG {
            side *= 2;
            continue;
        }
        return Ok(2.0 * (side as f64).powi(3) / best(gpu, &mut once)?);
    }
}

/// Bytes a second, read and written, of a copy from a buffer to another.
pub(super) fn copying(gpu: &Arc<Gpu>) -> Result<f64> {
    let most = BUFFERS.1.min(gpu.free_memory()? / 4);
    let mut bytes = BUFFERS.0;
    loop {
        let from: Buffer<f32> = gpu.zeros(bytes / size_of::<f32>())?;
        let mut to: Buffer<f32> = gpu.zeros(from.len())?;
        let mut once = || to.view_mut().copy_from(gpu, from.view());
        if 2 * bytes <= most && seconds(gpu, &mut once)? < LONG {
            bytes *= 2;
            continue;
        }
        return Ok(2.0 * bytes as f64 / best(gpu, &mut once)?);
    }
}

/// Values of both signs and many exponents: a GPU that multiplies zeros is faster, for it draws less power.
fn filled(gpu: &Arc<Gpu>, count: usize) -> Result<Buffer<Real>> {
    let value = |at: usize| {
        let mixed = (at as u32).wrapping_mul(0x9E37_79B9).rotate_left(13) ^ at as u32;
        mixed.wrapping_mul(0x85EB_CA6B) as f32 / u32::MAX as f32 - 0.5
    };
    let values: Vec<f32> = (0..count).map(value).collect();
    Buffer::upload_real(gpu, &values)
}

/// Seconds of a call among several that are queued together; the first call prepares and is not counted.
fn seconds(gpu: &Gpu, once: &mut impl FnMut() -> Result<()>) -> Result<f64> {
    once()?;
    gpu.synchronize()?;
    let start = Instant::now();
    for _ in 0..CALLS {
        once()?;
    }
    gpu.synchronize()?;
    Ok(start.elapsed().as_secs_f64() / CALLS as f64)
}

fn best(gpu: &Gpu, once: &mut impl FnMut() -> Result<()>) -> Result<f64> {
    let (begin, mut least) = (Instant::now(), f64::INFINITY);
    while least.is_infinite() || begin.elapsed().as_secs_f64() < SECONDS {
        least = least.min(seconds(gpu, once)?);
    }
    Ok(least)
}
