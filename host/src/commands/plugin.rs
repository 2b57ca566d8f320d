//! `finegrain plugin`: what plugins there are, and what one of them does.

use crate::cli::{PluginArgs, PluginCommand};
use crate::error::Result;
use crate::plugins::{PluginSearch, Registry};

pub(super) fn plugin(command: &PluginCommand) -> Result<()> {
    match command {
        PluginCommand::List(args) => {
            let _ = registry(args)?;
        }
        PluginCommand::Info { name, args } => {
            let _ = registry(args)?.by_id(name)?;
        }
    }
    Ok(())
}

fn registry(args: &PluginArgs) -> Result<Registry> {
    Registry::load(&PluginSearch {
        paths: args.plugins.clone(),
        use_environment: true,
        allow: None,
    })
}
