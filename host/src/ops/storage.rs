//! Slices of candle's CPU storages, for the forward and backward passes of custom operations.

use candle_core::{CpuStorage, Layout, Result, Storage, StorageRef, Tensor, WithDType, bail};

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

    /// The elements of a contiguous tensor.
    pub(super) fn slice<T: WithDType>(&self) -> Result<&[T]> {
        match &*self.storage {
            Storage::Cpu(storage) => slice(storage, self.layout),
            Storage::Cuda(_) | Storage::Metal(_) => {
                bail!("a backward pass on the CPU met a GPU tensor")
            }
        }
    }
}
