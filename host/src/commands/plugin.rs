//! `finegrain plugin`: what plugins there are, what one of them does, and the beginning of a new one.

use std::io::{self, Write};
use std::path::Path;

use crate::cli::{PluginArgs, PluginCommand};
use crate::commands::{TABLE_WIDTH, emit, emit_json};
use crate::error::Result;
use crate::plugins::scaffold::{self, Sdk};
use crate::plugins::{PluginKind, PluginSearch, Registry, describe};

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
        PluginCommand::New { kind, name, dir } => {
            let folder = dir.as_deref().unwrap_or(Path::new(name));
            new(*kind, name, folder)
        }
    }
}

fn new(kind: PluginKind, name: &str, folder: &Path) -> Result<()> {
    let written = scaffold::create(kind, name, folder, &Sdk::of_this_build())?;
    let list: Vec<String> = written
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    emit(&format!("{}\n", list.join("\n")))?;
    let next = scaffold::what_next(kind, name, folder);
    // The crate is there, whether or not anybody reads this.
    let _ = io::stderr().write_all(next.as_bytes());
    Ok(())
}

fn registry(args: &PluginArgs) -> Result<Registry> {
    Registry::load(&PluginSearch {
        paths: args.plugins.clone(),
        use_environment: true,
        allow: None,
    })
}
