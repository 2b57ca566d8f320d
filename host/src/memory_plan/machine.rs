//! What is planned for: the kind of device, the dtype of its reals, its memory.

use crate::device::{DeviceKind, Dtype};
use crate::proc_files;

/// The machine that a run is planned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Where models live.
    pub kind: DeviceKind,
    /// The dtype of reals there.
    pub dtype: Dtype,
    /// Threads of the CPU's operations.
    pub threads: u64,
    /// Bytes of the device's memory; `None` where nobody knows.
    pub memory: Option<u64>,
    /// Whether the user said so.
    pub memory_given: bool,
}

/// Workspaces of cuBLAS: one for what is queued, one for what is recorded (`device/gpu.rs`).
const CUBLAS: u64 = 64 << 20;

/// What the driver's context takes; depends on driver and card, and is assumed.
const CONTEXT: u64 = 500 << 20;

/// What the process on the CPU takes beside models: code, threads' stacks, parts of operands that products lay out, the
/// allocator's reserve. Assumed; docs/memory.md has what was measured.
const PROCESS: u64 = 128 << 20;

impl Machine {
    /// Whether models live on a GPU.
    pub(super) fn is_gpu(&self) -> bool {
        self.kind == DeviceKind::Cuda
    }

    /// r: bytes of a real.
    pub(super) fn real(&self) -> u64 {
        self.dtype.size() as u64
    }

    /// Bytes that are taken without any model.
    pub(super) fn overhead(&self) -> u64 {
        if self.is_gpu() {
            CUBLAS + CONTEXT
        } else {
            PROCESS
        }
    }
}

/// The memory of this machine as Linux counts it (`MemTotal`); `None` on other systems.
pub fn memory_of_this_machine() -> Option<u64> {
    proc_files::bytes("/proc/meminfo", "MemTotal")
}
