//! Checks of operands before an operation runs, so that an error names the operation and what it was given.

use candle_core::{DType, Tensor};

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

/// Refuses operands that the kernels cannot take: not on the CPU, not f32 or f64, or not all of one element type.
pub(super) fn elements(op: &str, operands: &[(&str, &Tensor)]) -> Result<DType> {
    let (first_name, first) = operands[0];
    for &(name, tensor) in operands {
        if !tensor.device().is_cpu() {
            return Err(Error::internal(format!(
                "{op} has no CUDA version yet: {name} lies on {:?}",
                tensor.device().location()
            ))
            .hint("run with the device set to cpu"));
        }
        if !matches!(tensor.dtype(), DType::F32 | DType::F64) || tensor.dtype() != first.dtype() {
            return Err(Error::internal(format!(
                "{op}: {first_name} is {:?} {:?}, {name} is {:?} {:?}; all F32 or all F64 is accepted",
                first.dtype(),
                first.dims(),
                tensor.dtype(),
                tensor.dims()
            )));
        }
    }
    Ok(first.dtype())
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
