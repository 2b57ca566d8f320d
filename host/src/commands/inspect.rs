//! `finegrain inspect`: a finished run in the terminal.

use std::fmt::Write as _;

use serde_json::json;

use crate::cli::InspectArgs;
use crate::commands::{emit, emit_json};
use crate::error::{Error, Result};
use crate::inspect::overview::{self, View};
use crate::inspect::run::{Folder, open};
use crate::inspect::tokens;
use crate::pipeline::stages::token_views;

pub(super) fn inspect(args: &InspectArgs) -> Result<()> {
    let run = match open(&args.run)? {
        Folder::Run(run) => run,
        Folder::Comparison(runs) => {
            if args.tokens.is_some() || args.metric.is_some() {
                return Err(Error::input(format!(
                    "{} is a comparison of {} runs; --tokens and --metric look into one",
                    args.run.display(),
                    runs.len()
                ))
                .hint(format!("finegrain inspect {}", runs[0].display())));
            }
            if args.json {
                return emit_json(&json!({ "runs": runs }));
            }
            let mut text = format!("{} is a comparison; its runs:\n", args.run.display());
            for run in runs {
                let _ = writeln!(text, "  finegrain inspect {}", run.display());
            }
            return emit(&text);
        }
    };
    if let Some(id) = &args.tokens {
        let Some(rows) = run.tokens()? else {
            let said = format!(
                "This run has no {}: its tokens were not kept.",
                token_views::TOKENS
            );
            return if args.json {
                emit_json(&json!({ "tokens": null, "note": said }))
            } else {
                emit(&format!("{said}\n"))
            };
        };
        let row = tokens::find(&rows, id)?;
        if args.json {
            return emit_json(row);
        }
        let coloured = args.color.is_on();
        return emit(&tokens::render(row, args.by, coloured)?);
    }
    let view = View {
        metric: args.metric.as_deref(),
        samples: args.samples,
        sort: args.sort,
    };
    if args.json {
        return emit_json(&overview::json(&run, &view));
    }
    emit(&overview::render(&run, &view))
}
