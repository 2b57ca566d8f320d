//! The processor and its memory, as Linux describes them.

use std::fs;

use super::{Finding, Status};

pub(super) fn processor() -> Finding {
    let name =
        field("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.into());
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
    let bytes = |name| {
        let value = field("/proc/meminfo", name)?;
        let kibibytes: f64 = value.split_whitespace().next()?.parse().ok()?;
        Some(kibibytes / f64::from(1 << 20))
    };
    let found = match (bytes("MemTotal"), bytes("MemAvailable")) {
        (Some(total), Some(free)) => format!("{total:.1} GiB, {free:.1} GiB available"),
        _ => "this system does not say how much there is".into(),
    };
    Finding::fine("memory", found)
}

/// What stands behind a name and a colon in one of the system's files.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|(found, _)| found.trim() == name)?;
    Some(value.trim().to_owned())
}
