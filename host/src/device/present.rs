//! Which GPUs the driver has, without opening one for work.

use cudarc::driver::CudaContext;

use super::gpu::{Facts, facts, of_driver};
use super::libraries::{Library, find};
use crate::error::{Error, Result};

/// A GPU of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// What it is.
    pub facts: Facts,
    /// Bytes of its memory that nobody holds.
    pub free: usize,
}

/// All GPUs, as the driver counts them.
///
/// # Errors
/// No driver, or one that fails or has no GPU.
pub fn present() -> Result<Vec<Present>> {
    find(Library::Driver)?;
    let asking = |error| of_driver("find GPUs", error);
    let count = CudaContext::device_count().map_err(asking)?;
    if count <= 0 {
        return Err(Error::input("the driver has no GPU")
            .hint("CUDA_VISIBLE_DEVICES may hide it; --set device.kind=cpu needs none"));
    }
    (0..count as usize)
        .map(|ordinal| {
            let context = CudaContext::new(ordinal).map_err(asking)?;
            let (free, _) = context.mem_get_info().map_err(asking)?;
            let facts = facts(&context).map_err(asking)?;
            Ok(Present { facts, free })
        })
        .collect()
}
