//! `finegrain edits`: figures, diffs and checks of edits, whoever made them.

use std::io::{self, Write as _};
use std::path::Path;

use finegrain_sdk::CallContext;
use finegrain_sdk::context::LogLevel;
use finegrain_sdk::rng::Stream;
use serde_json::json;

use crate::cli::{EditsArgs, EditsCommand};
use crate::commands::{emit, emit_json, interrupt};
use crate::config::{self, Config};
use crate::data::fields::FieldPath;
use crate::edits::better::{self, Better};
use crate::edits::check::{self, Checked};
use crate::edits::diff::{self, Layout, Order};
use crate::edits::figures::{Measure, Opened};
use crate::edits::source::{EditSet, Fields};
use crate::edits::stats::{self, Stats};
use crate::error::{Error, Result};
use crate::inspect::WIDTH;
use crate::pipeline::store::Store;
use crate::plugins::{JudgeInstance, PluginSearch, Registry};

pub(super) fn edits(command: &EditsCommand) -> Result<()> {
    match command {
        EditsCommand::Stats { args } => {
            let set = read(args)?;
            let opened = Opened::of(&set)?;
            let stats = Stats::of(&set, &Measure::new(set.run.as_ref(), opened.as_ref()))?;
            if args.json {
                return emit_json(&stats);
            }
            emit(&stats::render(&stats))
        }
        EditsCommand::Diff {
            id,
            n,
            worst,
            sort,
            color,
            args,
        } => {
            let order = if *worst { Order::Share } else { *sort };
            let coloured = color.is_on();
            show(args, id.as_deref(), n.get(), order, coloured)
        }
        EditsCommand::Check {
            strict,
            judge,
            n,
            sets,
            args,
        } => {
            let set = read(args)?;
            let opened = Opened::of(&set)?;
            let measure = Measure::new(set.run.as_ref(), opened.as_ref());
            let checked = Checked::of(&set, check::limits(&set)?, &measure)?;
            let better = match judge {
                Some(path) => {
                    let config = config::load(path, sets)?;
                    Some(ask(&set, &config, n.get(), &args.store)?)
                }
                None => None,
            };
            if args.json {
                emit_json(&json!({ "check": checked, "judged": better }))?;
            } else {
                let mut text = check::render(&checked);
                if let Some(better) = &better {
                    text.push('\n');
                    text += &better::render(better);
                }
                emit(&text)?;
            }
            if *strict { checked.strictly() } else { Ok(()) }
        }
    }
}

fn read(args: &EditsArgs) -> Result<EditSet> {
    let fields = Fields {
        id: FieldPath::new(&*args.id_field),
        prompt: FieldPath::new(&*args.prompt),
        response: FieldPath::new(&*args.response),
        edited: FieldPath::new(&*args.edited),
    };
    EditSet::read(&args.edits, &args.store, &fields)
}

fn show(args: &EditsArgs, id: Option<&str>, n: usize, order: Order, coloured: bool) -> Result<()> {
    let set = read(args)?;
    let opened = Opened::of(&set)?;
    let measure = Measure::new(set.run.as_ref(), opened.as_ref());
    let rows = match id {
        Some(id) => {
            let row = diff::find(&set, id)?;
            vec![(row, measure.of(row)?)]
        }
        None => diff::chosen(&set, &measure, order, n)?
            .into_iter()
            .map(|(row, figures)| (row, Some(figures)))
            .collect(),
    };
    if args.json {
        let rows = rows
            .iter()
            .map(|(row, figures)| json!({ "edit": row, "figures": figures }));
        return emit_json(&json!({
            "from": set.from,
            "unit": measure.unit(),
            "rows": rows.collect::<Vec<_>>(),
        }));
    }
    let layout = Layout {
        // Of what is no terminal, as wide as a table.
        width: console::Term::stdout()
            .size_checked()
            .map_or(WIDTH, |(_, columns)| usize::from(columns)),
        coloured,
    };
    let unit = measure.unit().name();
    let shown = rows.iter().map(|(row, figures)| {
        diff::render(row, figures.as_ref().map(|found| (found, unit)), layout)
    });
    let text = shown.collect::<Vec<_>>().join("\n");
    if text.is_empty() {
        return emit(&format!("{}: no row has an edit\n", set.from));
    }
    emit(&text)
}

/// What the judge of a configuration says of some edits.
fn ask(set: &EditSet, config: &Config, n: usize, store: &Path) -> Result<Better> {
    if config.judge.asks_reward_model() {
        return Err(Error::input(
            "the configuration's judge is a reward model, which a run would have to train",
        )
        .hint("accepted: judges that are plugins, such as claude, openai or rubric"));
    }
    let registry = Registry::load(&PluginSearch {
        paths: config.plugins.paths.clone(),
        use_environment: true,
        allow: config.plugins.allow.clone(),
    })?;
    let judges: Vec<(String, JudgeInstance)> = config
        .judge
        .members()
        .into_iter()
        .map(|it| Ok((it.name.to_owned(), registry.judge(it.plugin, it.options)?)))
        .collect::<Result<_>>()?;
    // Only a judge that asks a server has answers to keep.
    let store = if judges.iter().any(|(_, judge)| judge.capabilities().network) {
        Store::open(store)?
    } else {
        Store::unopened(store)
    };
    let answers = store.paid_answers();
    let log = |level, message: &str| {
        // For the user; where standard error is gone, nobody misses it.
        let _ = match level {
            LogLevel::Debug => Ok(()),
            LogLevel::Info => writeln!(io::stderr(), "{message}"),
            LogLevel::Warn => writeln!(io::stderr(), "warning: {message}"),
        };
    };
    let context = CallContext {
        seed: Stream::new(config.seed)
            .child("edits")
            .child("judge")
            .seed(),
        step: 0,
        threads: rayon::current_num_threads() as u32,
        cancel: interrupt::install()?,
        log: &log,
        progress: &|_, _| {},
        answers: Some(&answers),
    };
    better::judge(set, judges, n, config.seed, &context)
}
