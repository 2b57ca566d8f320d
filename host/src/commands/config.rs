//! `finegrain config`: what a configuration resolves to, and the reference of all keys.

use crate::cli::ConfigCommand;
use crate::commands::{emit, emit_json};
use crate::config;
use crate::error::Result;

pub(super) fn config(command: &ConfigCommand) -> Result<()> {
    match command {
        ConfigCommand::Show { config, sets, json } => {
            let config = config::load(config, sets)?;
            if *json {
                emit_json(&config)
            } else {
                emit(&config.to_toml()?)
            }
        }
        ConfigCommand::Reference => emit(&config::reference_markdown()),
    }
}
