//! A device for tests: the machine's GPU where there is one, the emulator of `tests/emulator` elsewhere.

#![allow(clippy::print_stderr, reason = "a test that skips says why")]

use std::sync::{Arc, OnceLock};

use super::{Device, DeviceConfig, DeviceKind, Dtype, Gpu};

/// The GPU that tests of CUDA run on, or why there is none, printed once a test. `FINEGRAIN_CUDA_LIBRARIES` chooses other
/// libraries than the emulator's, as it does for the command.
pub(crate) fn gpu(dtype: Dtype) -> Option<Arc<Gpu>> {
    match Device::open(&config(dtype)?) {
        Ok(Device::Cuda(gpu)) => Some(gpu),
        Ok(Device::Cpu) => unreachable!("a GPU was asked for"),
        Err(error) => panic!("{error}"),
    }
}

/// The same, opened for one test alone: nobody else's buffers count in its memory.
pub(crate) fn own_gpu(dtype: Dtype) -> Option<Arc<Gpu>> {
    Some(Gpu::open(&config(dtype)?).expect("the GPU opens"))
}

fn config(dtype: Dtype) -> Option<DeviceConfig> {
    static EMULATOR: OnceLock<Result<(), String>> = OnceLock::new();
    let prepared = EMULATOR.get_or_init(|| {
        if std::env::var_os(super::libraries::FOLDERS).is_some() {
            return Ok(());
        }
        let folder = finegrain_cuda_emulator::libraries()?;
        super::libraries::look_in(folder);
        Ok(())
    });
    if let Err(reason) = prepared {
        eprintln!("skipped: {reason}");
        return None;
    }
    Some(DeviceConfig {
        kind: DeviceKind::Cuda,
        dtype,
        ..DeviceConfig::default()
    })
}
