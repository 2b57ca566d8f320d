//! Arguments of `finegrain judge`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::CommonArgs;

/// `finegrain judge`.
#[derive(Debug, Subcommand)]
pub enum JudgeCommand {
    /// Ask the judge about pairs of which it is known which response is preferred: agreement, beside what the longer response
    /// alone would give. Answers of model servers are kept; a second call asks nothing.
    #[command(
        after_help = "Examples:\n  finegrain judge calibrate judge.toml --data preferences.jsonl\n  \
        finegrain judge calibrate judge.toml --data feedback.jsonl --field prompt=question \\\n    \
        --field \"first=prediction 1\" --field \"second=prediction 2\" --field preference=preference.0 --n 200\n  \
        finegrain judge calibrate judge.toml --data outputs_prefs.jsonl --join prompts.jsonl \\\n    \
        --field prompt=instruction --field first=output_davinci003 --field second=output --field preference=preference\n\n\
        Layouts of files and what fields are: docs/data.md. Figures: docs/evaluation.md.",
        mut_arg("dry_run", |flag| flag.help("Only read the pairs and say how many comparisons would be asked for"))
    )]
    Calibrate(CalibrateArgs),
}

/// `finegrain judge calibrate`.
#[derive(Debug, Args)]
pub struct CalibrateArgs {
    /// The configuration whose `[judge]` is asked.
    pub config: PathBuf,
    /// The file or folder of pairs, in a layout of docs/data.md.
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
    /// Where a row has something: `prompt`, `input`, `chosen` and `rejected`, or `first`, `second` and `preference` (1 or 2; 1.5 and
    /// 0 are ties), `id`; without any, the layout is told by the keys of the first row. May be repeated.
    #[arg(long = "field", value_name = "NAME=PATH")]
    pub fields: Vec<String>,
    /// A second file, whose rows have the keys that those of the first lack: prompts that stand apart from the responses.
    #[arg(long, value_name = "FILE")]
    pub join: Option<PathBuf>,
    /// The field by which rows of both files belong together.
    #[arg(long, value_name = "PATH", default_value = "id", requires = "join")]
    pub on: String,
    /// Ask about so many of the pairs, drawn by the configuration's seed; about all where absent.
    #[arg(long, value_name = "N")]
    pub n: Option<NonZeroUsize>,
    /// Write every pair with what each judge said of it, as JSON lines.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Shared flags.
    #[command(flatten)]
    pub common: CommonArgs,
}
