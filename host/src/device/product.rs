//! Matrix products by cuBLAS. Matrices are rows one after the other, as on the CPU; cuBLAS counts in columns, so it computes
//! the transpose, outᵀ = bᵀ·aᵀ, of the same memory.
#![allow(
    unsafe_code,
    reason = "calls of cuBLAS on views whose lengths were checked when the matrices were made"
)]

use std::sync::PoisonError;

use cudarc::cublas::{result, sys};
use cudarc::driver::sys::CUdeviceptr;

use super::buffer::{Real, Stored, View, ViewMut};
use super::config::Dtype;
use super::gpu::Gpu;
use crate::error::{Error, Result};

#[cfg(test)]
mod tests;

/// A matrix to read.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    values: View<'a, Real>,
    rows: usize,
    columns: usize,
    /// Elements from one row to the next.
    stride: usize,
    transposed: bool,
}

impl<'a> Matrix<'a> {
    /// (rows, columns), rows one after the other.
    ///
    /// # Panics
    /// Another number of elements.
    pub fn new(values: View<'a, Real>, rows: usize, columns: usize) -> Self {
        assert_eq!(values.len(), rows * columns);
        Self {
            values,
            rows,
            columns,
            stride: columns,
            transposed: false,
        }
    }

    /// Columns `first .. first + count` of a matrix that is not transposed.
    ///
    /// # Panics
    /// Columns that it does not have; a transposed matrix.
    #[must_use]
    pub fn part(self, first: usize, count: usize) -> Self {
        assert!(!self.transposed && first + count <= self.columns);
        let from = if self.rows == 0 { 0 } else { first };
        Self {
            values: self.values.part(from..self.values.len()),
            columns: count,
            ..self
        }
    }

    /// The transpose.
    #[must_use]
    pub fn t(self) -> Self {
        Self {
            transposed: !self.transposed,
            ..self
        }
    }

    /// Rows, of the transpose where it is one.
    pub fn rows(&self) -> usize {
        if self.transposed {
            self.columns
        } else {
            self.rows
        }
    }

    /// Columns, of the transpose where it is one.
    pub fn columns(&self) -> usize {
        if self.transposed {
            self.rows
        } else {
            self.columns
        }
    }
}

/// A matrix to write: of the device's dtype, or f32 (gradients of weights, logits).
#[derive(Debug)]
pub struct MatrixMut<'a, T> {
    values: ViewMut<'a, T>,
    rows: usize,
    columns: usize,
    stride: usize,
}

impl<'a, T> MatrixMut<'a, T> {
    /// (rows, columns), rows one after the other.
    ///
    /// # Panics
    /// Another number of elements.
    pub fn new(values: ViewMut<'a, T>, rows: usize, columns: usize) -> Self {
        assert_eq!(values.len(), rows * columns);
        Self {
            values,
            rows,
            columns,
            stride: columns,
        }
    }

    /// Columns `first .. first + count`.
    ///
    /// # Panics
    /// Columns that it does not have.
    #[must_use]
    pub fn part(self, first: usize, count: usize) -> Self {
        assert!(first + count <= self.columns);
        let from = if self.rows == 0 { 0 } else { first };
        let len = self.values.len();
        Self {
            values: self.values.into_part(from..len),
            columns: count,
            ..self
        }
    }
}

/// What may be written.
pub trait Written: Stored {
    /// cuBLAS' name of it.
    fn kind(dtype: Dtype) -> sys::cudaDataType;
}

impl Written for f32 {
    fn kind(_: Dtype) -> sys::cudaDataType {
        sys::cudaDataType_t::CUDA_R_32F
    }
}

impl Written for Real {
    fn kind(dtype: Dtype) -> sys::cudaDataType {
        match dtype {
            Dtype::Bf16 => sys::cudaDataType_t::CUDA_R_16BF,
            Dtype::F32 => sys::cudaDataType_t::CUDA_R_32F,
        }
    }
}

impl Gpu {
    /// out ← scale · a·b, or out + scale · a·b; accumulated in f32 and rounded once.
    ///
    /// # Errors
    /// A failing driver.
    ///
    /// # Panics
    /// Sizes that do not fit each other.
    pub fn multiply<T: Written>(
        &self,
        out: MatrixMut<'_, T>,
        a: Matrix<'_>,
        b: Matrix<'_>,
        scale: f32,
        add: bool,
    ) -> Result<()> {
        let (m, n, k) = (out.rows, out.columns, a.columns());
        assert_eq!((a.rows(), b.rows(), b.columns()), (m, k, n));
        if m == 0 || n == 0 {
            return Ok(());
        }
        let MatrixMut {
            values: mut out,
            stride,
            ..
        } = out;
        if k == 0 {
            // An empty sum, row by row: what lies between the rows of a part is not the product's.
            for row in 0..if add { 0 } else { m } {
                let columns = row * stride..row * stride + n;
                out.again().into_part(columns).clear(self)?;
            }
            return Ok(());
        }
        self.bind()?;
        let beta: f32 = if add { 1.0 } else { 0.0 };
        let operation = |matrix: &Matrix<'_>| {
            if matrix.transposed {
                sys::cublasOperation_t::CUBLAS_OP_T
            } else {
                sys::cublasOperation_t::CUBLAS_OP_N
            }
        };
        let real = Real::kind(self.dtype());
        let place = |pointer: CUdeviceptr| pointer as *const std::ffi::c_void;
        let lane = self.lane();
        let _whole = lane.products.lock().unwrap_or_else(PoisonError::into_inner);
        let flops = 2.0 * m as f64 * n as f64 * k as f64;
        let what = || (format!("product {m} × {k} by {k} × {n}"), Some(flops));
        self.timed(what, || {
            // SAFETY: all three lie inside live buffers, their strides and sizes were checked above and when they were made, and out
            // is borrowed mutably, so it overlaps with neither.
            let done = unsafe {
                result::gemm_ex(
                    *lane.blas.handle(),
                    operation(&b),
                    operation(&a),
                    int(n),
                    int(m),
                    int(k),
                    (&raw const scale).cast(),
                    place(b.values.pointer()),
                    real,
                    int(b.stride),
                    place(a.values.pointer()),
                    real,
                    int(a.stride),
                    (&raw const beta).cast(),
                    out.pointer() as *mut std::ffi::c_void,
                    T::kind(self.dtype()),
                    int(stride),
                    sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
                    sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
                )
            };
            done.map_err(|error| {
                Error::internal(format!("cuBLAS: {error} ({m} × {k} by {k} × {n})"))
            })
        })
    }
}

/// Sizes of matrices are far below 2³¹: a batch of 2³¹ tokens does not fit any device.
fn int(size: usize) -> i32 {
    i32::try_from(size).expect("invariant: sizes of matrices fit 31 bits")
}
