//! Where models live: in the processor's memory or on a GPU. One process opens each device once; everything that holds
//! device memory holds the device.
//!
//! Places, dtypes and rules of the CUDA side: docs/cuda.md.

#[cfg(feature = "cuda")]
mod buffer;
mod config;
#[cfg(feature = "cuda")]
mod gpu;
#[cfg(feature = "cuda")]
mod graph;
#[cfg(feature = "cuda")]
mod kernels;
#[cfg(feature = "cuda")]
mod libraries;
mod operation_time;
#[cfg(feature = "cuda")]
mod present;
#[cfg(feature = "cuda")]
mod product;
#[cfg(feature = "cuda")]
mod profile;
#[cfg(all(test, feature = "cuda"))]
pub(crate) mod testing;

pub use config::{DeviceConfig, DeviceKind, Dtype};
#[cfg(feature = "cuda")]
pub use libraries::{Library, find as find_libraries};
pub use operation_time::OperationTime;
#[cfg(feature = "cuda")]
pub use {
    buffer::{Buffer, Plain, Real, Stored, View, ViewMut},
    gpu::{Facts, Gpu},
    graph::Graph,
    kernels::{Arg, Compiled, Launch, Program, compile},
    present::{Present, present},
    product::{Matrix, MatrixMut},
};

use crate::error::{Error, Result};

/// Where models live.
#[derive(Clone, Debug, Default)]
pub enum Device {
    /// The processor, f32.
    #[default]
    Cpu,
    /// An NVIDIA GPU.
    #[cfg(feature = "cuda")]
    Cuda(std::sync::Arc<Gpu>),
}

impl Device {
    /// The device that a configuration names; the same object for the same configuration as long as the process lives.
    ///
    /// # Errors
    /// A GPU where this binary was built without CUDA, where no driver or library is found, or where there is no such GPU:
    /// wrong input, with what to do.
    pub fn open(config: &DeviceConfig) -> Result<Self> {
        match config.kind {
            DeviceKind::Cpu => Ok(Self::Cpu),
            DeviceKind::Cuda => cuda(config),
        }
    }

    /// Whether it is a GPU.
    pub fn is_cuda(&self) -> bool {
        !matches!(self, Self::Cpu)
    }

    /// The GPU's name, or `cpu`.
    pub fn name(&self) -> String {
        match self {
            Self::Cpu => "cpu".to_owned(),
            #[cfg(feature = "cuda")]
            Self::Cuda(gpu) => gpu.facts().name.clone(),
        }
    }

    /// The dtype of weights and activations.
    pub fn dtype(&self) -> Dtype {
        match self {
            Self::Cpu => Dtype::F32,
            #[cfg(feature = "cuda")]
            Self::Cuda(gpu) => gpu.dtype(),
        }
    }

    /// The most bytes of a GPU's memory that buffers held since the last call ([`Gpu::take_peak`]); `None` on the processor.
    pub fn take_peak(&self) -> Option<u64> {
        match self {
            Self::Cpu => None,
            #[cfg(feature = "cuda")]
            Self::Cuda(gpu) => Some(gpu.take_peak() as u64),
        }
    }

    /// Times every operation on a GPU from now on ([`Gpu::start_profile`]).
    ///
    /// # Errors
    /// Work before it that failed.
    pub fn start_profile(&self) -> Result<()> {
        match self {
            Self::Cpu => Ok(()),
            #[cfg(feature = "cuda")]
            Self::Cuda(gpu) => gpu.start_profile(),
        }
    }

    /// What was timed since then, the longest first; nothing on the processor.
    ///
    /// # Errors
    /// Work that failed.
    pub fn take_profile(&self) -> Result<Vec<OperationTime>> {
        match self {
            Self::Cpu => Ok(Vec::new()),
            #[cfg(feature = "cuda")]
            Self::Cuda(gpu) => gpu.take_profile(),
        }
    }

    /// Waits for everything that was asked of the device; what took long is then known to have taken it.
    ///
    /// # Errors
    /// Work that failed.
    pub fn synchronize(&self) -> Result<()> {
        match self {
            Self::Cpu => Ok(()),
            #[cfg(feature = "cuda")]
            Self::Cuda(gpu) => gpu.synchronize(),
        }
    }
}

#[cfg(feature = "cuda")]
fn cuda(config: &DeviceConfig) -> Result<Device> {
    use std::sync::{Arc, Mutex, PoisonError};
    /// Open for as long as the process lives: stages follow each other on them.
    static OPEN: Mutex<Vec<(DeviceConfig, Arc<Gpu>)>> = Mutex::new(Vec::new());

    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, gpu)) = open.iter().find(|(other, _)| other == config) {
        return Ok(Device::Cuda(gpu.clone()));
    }
    let gpu = Gpu::open(config).map_err(|error| error.context("device.kind = \"cuda\""))?;
    open.push((*config, gpu.clone()));
    Ok(Device::Cuda(gpu))
}

#[cfg(not(feature = "cuda"))]
fn cuda(_: &DeviceConfig) -> Result<Device> {
    Err(
        Error::input("device.kind = \"cuda\": this binary was built without the feature \"cuda\"")
            .hint("cargo build --release --features cuda, or --set device.kind=cpu"),
    )
}

#[cfg(feature = "cuda")]
/// Both sides of a computation must lie on one device.
pub(crate) fn mixed(what: &str) -> Error {
    Error::internal(format!("{what} lie on different devices"))
}
