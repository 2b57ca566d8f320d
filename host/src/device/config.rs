//! The section [device].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where models live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeviceConfig {
    /// `cpu` or `cuda`.
    pub kind: DeviceKind,
    /// Which GPU, counted as the driver counts them (`CUDA_VISIBLE_DEVICES` applies).
    pub ordinal: usize,
    /// The dtype of weights and activations on a GPU; trained weights have an f32 master copy beside it, and sums, losses
    /// and moments are f32 (docs/cuda.md). The processor computes in f32.
    pub dtype: Dtype,
}

/// A kind of device.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceKind {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
}

/// The dtype of weights and activations on a GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Dtype {
    /// bfloat16: 8 bits of precision, the range of f32.
    #[default]
    Bf16,
    /// float32, without tensor cores.
    F32,
}

impl Dtype {
    /// Bytes of an element.
    pub fn size(self) -> usize {
        match self {
            Self::Bf16 => 2,
            Self::F32 => 4,
        }
    }
}
