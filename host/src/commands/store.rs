//! `finegrain store`: what lies in the store, whether it is sound, and the removal of what nobody uses.

use std::io::{self, Write as _};
use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;

use crate::cli::StoreCommand;
use crate::commands::{TABLE_WIDTH, emit, emit_json, interrupt};
use crate::error::{Error, Result};
use crate::pipeline::store::describe;
use crate::pipeline::store::gc::{GcOptions, gc};
use crate::pipeline::store::list::{Entry, find, scan};
use crate::pipeline::store::lock::Asker;
use crate::pipeline::store::verify::{Verdict, verify};

pub(super) fn store(command: &StoreCommand) -> Result<()> {
    let now = Timestamp::now();
    match command {
        StoreCommand::List(args) => {
            let contents = scan(&args.store)?;
            if args.json {
                emit_json(&describe::list_json(&contents, now))
            } else {
                emit(&describe::list(&contents, now, TABLE_WIDTH))
            }
        }
        StoreCommand::Show { hash, args } => {
            let contents = scan(&args.store)?;
            let entry = find(&contents.entries, hash)?;
            if args.json {
                emit_json(&describe::show_json(entry, now))
            } else {
                emit(&describe::show(entry, now, TABLE_WIDTH))
            }
        }
        StoreCommand::Verify {
            hashes,
            set_aside,
            args,
        } => check(&args.store, hashes, *set_aside, args.json),
        StoreCommand::Gc {
            dry_run,
            older_than,
            store,
        } => {
            let options = GcOptions {
                dry_run: *dry_run,
                older_than: older_than.unwrap_or_default(),
            };
            let report = with_asker(|asker| gc(store, &options, now, asker))?;
            emit(&describe::gc(&report, *dry_run))
        }
    }
}

/// A row of the check.
#[derive(Serialize)]
struct Checked<'a> {
    stage: &'a str,
    hash: &'a str,
    #[serde(flatten)]
    verdict: Verdict,
}

fn check(root: &Path, hashes: &[String], set_aside: bool, as_json: bool) -> Result<()> {
    let contents = scan(root)?;
    let chosen: Vec<&Entry> = if hashes.is_empty() {
        contents.entries.iter().collect()
    } else {
        hashes
            .iter()
            .map(|hash| find(&contents.entries, hash))
            .collect::<Result<_>>()?
    };
    let (mut rows, mut damaged) = (Vec::new(), 0);
    with_asker(|asker| {
        for entry in &chosen {
            let verdict = verify(root, entry, set_aside, asker)?;
            damaged += usize::from(verdict.is_damaged());
            if as_json {
                rows.push(Checked {
                    stage: &entry.stage,
                    hash: &entry.hash,
                    verdict,
                });
            } else {
                emit(&format!("{}: {verdict}\n", entry.id()))?;
            }
        }
        Ok(())
    })?;
    if as_json {
        emit_json(&rows)?;
    }
    if damaged == 0 {
        return Ok(());
    }
    let error = Error::gate(format!(
        "{damaged} of {} artifacts are damaged",
        chosen.len()
    ));
    Err(if set_aside {
        error.hint("their stages are computed again by the next run that needs them")
    } else {
        error.hint("a run that needs one sets it aside and computes it again; --set-aside does the former now")
    })
}

/// Does something that may wait and may be interrupted.
fn with_asker<T>(work: impl FnOnce(&Asker<'_>) -> Result<T>) -> Result<T> {
    let say = |text: &str| {
        let _ = writeln!(io::stderr(), "{text}");
    };
    work(&Asker {
        cancel: interrupt::install()?,
        note: &say,
        warn: &say,
    })
}
