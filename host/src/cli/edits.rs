//! Arguments of `finegrain edits`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Colour, DEFAULT_STORE};
use crate::edits::diff::Order;

/// `finegrain edits`.
#[derive(Debug, Subcommand)]
pub enum EditsCommand {
    /// Count outcomes and measure edits: how much they change, how often, where, and what they took.
    #[command(
        after_help = "Examples:\n  finegrain edits stats runs/fine-token-ppo-seed1\n  finegrain edits stats edits/3f\n  \
        finegrain edits stats mine.jsonl --response before --edited after --json"
    )]
    Stats {
        /// What to read.
        #[command(flatten)]
        args: EditsArgs,
    },
    /// Show edits word by word, with their figures.
    #[command(
        after_help = "Examples:\n  finegrain edits diff runs/fine-token-ppo-seed1 --worst\n  \
        finegrain edits diff edits.jsonl --id p17"
    )]
    Diff {
        /// The row with this id alone, whatever came of it.
        #[arg(long, value_name = "ID", conflicts_with_all = ["n", "worst", "sort"])]
        id: Option<String>,
        /// How many edits.
        #[arg(long, value_name = "N", default_value = "5")]
        n: NonZeroUsize,
        /// Those that change the largest share first; the same as --sort share.
        #[arg(long, conflicts_with = "sort")]
        worst: bool,
        /// Which come first.
        #[arg(long, value_enum, default_value_t, value_name = "ORDER")]
        sort: Order,
        /// Whether changes are coloured; they stand in [-…-] and {+…+} where they are not.
        #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
        color: Colour,
        /// What to read.
        #[command(flatten)]
        args: EditsArgs,
    },
    /// Say which edits are not minimal, and why; with --judge, whether edits are better than their originals.
    #[command(
        after_help = "Examples:\n  finegrain edits check edits.jsonl --strict\n  \
        finegrain edits check runs/fine-token-ppo-seed1 --judge judge.toml --n 100\n\nThe file of --judge is a configuration \
        of which the section [judge], the plugins and the seed count. What a judge that asks a server is answered is kept in \
        the store and never paid twice."
    )]
    Check {
        /// End with exit code 1 where an edit would be set aside.
        #[arg(long)]
        strict: bool,
        /// Ask the judge of this configuration, in both orders.
        #[arg(long, value_name = "CONFIG")]
        judge: Option<PathBuf>,
        /// Edits that the judge is asked about, drawn by the configuration's seed.
        #[arg(long, value_name = "N", default_value = "100", requires = "judge")]
        n: NonZeroUsize,
        /// Change a key of the judge's configuration, as `key=value`. May be repeated.
        #[arg(long = "set", value_name = "KEY=VALUE", requires = "judge")]
        sets: Vec<String>,
        /// What to read.
        #[command(flatten)]
        args: EditsArgs,
    },
}

/// What the verbs share.
#[derive(Debug, Args)]
pub struct EditsArgs {
    /// A run's folder, a file of edits, or the beginning of the hash of an artifact of the stage edits.
    #[arg(value_name = "RUN|FILE|HASH")]
    pub edits: PathBuf,
    /// Of a file: the field with the id.
    #[arg(long, value_name = "FIELD", default_value = "id")]
    pub id_field: String,
    /// Of a file: the field with the prompt.
    #[arg(long, value_name = "FIELD", default_value = "prompt")]
    pub prompt: String,
    /// Of a file: the field with the response as it was.
    #[arg(long, value_name = "FIELD", default_value = "response")]
    pub response: String,
    /// Of a file: the field with the edit.
    #[arg(long, value_name = "FIELD", default_value = "edited")]
    pub edited: String,
    /// The store.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_STORE)]
    pub store: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}
