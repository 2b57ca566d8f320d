//! Arguments of `finegrain answers`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::DEFAULT_STORE;

/// `finegrain answers`.
#[derive(Debug, Subcommand)]
pub enum AnswersCommand {
    /// List the answers in the order in which they came: key, plugin, row, model, what it says and cost.
    #[command(
        after_help = "Examples:\n  finegrain answers list\n  finegrain answers list --plugin editor-claude --refused"
    )]
    List {
        /// Those of this plugin alone, such as editor-claude.
        #[arg(long, value_name = "NAME")]
        plugin: Option<String>,
        /// Those alone that decline.
        #[arg(long)]
        refused: bool,
        /// Those alone that cannot be used: cut off, empty.
        #[arg(long)]
        unusable: bool,
        /// Shared flags.
        #[command(flatten)]
        args: AnswersArgs,
    },
    /// Show the answers to a question: the request as it was sent, the response as it came.
    #[command(
        after_help = "Examples:\n  finegrain answers show 3f9a\n  finegrain answers show 3f9a --json"
    )]
    Show {
        /// The beginning of the question's key.
        key: String,
        /// Shared flags.
        #[command(flatten)]
        args: AnswersArgs,
    },
    /// Read every answer and compare its hashes; exit code 1 where one is damaged.
    Verify(AnswersArgs),
    /// What the answers cost, by plugin and model, and what may be paid without an answer.
    Cost(AnswersArgs),
    /// List the batches: id, state, how many of their questions are answered, since when.
    Batches(AnswersArgs),
    /// End a batch at the server: what it has answered is paid and can be taken, the rest is free.
    #[command(
        after_help = "Example:\n  finegrain answers cancel-batch msgbatch_01HkcTjaV5uDC8jWR4ZsDV8d"
    )]
    CancelBatch {
        /// The server's id of the batch.
        id: String,
        /// The environment variable that holds the key, where it is not the API's usual one.
        #[arg(long, value_name = "NAME", default_value = "")]
        api_key_env: String,
        /// The store.
        #[arg(long, value_name = "DIR", default_value = DEFAULT_STORE)]
        store: PathBuf,
    },
    /// Expect nothing more of a batch that the server does not know any more: its questions are asked, and paid, again.
    GiveUpBatch {
        /// The server's id of the batch, or its intent where it has none.
        id: String,
        /// The store.
        #[arg(long, value_name = "DIR", default_value = DEFAULT_STORE)]
        store: PathBuf,
    },
    /// Ask some questions again: their answers count no more, and the next run that needs them pays for new ones.
    #[command(
        after_help = "Examples:\n  finegrain answers again 3f9a 77c0\n  finegrain answers again --refused --dry-run"
    )]
    Again {
        /// The beginnings of the questions' keys.
        keys: Vec<String>,
        /// All questions whose answer declines.
        #[arg(long)]
        refused: bool,
        /// All questions whose answer cannot be used.
        #[arg(long)]
        unusable: bool,
        /// Only say which.
        #[arg(long)]
        dry_run: bool,
        /// The store.
        #[arg(long, value_name = "DIR", default_value = DEFAULT_STORE)]
        store: PathBuf,
    },
}

/// What the verbs share.
#[derive(Debug, Args)]
pub struct AnswersArgs {
    /// The store.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_STORE)]
    pub store: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}
