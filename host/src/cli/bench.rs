//! Arguments of `finegrain bench`.

use clap::{Args, Subcommand};

use crate::device::{DeviceKind, Dtype};
use crate::model::SamplingWeights;

/// `finegrain bench`.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Forward, backward and an AdamW step of the next-token loss over all positions.
    Train {
        /// Shared flags.
        #[command(flatten)]
        args: BenchArgs,
        /// Time batches of a quarter to twice the rows and half to four times the length instead.
        #[arg(long, conflicts_with = "profile")]
        sweep: bool,
        /// How training goes.
        #[command(flatten)]
        training: BenchTraining,
    },
    /// Sample what follows the prompts at temperature 1 with a KV cache; no token ends a row.
    Generate {
        /// Shared flags.
        #[command(flatten)]
        args: BenchArgs,
        /// In which format the weights are kept; also prints what rounding does to the log-probabilities of the sampled
        /// tokens.
        #[arg(long, value_enum, default_value_t)]
        weights: SamplingWeights,
    },
    /// One iteration of PPO: sampling, four models of one shape, two epochs over the rollout as one minibatch.
    Ppo {
        /// Shared flags.
        #[command(flatten)]
        args: BenchArgs,
        /// How training goes. With --lora, one frozen set of weights serves policy, reference, reward model and critic, each
        /// with an adapter of its own.
        #[command(flatten)]
        training: BenchTraining,
        /// Tokens that go through a model together; decides memory, not results. 0 takes all.
        #[arg(long, default_value_t = 4096)]
        micro_batch_tokens: usize,
    },
}

/// How the benches train.
#[derive(Clone, Copy, Debug, Args)]
pub struct BenchTraining {
    /// Keep layer inputs alone and compute the other activations again: less memory, more time.
    #[arg(long)]
    pub recompute: bool,
    /// Train adapters of this rank on all maps instead of the weights.
    #[arg(long, value_name = "RANK")]
    pub lora: Option<usize>,
}

/// What the benches share.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// The model: small, medium, smollm2, llama-7b, or the sizes V,C,LAYERS,HEADS,KV,FFN.
    #[arg(long, default_value = "small")]
    pub shape: String,
    /// With explicit sizes: the output head is the embedding table.
    #[arg(long)]
    pub tied: bool,
    /// Rows and tokens a row; a named shape has its own.
    #[arg(long, value_name = "ROWSxLENGTH")]
    pub batch: Option<String>,
    /// Tokens of a prompt, where there are prompts; the rest of a row is sampled. Half a row where absent.
    #[arg(long, value_name = "N")]
    pub prompt: Option<usize>,
    /// Where the models live.
    #[arg(long, value_enum, default_value_t)]
    pub device: DeviceKind,
    /// Which GPU.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub ordinal: usize,
    /// The dtype of weights and activations on a GPU, bf16 where absent; the processor computes in f32.
    #[arg(long, value_enum)]
    pub dtype: Option<Dtype>,
    /// Repetitions that count.
    #[arg(long, default_value_t = 5)]
    pub repetitions: usize,
    /// Repetitions before them, which do not.
    #[arg(long, default_value_t = 1)]
    pub warm_up: usize,
    /// On a GPU: one more repetition, and what every operation took in it.
    #[arg(long)]
    pub profile: bool,
    /// Decides ids and weights.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Threads; 0 takes one per core.
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}
