//! Where tensors live. The one place that decides; CUDA comes with the operations that support it.

use candle_core::Device;

/// The processor.
pub fn cpu() -> Device {
    Device::Cpu
}
