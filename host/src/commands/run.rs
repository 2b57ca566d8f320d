//! `finegrain run`: one configuration, start to end.

use std::slice;

use crate::cli::RunArgs;
use crate::commands::{TABLE_WIDTH, announce, emit, emit_json, session, warn_of_self_preference};
use crate::config;
use crate::device::Device;
use crate::error::Result;
use crate::pipeline::comparison;
use crate::pipeline::run_dir::RunDir;
use crate::report;

pub(super) fn run(args: &RunArgs) -> Result<()> {
    let config = config::load(&args.config, &args.common.sets)?;
    let out = match &args.out {
        Some(out) => out.clone(),
        None => format!("runs/{}-seed{}", config.name, config.seed).into(),
    };
    let session = session(&args.common, [&config])?;
    session.check_plugins(&config)?;
    let warnings = warn_of_self_preference(&session, [&config]);
    if announce(&args.common, &session, slice::from_ref(&config))? {
        return Ok(());
    }
    // Before anything runs; a dry run needs no GPU.
    Device::open(&config.device)?;
    let dir = RunDir::open(&out)?;
    let finished = dir.run(&session, &config)?;
    let mut result = comparison::summarise(&[vec![finished]], None)?;
    result.notes.extend(warnings);
    dir.write_result(&result)?;
    if args.common.json {
        return emit_json(&result);
    }
    emit(&report::tables::render(&result, TABLE_WIDTH))?;
    emit(&format!(
        "\nEverything of this run lies in {}; report.html shows it.\n",
        out.display()
    ))
}
