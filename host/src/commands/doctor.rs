//! `finegrain doctor`: whether this machine has what runs need.

use crate::cli::DoctorArgs;
use crate::commands::{emit, emit_json};
use crate::device::DeviceKind;
use crate::doctor::examine;
use crate::error::Result;
use crate::plugins::PluginSearch;

pub(super) fn doctor(args: &DoctorArgs) -> Result<()> {
    let search = PluginSearch {
        paths: args.plugins.clone(),
        use_environment: true,
        allow: None,
    };
    let findings = examine(&search, &args.store, args.require == Some(DeviceKind::Cuda));
    if args.json {
        emit_json(&findings)?;
    } else {
        emit(&findings.to_string())?;
    }
    findings.failure().map_or(Ok(()), Err)
}
