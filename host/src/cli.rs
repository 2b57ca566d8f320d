//! What can be typed. Data go to standard output, everything else to standard error.

mod answers;
mod bench;
mod edits;
mod judge;
mod plan;
mod store;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

pub use answers::{AnswersArgs, AnswersCommand};
pub use bench::{BenchArgs, BenchCommand, BenchTraining};
pub use edits::{EditsArgs, EditsCommand};
pub use judge::{CalibrateArgs, JudgeCommand};
pub use plan::PlanArgs;
pub use store::{StoreArgs, StoreCommand};

use crate::device::DeviceKind;
use crate::inspect::samples::Sort;
use crate::inspect::tokens::By;
use crate::model::SamplingWeights;
use crate::plugins::PluginKind;

/// Align language models with fine-grained (token-level) supervision.
#[derive(Debug, Parser)]
#[command(version, about, long_about = LONG_ABOUT, after_help = EXIT_CODES, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const LONG_ABOUT: &str = "Align language models with fine-grained (token-level) supervision.

SFT, minimal edits, a reward model with a score for every token, PPO, evaluation: each step is a plugin or a section of
a TOML file. PPO-RLHF, fine-grained PPO and fine-grained token-level PPO are three files that differ in a few lines.";

const EXIT_CODES: &str = "Exit codes: 0 done, 1 a gate of the run failed, 2 wrong input, 3 internal error, \
4 a plugin was refused or failed, 130 interrupted.";

/// Where the store lies unless the user says otherwise.
const DEFAULT_STORE: &str = "runs/store";

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run one configuration: SFT, edits, reward model, PPO, evaluation.
    #[command(
        after_help = "Example:\n  finegrain run configs/sandbox/fine-token-ppo.toml --set seed=2"
    )]
    Run(RunArgs),
    /// Run several configurations, share what they have in common, and print the three tables.
    #[command(
        after_help = "Examples:\n  finegrain compare configs/sandbox/*.toml\n  \
        finegrain compare configs/sandbox/*.toml --seeds 1,2,3 --dry-run\n  \
        finegrain compare configs/sandbox/*.toml --seeds 1,2,3 --jobs 2\n  \
        finegrain compare sweep.toml            # a file with a grid in [sweep]: every point is a variant\n  \
        finegrain compare runs/a-seed1 runs/b-seed1 c.toml   # finished runs, and a file to be run beside them\n  \
        finegrain compare configs/edit-pairs/*.toml --set data.path=edits.jsonl --set model.path=llama --seeds 1,2,3"
    )]
    Compare(CompareArgs),
    /// Say how much memory a run takes at most, stage by stage, and what would make it fit; nothing is run or downloaded.
    #[command(
        after_help = "Examples:\n  finegrain plan configs/sandbox/fine-token-ppo.toml\n  \
        finegrain plan configs/examples/llama-7b-lora.toml --device cuda --device-memory 80GiB\n  \
        finegrain plan configs/edit-pairs/ppo-rlhf.toml --set data.path=edits.jsonl --set model.path=llama-7b \\\n    \
        --device cuda --device-memory 40GB --prompt-tokens 192 --response-tokens 300\n\n\
        A folder with the model's config.json is enough for model.path. The exit code is 1 where the peak is above the \
        memory.\nFormulas and assumptions: docs/memory.md. (Which stages are cached: finegrain run CONFIG --dry-run.)"
    )]
    Plan(PlanArgs),
    /// Look into a finished run: stages, metrics as sparklines, samples, tokens by reward.
    #[command(
        after_help = "Examples:\n  finegrain inspect runs/fine-token-ppo-seed1\n  \
        finegrain inspect runs/fine-token-ppo-seed1 --metric policy/ --samples 0\n  \
        finegrain inspect runs/fine-token-ppo-seed1 --tokens eval-3 --by advantage"
    )]
    Inspect(InspectArgs),
    /// Write one HTML file about a finished run or comparison, and its figures as CSV.
    #[command(after_help = "Examples:\n  finegrain report runs/sandbox\n  \
        finegrain report runs/ppo-rlhf-seed1 --out ppo-rlhf.html")]
    Report(ReportArgs),
    /// List plugins, show what one does and which options it has, or begin one of your own.
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Continue a prompt, or answer it with --chat; the text alone goes to standard output.
    #[command(
        after_help = "Examples:\n  finegrain generate --model FOLDER --prompt \"Once upon a time\" --temperature 0\n  \
        finegrain generate --model SmolLM2-135M-Instruct.gguf --chat --prompt \"What is the capital of France?\"\n  \
        finegrain generate --model HuggingFaceTB/SmolLM2-135M-Instruct@main --chat --system \"Be brief.\" --prompt Hello"
    )]
    Generate(GenerateArgs),
    /// Time whole workloads on random ids and fresh weights, beside the least time they can take.
    #[command(
        subcommand,
        after_help = "Examples:\n  finegrain bench train --shape medium\n  \
        finegrain bench train --sweep\n  finegrain bench generate --shape 512,128,4,4,2,344 --batch 16x128\n  \
        finegrain bench ppo --shape llama-7b --lora 8 --device cuda"
    )]
    Bench(BenchCommand),
    /// Hold a configuration's judge against preferences that are known.
    #[command(
        subcommand,
        after_help = "Example:\n  finegrain judge calibrate judge.toml --data preferences.jsonl --n 200"
    )]
    Judge(JudgeCommand),
    /// Look at the store of finished stages, check it, and remove what no run uses.
    #[command(
        subcommand,
        after_help = "Examples:\n  finegrain store list\n  finegrain store show sft/3f\n  \
        finegrain store verify --set-aside\n  finegrain store gc --dry-run --older-than 7d"
    )]
    Store(StoreCommand),
    /// Look at what model servers have answered, what it cost, and choose questions to be asked again.
    #[command(
        subcommand,
        after_help = "Examples:\n  finegrain answers list\n  finegrain answers cost --json\n  finegrain answers again --refused"
    )]
    Answers(AnswersCommand),
    /// Measure, show and check edits: those of a run, of the store, or of a file that anybody made.
    #[command(
        subcommand,
        after_help = "Examples:\n  finegrain edits stats runs/fine-token-ppo-seed1\n  finegrain edits diff edits.jsonl --worst\n  \
        finegrain edits check edits.jsonl --judge judge.toml"
    )]
    Edits(EditsCommand),
    /// Show a resolved configuration, or the reference of all keys.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Say what this machine has of what runs need: processor, memory, plugins, the store, CUDA's libraries, GPUs. Exit code 2
    /// where something that is needed is missing.
    #[command(
        after_help = "Examples:\n  finegrain doctor\n  finegrain doctor --require cuda --json"
    )]
    Doctor(DoctorArgs),
    /// Print completions for a shell.
    #[command(
        after_help = "Example:\n  finegrain completions bash > ~/.local/share/bash-completion/completions/finegrain"
    )]
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// What `run` and `compare` share.
#[derive(Debug, Args)]
pub struct CommonArgs {
    /// Change an existing key, as `key=value` (TOML notation; bare words are text). May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
    /// Where finished stages lie, shared by all runs that use it.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_STORE)]
    pub store: PathBuf,
    /// Load plugins from this library or folder too. May be repeated.
    #[arg(long = "plugin", value_name = "PATH")]
    pub plugins: Vec<PathBuf>,
    /// Only say which stages there are, which of them are cached, and how long the others may take; with --json, as JSON.
    #[arg(long)]
    pub dry_run: bool,
    /// Print the result as JSON on standard output.
    #[arg(long)]
    pub json: bool,
    /// No progress on standard error.
    #[arg(long, short)]
    pub quiet: bool,
    /// Threads, whatever the configurations say; 0 takes one per core. Results do not depend on it.
    #[arg(long)]
    pub threads: Option<usize>,
}

/// `finegrain run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The configuration.
    pub config: PathBuf,
    /// The run's folder; `runs/NAME-seedN` where absent.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Shared flags.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// `finegrain compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Configurations, one a variant, or with a grid (sweep) one for each of its points; and folders of finished runs. A file named
    /// base.toml is what others build on and is left out.
    #[arg(required = true, value_name = "CONFIG|RUN")]
    pub inputs: Vec<PathBuf>,
    /// Run every configuration with each of these seeds; where absent, with those of the finished runs that are named, or
    /// with its own.
    #[arg(long, value_name = "N,N", value_delimiter = ',')]
    pub seeds: Vec<u64>,
    /// Runs that go on at the same time. They share threads and memory is needed for all of them; results do not depend on it.
    #[arg(long, value_name = "N", default_value = "1")]
    pub jobs: NonZeroUsize,
    /// The comparison's folder; `runs/FOLDER-OF-THE-FIRST-CONFIG` where absent.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// The variant that the others are compared with; the one named ppo-rlhf, or else the first, where absent.
    #[arg(long, value_name = "NAME")]
    pub baseline: Option<String>,
    /// Shared flags.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// `finegrain inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// The run's folder; of a comparison's, the runs in it are listed.
    pub run: PathBuf,
    /// Show the metrics whose names have this in them; `*` stands for anything.
    #[arg(long, value_name = "PATTERN")]
    pub metric: Option<String>,
    /// How many samples to show.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub samples: usize,
    /// Which samples; so many of the best and of the worst where absent.
    #[arg(long, value_enum)]
    pub sort: Option<Sort>,
    /// Show the tokens of the response with this id, and nothing else.
    #[arg(long, value_name = "ID")]
    pub tokens: Option<String>,
    /// What the tokens are shown by.
    #[arg(long, value_enum, default_value_t, requires = "tokens")]
    pub by: By,
    /// Whether tokens are coloured; numbers stand under them where they are not.
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    pub color: Colour,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// When to print colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Colour {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Colour {
    /// Whether to colour.
    pub fn is_on(self) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            // A terminal, and no NO_COLOR in the environment.
            Self::Auto => console::colors_enabled(),
        }
    }
}

/// `finegrain report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// The folder of a run or a comparison.
    #[arg(value_name = "RUN|COMPARISON")]
    pub path: PathBuf,
    /// The HTML file; `report.html` in the folder where absent. CSV files always go to `report/` in the folder.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// `finegrain plugin`.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// List the built-in plugins and those that are found.
    List(PluginArgs),
    /// Show what a plugin does, its papers, options and origin.
    #[command(after_help = "Example:\n  finegrain plugin info reward/token-average")]
    Info {
        /// The plugin as KIND/NAME, or NAME where only one kind has it.
        name: String,
        /// Shared flags.
        #[command(flatten)]
        args: PluginArgs,
    },
    /// Write a crate with a small plugin that works, for you to change; its files are listed on standard output.
    #[command(after_help = "Examples:\n  finegrain plugin new reward half-price\n  \
        finegrain plugin new judge fair --dir ../plugins/judge-fair")]
    New {
        /// What the plugin decides.
        kind: PluginKind,
        /// What configurations will call it: lower-case letters, digits and hyphens, the first a letter.
        name: String,
        /// The folder to make; NAME in the current folder where absent.
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

/// What `list` and `info` share.
#[derive(Debug, Args)]
pub struct PluginArgs {
    /// Look at this library or folder too. May be repeated.
    #[arg(long = "plugin", value_name = "PATH")]
    pub plugins: Vec<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `finegrain generate`.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// A model: a Hugging Face folder, a .gguf file, or a hub id such as org/name or org/name@revision.
    #[arg(long, value_name = "MODEL")]
    pub model: PathBuf,
    /// The model under an adapter, if it is not where the adapter's configuration says; named as --model names models.
    #[arg(long, value_name = "MODEL")]
    pub base: Option<PathBuf>,
    /// The text to continue; with --chat, the user's turn.
    #[arg(long)]
    pub prompt: String,
    /// Put the prompt into the model's chat template and print the answer alone.
    #[arg(long)]
    pub chat: bool,
    /// The system message of the conversation.
    #[arg(long, requires = "chat")]
    pub system: Option<String>,
    /// Divides the logits; 0 takes the likeliest token.
    #[arg(long, default_value_t = 1.0)]
    pub temperature: f64,
    /// Sample from the likeliest tokens whose probabilities sum up to this.
    #[arg(long, default_value_t = 1.0)]
    pub top_p: f64,
    /// Sample from this many likeliest tokens; 0 takes all.
    #[arg(long, default_value_t = 0)]
    pub top_k: usize,
    /// Tokens to add at most.
    #[arg(long, default_value_t = 128)]
    pub max_tokens: usize,
    /// In which format the weights are kept while sampling. Where they are rounded, standard error says what that did to the
    /// log-probabilities of the sampled tokens.
    #[arg(long, value_enum, default_value_t)]
    pub weights: SamplingWeights,
    /// The seed.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Threads; 0 takes one per core.
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
}

/// `finegrain doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// What runs shall use: with cuda, what is missing for a GPU is a failure.
    #[arg(long, value_enum, value_name = "DEVICE")]
    pub require: Option<DeviceKind>,
    /// Load plugins from this library or folder too. May be repeated.
    #[arg(long = "plugin", value_name = "PATH")]
    pub plugins: Vec<PathBuf>,
    /// Where finished stages lie.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_STORE)]
    pub store: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `finegrain config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print a configuration with its bases, overrides and defaults in place.
    Show {
        /// The configuration.
        config: PathBuf,
        /// Change an existing key. May be repeated.
        #[arg(long = "set", value_name = "KEY=VALUE")]
        sets: Vec<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the reference of every key, as Markdown.
    Reference,
}
