//! Checks of operands before an operation runs, so that an error names the operation and what it was given.

use candle_core::Tensor;

use crate::error::{Error, Result};

/// The two sizes of a matrix.
pub(super) fn matrix(op: &str, name: &str, tensor: &Tensor) -> Result<(usize, usize)> {
    tensor.dims2().map_err(|_| {
        Error::internal(format!(
            "{op}: {name} has shape {:?}, two axes are needed",
            tensor.dims()
        ))
    })
}

/// The three sizes of a tensor of tokens, heads and channels.
pub(super) fn heads(op: &str, name: &str, tensor: &Tensor) -> Result<(usize, usize, usize)> {
    tensor.dims3().map_err(|_| {
        Error::internal(format!(
            "{op}: {name} has shape {:?}, three axes (tokens, heads, head size) are needed",
            tensor.dims()
        ))
    })
}

/// Two operands that do not fit: the error names the operation and both shapes.
pub(super) fn mismatch(op: &str, left: (&str, &Tensor), right: (&str, &Tensor)) -> Error {
    Error::internal(format!(
        "{op}: {} has shape {:?}, which does not fit {} of shape {:?}",
        left.0,
        left.1.dims(),
        right.0,
        right.1.dims()
    ))
}

/// Refuses operands of different element types or devices.
pub(super) fn same_kind(op: &str, left: (&str, &Tensor), right: (&str, &Tensor)) -> Result<()> {
    if left.1.dtype() == right.1.dtype() && left.1.device().same_device(right.1.device()) {
        return Ok(());
    }
    Err(Error::internal(format!(
        "{op}: {} is {:?} on {:?}, {} is {:?} on {:?}",
        left.0,
        left.1.dtype(),
        left.1.device().location(),
        right.0,
        right.1.dtype(),
        right.1.device().location()
    )))
}

/// Refuses an index that is not below `limit`.
pub(super) fn indices(op: &str, name: &str, indices: &[u32], limit: usize) -> Result<()> {
    match indices.iter().position(|&index| index as usize >= limit) {
        None => Ok(()),
        Some(at) => Err(Error::internal(format!(
            "{op}: {name}[{at}] is {}, below {limit} is accepted",
            indices[at]
        ))),
    }
}
