//! Device memory with a length and a kind of element, and parts of it.
#![allow(
    unsafe_code,
    reason = "copies between host and device by pointers and lengths that this file keeps together"
)]

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use cudarc::driver::{result, sys};
use half::bf16;
use half::slice::HalfFloatSliceExt as _;

use super::config::Dtype;
use super::gpu::{Gpu, of_driver};
use crate::error::Result;

#[cfg(test)]
mod tests;

/// What a buffer holds.
pub trait Stored {
    /// Bytes of an element.
    fn size(gpu: &Gpu) -> usize;
}

/// Elements that are the same on the host.
pub trait Plain: Stored + Copy + Default {}

/// An element of the GPU's own dtype: of weights and activations.
#[derive(Clone, Copy, Debug)]
pub enum Real {}

impl Stored for Real {
    fn size(gpu: &Gpu) -> usize {
        gpu.dtype().size()
    }
}

macro_rules! plain {
    ($($type:ty),*) => {$(
        impl Stored for $type {
            fn size(_: &Gpu) -> usize {
                size_of::<$type>()
            }
        }
        impl Plain for $type {}
    )*};
}
plain!(f32, f64, i32);

/// Device memory of `len` elements; freed in stream order when it is dropped.
pub struct Buffer<T> {
    gpu: Arc<Gpu>,
    pointer: sys::CUdeviceptr,
    len: usize,
    bytes: usize,
    of: PhantomData<fn() -> T>,
}

/// A part of a buffer.
#[derive(Debug)]
pub struct View<'a, T> {
    pointer: sys::CUdeviceptr,
    len: usize,
    size: usize,
    of: PhantomData<&'a fn() -> T>,
}

/// A part of a buffer, to be changed.
#[derive(Debug)]
pub struct ViewMut<'a, T> {
    pointer: sys::CUdeviceptr,
    len: usize,
    size: usize,
    of: PhantomData<&'a mut fn() -> T>,
}

impl<T> Clone for View<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for View<'_, T> {}

impl<T> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.gpu.free(self.pointer, self.bytes);
        }
    }
}

impl<T: Stored> Buffer<T> {
    /// `len` elements of any content.
    ///
    /// # Errors
    /// No memory.
    pub fn new(gpu: &Arc<Gpu>, len: usize) -> Result<Self> {
        let bytes = len * T::size(gpu);
        let pointer = if bytes == 0 { 0 } else { gpu.allocate(bytes)? };
        Ok(Self {
            gpu: gpu.clone(),
            pointer,
            len,
            bytes,
            of: PhantomData,
        })
    }

    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The device that it lies on.
    pub fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }

    /// All of it.
    pub fn view(&self) -> View<'_, T> {
        View {
            pointer: self.pointer,
            len: self.len,
            size: T::size(&self.gpu),
            of: PhantomData,
        }
    }

    /// All of it, to be changed.
    pub fn view_mut(&mut self) -> ViewMut<'_, T> {
        ViewMut {
            pointer: self.pointer,
            len: self.len,
            size: T::size(&self.gpu),
            of: PhantomData,
        }
    }

    /// A part.
    ///
    /// # Panics
    /// A range that is not inside.
    pub fn part(&self, range: Range<usize>) -> View<'_, T> {
        self.view().part(range)
    }

    /// A part, to be changed.
    ///
    /// # Panics
    /// A range that is not inside.
    pub fn part_mut(&mut self, range: Range<usize>) -> ViewMut<'_, T> {
        self.view_mut().into_part(range)
    }

    /// A copy on the device.
    ///
    /// # Errors
    /// No memory.
    pub fn duplicate(&self) -> Result<Self> {
        let mut copy = Self::new(&self.gpu, self.len)?;
        copy.view_mut().copy_from(&self.gpu, self.view())?;
        Ok(copy)
    }
}

impl<T: Plain> Buffer<T> {
    /// A copy of host memory.
    ///
    /// # Errors
    /// No memory on the device.
    pub fn upload(gpu: &Arc<Gpu>, values: &[T]) -> Result<Self> {
        let mut buffer = Self::new(gpu, values.len())?;
        buffer.view_mut().fill(gpu, values)?;
        Ok(buffer)
    }

    /// A copy on the host, of everything that was queued before.
    ///
    /// # Errors
    /// Work before it that failed.
    pub fn download(&self) -> Result<Vec<T>> {
        self.view().download(&self.gpu)
    }
}

impl Buffer<Real> {
    /// A copy of host memory, rounded to the device's dtype.
    ///
    /// # Errors
    /// No memory on the device.
    pub fn upload_real(gpu: &Arc<Gpu>, values: &[f32]) -> Result<Self> {
        /// Rounded at a time: the host's copy of a large model stays one copy.
        const PIECE: usize = 1 << 24;
        let buffer = Self::new(gpu, values.len())?;
        match gpu.dtype() {
            Dtype::F32 => copy_in(gpu, buffer.pointer, values)?,
            Dtype::Bf16 => {
                let mut rounded = vec![bf16::ZERO; values.len().min(PIECE)];
                for (at, piece) in values.chunks(PIECE).enumerate() {
                    let rounded = &mut rounded[..piece.len()];
                    rounded.convert_from_f32_slice(piece);
                    copy_in(gpu, buffer.pointer + (at * PIECE * 2) as u64, rounded)?;
                    gpu.synchronize()?;
                }
            }
        }
        Ok(buffer)
    }

    /// A copy on the host.
    ///
    /// # Errors
    /// Work before it that failed.
    pub fn download_real(&self) -> Result<Vec<f32>> {
        self.view().download_real(&self.gpu)
    }
}

impl<'a, T> View<'a, T> {
    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A part.
    ///
    /// # Panics
    /// A range that is not inside.
    #[must_use]
    pub fn part(self, range: Range<usize>) -> View<'a, T> {
        assert!(range.start <= range.end && range.end <= self.len);
        View {
            pointer: self.pointer + (range.start * self.size) as u64,
            len: range.len(),
            ..self
        }
    }

    /// Where it lies.
    pub(super) fn pointer(&self) -> sys::CUdeviceptr {
        self.pointer
    }
}

impl<T: Plain> View<'_, T> {
    /// A copy on the host, of everything that was queued before.
    ///
    /// # Errors
    /// Work before it that failed.
    pub fn download(&self, gpu: &Gpu) -> Result<Vec<T>> {
        copy_out(gpu, self.pointer, self.len)
    }
}

impl<'a> View<'a, Real> {
    /// The same elements where the device's dtype is f32.
    ///
    /// # Panics
    /// Another dtype.
    #[must_use]
    pub fn as_f32(&self) -> View<'a, f32> {
        assert_eq!(self.size, size_of::<f32>());
        View {
            pointer: self.pointer,
            len: self.len,
            size: self.size,
            of: PhantomData,
        }
    }
}

impl View<'_, Real> {
    /// A copy on the host.
    ///
    /// # Errors
    /// Work before it that failed.
    pub fn download_real(&self, gpu: &Gpu) -> Result<Vec<f32>> {
        match gpu.dtype() {
            Dtype::F32 => copy_out(gpu, self.pointer, self.len),
            Dtype::Bf16 => {
                let rounded: Vec<bf16> = copy_out(gpu, self.pointer, self.len)?;
                Ok(rounded.to_f32_vec())
            }
        }
    }
}

impl<'a, T> ViewMut<'a, T> {
    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A part, for as long as the whole was lent.
    ///
    /// # Panics
    /// A range that is not inside.
    #[must_use]
    pub fn into_part(self, range: Range<usize>) -> ViewMut<'a, T> {
        let Self { pointer, size, .. } = self;
        assert!(range.start <= range.end && range.end <= self.len);
        ViewMut {
            pointer: pointer + (range.start * size) as u64,
            len: range.len(),
            size,
            of: PhantomData,
        }
    }

    /// The same, lent on.
    pub fn again(&mut self) -> ViewMut<'_, T> {
        ViewMut {
            of: PhantomData,
            ..*self
        }
    }

    /// The same, to be read.
    pub fn as_view(&self) -> View<'_, T> {
        View {
            pointer: self.pointer,
            len: self.len,
            size: self.size,
            of: PhantomData,
        }
    }

    /// The first `count` elements; the rest stays.
    ///
    /// # Panics
    /// Fewer are left.
    #[must_use]
    pub fn split_off(&mut self, count: usize) -> ViewMut<'a, T> {
        assert!(count <= self.len);
        let first = ViewMut {
            pointer: self.pointer,
            len: count,
            size: self.size,
            of: PhantomData,
        };
        self.pointer += (count * self.size) as u64;
        self.len -= count;
        first
    }

    /// Where it lies.
    pub(super) fn pointer(&self) -> sys::CUdeviceptr {
        self.pointer
    }

    /// Sets all to zero.
    ///
    /// # Errors
    /// A failing driver.
    pub fn clear(&mut self, gpu: &Gpu) -> Result<()> {
        if self.len == 0 {
            return Ok(());
        }
        gpu.bind()?;
        gpu.timed(
            || ("clear memory".to_owned(), None),
            || {
                let stream = gpu.lane().stream.cu_stream();
                let bytes = self.len * self.size;
                // SAFETY: the view lies inside a live buffer.
                let cleared = unsafe { result::memset_d8_async(self.pointer, 0, bytes, stream) };
                cleared.map_err(|error| of_driver("clear memory", error))
            },
        )
    }

    /// Copies as many elements as there are.
    ///
    /// # Errors
    /// A failing driver.
    ///
    /// # Panics
    /// Other lengths.
    pub fn copy_from(&mut self, gpu: &Gpu, from: View<'_, T>) -> Result<()> {
        assert_eq!(self.len, from.len);
        if self.len == 0 {
            return Ok(());
        }
        gpu.bind()?;
        gpu.timed(
            || ("copy memory".to_owned(), None),
            || {
                let (to, from) = (self.pointer, from.pointer);
                let (bytes, stream) = (self.len * self.size, gpu.lane().stream.cu_stream());
                // SAFETY: both views lie inside live buffers, have this length, and do not overlap: one of them is borrowed
                // mutably.
                let copied = unsafe { result::memcpy_dtod_async(to, from, bytes, stream) };
                copied.map_err(|error| of_driver("copy memory", error))
            },
        )
    }
}

impl<'a> ViewMut<'a, Real> {
    /// The same elements where the device's dtype is f32.
    ///
    /// # Panics
    /// Another dtype.
    #[must_use]
    pub fn into_f32(self) -> ViewMut<'a, f32> {
        assert_eq!(self.size, size_of::<f32>());
        ViewMut {
            pointer: self.pointer,
            len: self.len,
            size: self.size,
            of: PhantomData,
        }
    }
}

impl<T: Plain> ViewMut<'_, T> {
    /// Writes host memory of the same length.
    ///
    /// # Errors
    /// A failing driver.
    ///
    /// # Panics
    /// Another length.
    pub fn fill(&mut self, gpu: &Gpu, values: &[T]) -> Result<()> {
        assert_eq!(self.len, values.len());
        copy_in(gpu, self.pointer, values)
    }
}

fn copy_in<T: Copy>(gpu: &Gpu, to: sys::CUdeviceptr, values: &[T]) -> Result<()> {
    if values.is_empty() {
        return Ok(());
    }
    gpu.bind()?;
    // SAFETY: callers give memory of this length; pageable host memory is read before the call returns.
    let copied = unsafe { result::memcpy_htod_async(to, values, gpu.lane().stream.cu_stream()) };
    copied.map_err(|error| of_driver("copy to the GPU", error))
}

fn copy_out<T: Copy + Default>(gpu: &Gpu, from: sys::CUdeviceptr, len: usize) -> Result<Vec<T>> {
    let mut values = vec![T::default(); len];
    if len > 0 {
        gpu.bind()?;
        // SAFETY: callers give memory of this length; the stream is waited for before the values are looked at.
        let copied =
            unsafe { result::memcpy_dtoh_async(&mut values, from, gpu.lane().stream.cu_stream()) };
        copied.map_err(|error| of_driver("copy from the GPU", error))?;
        gpu.synchronize()?;
    }
    Ok(values)
}
