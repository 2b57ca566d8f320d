//! The processor and its memory, as Linux describes them.

use super::{Finding, Status};
use crate::proc_files;

pub(super) fn processor() -> Finding {
    let name = proc_files::field("/proc/cpuinfo", "model name")
        .unwrap_or_else(|| std::env::consts::ARCH.into());
    match std::thread::available_parallelism() {
        Ok(threads) => Finding::fine("processor", format!("{name}, {threads} threads")),
        Err(error) => Finding {
            status: Status::Failed,
            hint: Some("--threads of `run` and `compare` says how many to start".into()),
            ..Finding::fine("processor", format!("{name}; {error}"))
        },
    }
}

pub(super) fn memory() -> Finding {
    let gib = |name| {
        let bytes = proc_files::bytes("/proc/meminfo", name)?;
        Some(bytes as f64 / f64::from(1 << 30))
    };
    let found = match (gib("MemTotal"), gib("MemAvailable")) {
        (Some(total), Some(free)) => format!("{total:.1} GiB, {free:.1} GiB available"),
        _ => "this system does not say how much there is".into(),
    };
    Finding::fine("memory", found)
}
