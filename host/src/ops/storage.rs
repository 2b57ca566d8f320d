//! Slices and matrix products on candle's CPU storages, for the forward and backward passes of custom operations.

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, Layout, Result, Shape, Storage, StorageRef, Tensor, WithDType, bail,
};

/// The elements of an operand, which the operation's entry has made contiguous.
pub(super) fn slice<'a, T: WithDType>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&T::cpu_storage_as_slice(storage)?[start..end]),
        None => bail!(
            "an operand of shape {:?} and strides {:?} is not contiguous",
            layout.dims(),
            layout.stride()
        ),
    }
}

/// A tensor's storage, held for reading during a backward pass.
pub(super) struct Held<'a> {
    storage: StorageRef<'a>,
    layout: &'a Layout,
}

impl<'a> Held<'a> {
    /// Holds a tensor on the CPU.
    pub(super) fn new(tensor: &'a Tensor) -> Self {
        let (storage, layout) = tensor.storage_and_layout();
        Self { storage, layout }
    }

    /// The storage and how the tensor lies in it.
    pub(super) fn parts(&self) -> Result<(&CpuStorage, &Layout)> {
        match &*self.storage {
            Storage::Cpu(storage) => Ok((storage, self.layout)),
            Storage::Cuda(_) | Storage::Metal(_) => {
                bail!("a backward pass on the CPU met a GPU tensor")
            }
        }
    }

    /// The elements of a contiguous tensor.
    pub(super) fn slice<T: WithDType>(&self) -> Result<&[T]> {
        let (storage, layout) = self.parts()?;
        slice(storage, layout)
    }
}

/// left (m, k) · right (k, n) → (m, n); the layouts may be transposed or narrowed.
pub(super) fn product(
    left: (&CpuStorage, &Layout),
    right: (&CpuStorage, &Layout),
) -> Result<CpuStorage> {
    let (m, k) = left.1.shape().dims2()?;
    let (inner, n) = right.1.shape().dims2()?;
    if inner != k {
        bail!("product of {:?} and {:?}", left.1.dims(), right.1.dims());
    }
    left.0.matmul(right.0, (1, m, n, k), left.1, right.1)
}

/// The layout of a whole contiguous matrix.
pub(super) fn matrix(rows: usize, columns: usize) -> Layout {
    Layout::contiguous(Shape::from((rows, columns)))
}

/// leftᵀ · right for contiguous left (k, m) and right (k, n) → (m, n).
pub(super) fn transposed_product(
    left: (&CpuStorage, &Layout),
    right: (&CpuStorage, &Layout),
) -> Result<CpuStorage> {
    let turned = left.1.transpose(0, 1)?;
    product((left.0, &turned), right)
}
