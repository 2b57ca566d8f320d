//! `finegrain generate`: continue a prompt, or answer it; the text alone goes to standard output.

use std::io::Write as _;

use crate::cli::GenerateArgs;
use crate::commands::{emit, interrupt, start_threads};
use crate::data::chat::{Message, Role};
use crate::error::Result;
use crate::model::{Completion, Sampling, Source, answer, complete, locate};

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
    let path = locate(&args.model)?;
    let base = args.base.as_deref().map(locate).transpose()?;
    let model = Source {
        path: &path,
        base: base.as_deref(),
    };
    let Completion {
        mut text,
        rounding,
        remarks,
    } = if args.chat {
        let system = args.system.iter();
        let mut conversation: Vec<_> = system
            .map(|text| Message::new(Role::System, text))
            .collect();
        conversation.push(Message::new(Role::User, &args.prompt));
        answer(model, &conversation, &sampling, args.seed, cancel)?
    } else {
        complete(model, &args.prompt, &sampling, args.seed, cancel)?
    };
    text.push('\n');
    emit(&text)?;
    for remark in remarks {
        // The text is out; a closed standard error is no reason to fail.
        let _ = writeln!(std::io::stderr(), "warning: {remark}");
    }
    if let Some(rounding) = rounding {
        let _ = writeln!(std::io::stderr(), "{} weights: {rounding}", args.weights);
    }
    Ok(())
}
