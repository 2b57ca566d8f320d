//! `finegrain generate`: continue a prompt, or answer it; the text alone goes to standard output.

use std::io::Write as _;

use crate::cli::GenerateArgs;
use crate::commands::{emit, interrupt, start_threads};
use crate::data::chat::{Message, Role};
use crate::error::Result;
use crate::model::{Completion, Sampling, answer, complete, locate};

pub(super) fn generate(args: &GenerateArgs) -> Result<()> {
    let sampling = Sampling {
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        max_new_tokens: args.max_tokens,
        eos: Vec::new(),
        weights: args.weights,
    };
    start_threads(args.threads)?;
    let cancel = interrupt::install()?;
    let model = locate(&args.model)?;
    let Completion { mut text, rounding } = if args.chat {
        let system = args.system.iter();
        let mut conversation: Vec<_> = system
            .map(|text| Message::new(Role::System, text))
            .collect();
        conversation.push(Message::new(Role::User, &args.prompt));
        answer(&model, &conversation, &sampling, args.seed, cancel)?
    } else {
        complete(&model, &args.prompt, &sampling, args.seed, cancel)?
    };
    text.push('\n');
    emit(&text)?;
    if let Some(rounding) = rounding {
        // The text is out; a closed standard error is no reason to fail.
        let _ = writeln!(std::io::stderr(), "{} weights: {rounding}", args.weights);
    }
    Ok(())
}
