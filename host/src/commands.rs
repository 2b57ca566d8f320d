//! One file a verb, and what they share: the exit of data, errors and interrupts.

mod answers;
mod bench;
mod compare;
mod config;
mod doctor;
mod edits;
mod generate;
mod inspect;
mod interrupt;
mod judge;
mod plan;
mod plugin;
mod report;
mod run;
mod store;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, Write};

use clap::CommandFactory;

use crate::cli::{Cli, Command, CommonArgs};
use crate::config::Config;
use crate::data::records::counted;
use crate::error::{Error, Result};
use crate::model::is_here;
use crate::pipeline::observer::Show;
use crate::pipeline::stages::data;
use crate::pipeline::store::Store;
use crate::pipeline::{Session, plan as plan_of_stages, self_preference};
use crate::plugins::{PluginSearch, Registry};

/// Rows that a plan names one by one, at most.
const SHOWN: usize = 10;

/// Columns that printed tables keep to.
pub(crate) const TABLE_WIDTH: u16 = 100;

/// Does what was typed.
pub fn dispatch(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Compare(args) => compare::compare(&args),
        Command::Plan(args) => plan::plan(&args),
        Command::Inspect(args) => inspect::inspect(&args),
        Command::Report(args) => report::report(&args),
        Command::Plugin(command) => plugin::plugin(&command),
        Command::Generate(args) => generate::generate(&args),
        Command::Bench(command) => bench::bench(&command),
        Command::Store(command) => store::store(&command),
        Command::Answers(command) => answers::answers(&command),
        Command::Judge(command) => judge::judge(&command),
        Command::Edits(command) => edits::edits(&command),
        Command::Doctor(args) => doctor::doctor(&args),
        Command::Config(command) => config::config(&command),
        Command::Completions { shell } => {
            let mut out = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "finegrain", &mut out);
            emit_bytes(&out)
        }
    }
}

/// Prints an error and its hint on standard error.
pub fn print_error(error: &Error) {
    let red = console::style("error:").red().bold().for_stderr();
    // Nothing is left to do where standard error itself is gone.
    let _ = writeln!(io::stderr(), "{red} {error}");
    if let Some(hint) = error.hint_text() {
        let _ = writeln!(
            io::stderr(),
            "{} {hint}",
            console::style("hint:").cyan().bold().for_stderr()
        );
    }
}

/// What `run` and `compare` work with: threads, plugins, the store, the interrupt flag.
pub(crate) fn session<'c>(
    args: &CommonArgs,
    configs: impl IntoIterator<Item = &'c Config>,
) -> Result<Session<'static>> {
    let mut search = PluginSearch {
        paths: args.plugins.clone(),
        use_environment: true,
        allow: None,
    };
    let mut threads = 0;
    let mut nothing_to_run = true;
    for config in configs {
        nothing_to_run = false;
        threads = threads.max(config.threads);
        for path in &config.plugins.paths {
            if !search.paths.contains(path) {
                search.paths.push(path.clone());
            }
        }
        if let Some(allow) = &config.plugins.allow {
            search
                .allow
                .get_or_insert_default()
                .extend(allow.iter().cloned());
        }
    }
    start_threads(args.threads.unwrap_or(threads))?;
    let store = if args.dry_run || nothing_to_run {
        Store::unopened(&args.store)
    } else {
        Store::open(&args.store)?
    };
    Ok(Session::new(
        store,
        Registry::load(&search)?,
        interrupt::install()?,
        rayon::current_num_threads(),
        if args.quiet {
            Show::Nothing
        } else {
            Show::Progress
        },
    ))
}

/// Plans runs. With `--dry-run`, prints the plan and says that nothing is left to do; otherwise says in one line on standard
/// error what is coming.
pub(crate) fn announce(args: &CommonArgs, session: &Session<'_>, runs: &[Config]) -> Result<bool> {
    if args.quiet && !args.dry_run {
        return Ok(false);
    }
    if args.dry_run {
        check_models_are_here(runs)?;
    }
    let mut plan = plan_of_stages::plan(session, runs)?;
    if !args.dry_run {
        // A line for the user; where standard error is gone, nobody misses it.
        let _ = writeln!(io::stderr(), "{}", plan_of_stages::in_one_line(&plan));
        return Ok(false);
    }
    plan.servers = Some(plan_of_stages::servers::forecast(session, runs, &plan)?);
    if args.json {
        emit_json(&plan)?;
    } else {
        emit(&plan_of_stages::table(&plan, TABLE_WIDTH))?;
    }
    // Runs with the same data are read once.
    let mut said = BTreeSet::new();
    for config in runs {
        if let Some(key) = data::key_of_files(config)?
            && said.insert(key.to_string())
        {
            foresee(config)?;
        }
    }
    Ok(true)
}

/// Warns on standard error, a line each, where a configuration's editor and judge are one model; the sentences belong beside the
/// result.
pub(crate) fn warn_of_self_preference<'c>(
    session: &Session<'_>,
    configs: impl IntoIterator<Item = &'c Config>,
) -> Vec<String> {
    let warnings: BTreeSet<String> = configs
        .into_iter()
        .filter_map(|config| self_preference::warning(&session.registry, config))
        .collect();
    for warning in &warnings {
        // For the user; where standard error is gone, nobody misses it.
        let _ = writeln!(io::stderr(), "warning: {warning}");
    }
    warnings.into_iter().collect()
}

/// Says on standard error which rows the data stage of a run would set aside, as far as the model is the reason.
///
/// # Errors
/// Data that the run could not use.
pub(crate) fn foresee(config: &Config) -> Result<()> {
    let rows = data::foresee(config)?;
    if rows.is_empty() {
        return Ok(());
    }
    let mut text = format!(
        "{}: data: rows that will be set aside: {}\n",
        config.name,
        counted(&rows)
    );
    for row in rows
        .iter()
        .filter(|row| row.reason.is_of_model())
        .take(SHOWN)
    {
        // Writing into a text cannot fail.
        let _ = writeln!(text, "  row {:?}: {}", row.id, row.detail);
    }
    // For the user; where standard error is gone, nobody misses it.
    let _ = write!(io::stderr(), "{text}");
    Ok(())
}

/// A plan needs the hash of every model that training starts from, and a dry run downloads nothing.
fn check_models_are_here(runs: &[Config]) -> Result<()> {
    for path in runs.iter().filter_map(|config| config.model.path.as_ref()) {
        if !is_here(path).map_err(|error| error.context("model.path"))? {
            return Err(Error::input(format!(
                "model.path: {} is not cached, and without it nothing is known of any stage",
                path.display()
            ))
            .hint("leave out --dry-run, which downloads it"));
        }
    }
    Ok(())
}

/// Starts the one pool of the whole process, for operations and for products; 0 is a thread per core.
fn start_threads(threads: usize) -> Result<()> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .map_err(|error| Error::internal(format!("cannot start {threads} threads: {error}")))
}

/// Sends data to standard output.
pub(crate) fn emit(text: &str) -> Result<()> {
    emit_bytes(text.as_bytes())
}

fn emit_bytes(bytes: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        // A reader that has seen enough (`| head`) is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Error::internal(format!(
            "cannot write to standard output: {error}"
        ))),
        Ok(()) => Ok(()),
    }
}

/// Sends a value as JSON to standard output.
pub(crate) fn emit_json(value: &impl serde::Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|error| Error::internal(format!("result does not serialise: {error}")))?;
    text.push('\n');
    emit(&text)
}
