//! Ragged batches on their way across the boundary: borrowed slices, no copies. The receiver checks the offsets.

use abi_stable::StableAbi;
use abi_stable::std_types::RSlice;

use crate::batch::{Ragged, TextBatch};
use crate::error::{Error, Result};

/// A [`Ragged`] batch.
#[repr(C)]
#[derive(StableAbi)]
pub struct RaggedAbi<'a, T> {
    values: RSlice<'a, T>,
    offsets: RSlice<'a, u64>,
}

impl<'a, T> From<Ragged<'a, T>> for RaggedAbi<'a, T> {
    fn from(batch: Ragged<'a, T>) -> Self {
        Self {
            values: batch.values().into(),
            offsets: batch.offsets().into(),
        }
    }
}

impl<'a, T> RaggedAbi<'a, T> {
    /// The batch, its offsets checked.
    pub(crate) fn receive(self) -> Result<Ragged<'a, T>> {
        Ragged::new(self.values.as_slice(), self.offsets.as_slice())
    }
}

/// A [`TextBatch`].
#[repr(C)]
#[derive(StableAbi)]
pub struct TextAbi<'a> {
    bytes: RSlice<'a, u8>,
    offsets: RSlice<'a, u64>,
}

impl<'a> From<TextBatch<'a>> for TextAbi<'a> {
    fn from(batch: TextBatch<'a>) -> Self {
        Self {
            bytes: batch.bytes().into(),
            offsets: batch.offsets().into(),
        }
    }
}

impl<'a> TextAbi<'a> {
    /// The batch, its offsets and its UTF-8 checked.
    pub(crate) fn receive(self) -> Result<TextBatch<'a>> {
        TextBatch::new(self.bytes.as_slice(), self.offsets.as_slice())
    }
}

/// Refuses two batches that should lie side by side and do not.
pub(crate) fn same_offsets(what: &str, offsets: &[u64], expected: &[u64]) -> Result<()> {
    if offsets == expected {
        return Ok(());
    }
    Err(Error::input(format!(
        "{what} do not have the same offsets as the rest of the batch"
    )))
}

/// Refuses a batch or an output that has not `expected` elements.
pub(crate) fn same_len(what: &str, len: usize, expected: usize) -> Result<()> {
    if len == expected {
        return Ok(());
    }
    Err(Error::input(format!(
        "{what} has {len} elements, and {expected} belong there"
    )))
}
