//! `finegrain plugin`: what plugins there are, and what one of them does.

use crate::cli::{PluginArgs, PluginCommand};
use crate::commands::{TABLE_WIDTH, emit, emit_json};
use crate::error::Result;
use crate::plugins::{PluginSearch, Registry, describe};

pub(super) fn plugin(command: &PluginCommand) -> Result<()> {
    match command {
        PluginCommand::List(args) => {
            let registry = registry(args)?;
            if args.json {
                emit_json(&describe::list_json(&registry))
            } else {
                emit(&describe::list(&registry, TABLE_WIDTH))
            }
        }
        PluginCommand::Info { name, args } => {
            let registry = registry(args)?;
            let listed = registry.by_id(name)?;
            if args.json {
                emit_json(&describe::info_json(listed))
            } else {
                emit(&describe::info(listed, TABLE_WIDTH))
            }
        }
    }
}

fn registry(args: &PluginArgs) -> Result<Registry> {
    Registry::load(&PluginSearch {
        paths: args.plugins.clone(),
        use_environment: true,
        allow: None,
    })
}
