//! `finegrain generate`: continue a prompt; the text alone goes to standard output.

use crate::cli::GenerateArgs;
use crate::commands::{emit, interrupt};
use crate::error::Result;
use crate::model::{Sampling, complete};

pub(super) fn generate(args: &GenerateArgs) -> Result<()> {
    let sampling = Sampling {
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        max_new_tokens: args.max_tokens,
        eos: Vec::new(),
    };
    let mut text = complete(
        &args.model,
        &args.prompt,
        &sampling,
        args.seed,
        interrupt::install()?,
    )?;
    text.push('\n');
    emit(&text)
}
