//! The optimizer's state of one set of parameters, where the parameters are.

use std::borrow::Cow;

use super::OptimizerConfig;
use crate::device::Device;
use crate::error::Result;
use crate::model::parameters::ParameterSet;

/// m and v of one set of parameters, and how to step through it.
#[derive(Debug)]
pub(super) struct Moments {
    pub(super) values: Values,
    /// Runs of values that decay alike: how many, and whether they do.
    pub(super) runs: Vec<(usize, bool)>,
}

/// m, then v, where the parameters are.
#[derive(Debug)]
pub(super) enum Values {
    Host([Vec<f32>; 2]),
    #[cfg(feature = "cuda")]
    Device([crate::device::Buffer<f32>; 2]),
}

impl Values {
    fn zeros(device: &Device, count: usize) -> Result<Self> {
        Ok(match device {
            Device::Cpu => Self::Host([vec![0.0; count], vec![0.0; count]]),
            #[cfg(feature = "cuda")]
            Device::Cuda(gpu) => Self::Device([gpu.zeros(count)?, gpu.zeros(count)?]),
        })
    }

    /// Copies of both, or the values themselves.
    pub(super) fn get(&self) -> Result<[Cow<'_, [f32]>; 2]> {
        Ok(match self {
            Self::Host([m, v]) => [Cow::Borrowed(m), Cow::Borrowed(v)],
            #[cfg(feature = "cuda")]
            Self::Device([m, v]) => [Cow::Owned(m.download()?), Cow::Owned(v.download()?)],
        })
    }

    pub(super) fn set(
        &mut self,
        index: usize,
        fill: impl FnOnce(&mut [f32]) -> Result<()>,
    ) -> Result<()> {
        match self {
            Self::Host(values) => fill(&mut values[index]),
            #[cfg(feature = "cuda")]
            Self::Device(values) => {
                let mut filled = vec![0.0; values[index].len()];
                fill(&mut filled)?;
                let gpu = values[index].gpu().clone();
                values[index].view_mut().fill(&gpu, &filled)
            }
        }
    }
}

impl Moments {
    pub(super) fn zeros(
        set: &ParameterSet,
        count: usize,
        config: &OptimizerConfig,
    ) -> Result<Self> {
        let (entries, device) = (set.entries(), &set.device());
        let mut runs: Vec<(usize, bool)> = Vec::new();
        for entry in entries.iter().filter(|entry| entry.range.end <= count) {
            let decays =
                config.weight_decay > 0.0 && (config.decay_vectors || entry.shape.len() > 1);
            match runs.last_mut() {
                Some((values, same)) if *same == decays => *values += entry.range.len(),
                _ => runs.push((entry.range.len(), decays)),
            }
        }
        Ok(Self {
            values: Values::zeros(device, count)?,
            runs,
        })
    }
}
