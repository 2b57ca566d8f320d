//! Arguments of `finegrain plan`.

use std::path::PathBuf;

use bytesize::ByteSize;
use clap::Args;

use crate::device::DeviceKind;

/// `finegrain plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The configuration.
    pub config: PathBuf,
    /// Change an existing key, as `key=value`. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
    /// Load plugins from this library or folder too: they say whether a critic or a reward model is needed. May be repeated.
    #[arg(long = "plugin", value_name = "PATH")]
    pub plugins: Vec<PathBuf>,
    /// Where the models live; as device.kind says where absent.
    #[arg(long, value_enum)]
    pub device: Option<DeviceKind>,
    /// The device's memory, such as 80GiB, 24GB or 81920MiB; where absent, 80 GiB of a GPU, and this machine's for the CPU.
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    pub device_memory: Option<u64>,
    /// Tokens of the longest prompt with its template, where the configuration does not bound them.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=u64::from(u32::MAX)))]
    pub prompt_tokens: Option<u64>,
    /// Tokens of the longest response in the data (demonstrations, edits), likewise.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=u64::from(u32::MAX)))]
    pub response_tokens: Option<u64>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// A number of bytes with its unit: `80GiB` are 80 · 2³⁰, `80GB` 80 · 10⁹.
fn memory(text: &str) -> Result<u64, String> {
    let accepted = "accepted: a number and its unit, such as 80GiB, 24GB or 81920MiB";
    let size: ByteSize = text.parse().map_err(|_| accepted.to_owned())?;
    if size.as_u64() == 0 || !text.contains(char::is_alphabetic) {
        return Err(accepted.to_owned());
    }
    Ok(size.as_u64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_a_number_with_its_unit() {
        for (text, bytes) in [
            ("80GiB", 80 << 30),
            ("24GB", 24_000_000_000),
            ("1.5 TiB", 3 << 39),
            ("81920MiB", 80 << 30),
        ] {
            assert_eq!(memory(text), Ok(bytes), "{text}");
        }
        for text in ["", "80", "0GiB", "-1GiB", "many", "8 parsecs"] {
            let error = memory(text).unwrap_err();
            assert!(error.contains("accepted: a number"), "{text}: {error}");
        }
    }
}
