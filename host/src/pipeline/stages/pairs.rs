//! The pairs stage: two samples of the SFT model for every pair of a prompt, ranked by the annotator, with label noise.
//!
//! As in AlpacaFarm: the annotator is asked in both orders; a tie is decided by a coin, and a share of the labels
//! (`pairs.label_noise`) is turned round, chosen at random. A part of the prompts is held out to test reward models on.

use std::path::Path;

use finegrain_sdk::CallContext;
use finegrain_sdk::rng::Stream;
use rand::RngExt;
use serde_json::json;

use super::evaluate::check_failures;
use super::{HELD_OUT_PAIRS, PAIRS, REWARD_PROMPTS};
use crate::config::Config;
use crate::data::jsonl;
use crate::data::records::{Pair, PairSource, PromptRecord, SampledIds, SetAside, SetAsideReason};
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::eval::{Contest, Outcome, Panel};
use crate::pipeline::context::StageContext;
use crate::pipeline::sampling::{Sampled, Sampler};
use crate::pipeline::store::{Artifact, StageKey};
use crate::pipeline::{Session, judges};

/// The pairs of a configuration whose task ranks samples.
pub fn obtain(
    session: &Session<'_>,
    config: &Config,
    data: &Artifact,
    sft: &Artifact,
    judge_model: Option<&Artifact>,
) -> Result<Artifact> {
    let annotator = judges::choose(session, &config.annotator, judge_model)?;
    let key = StageKey::new(
        "pairs",
        json!({
            "data": data.key,
            "sft": sft.key,
            "pairs": config.pairs,
            "annotator": annotator.fingerprint(),
            "seed": config.seed,
        }),
    );
    session.stage(config, "preference pairs", key, |context| {
        let (prompts, trained) = ranked(config, jsonl::read(&data.file(REWARD_PROMPTS))?);
        let (model, tokenizer) = super::sft::load(sft, context.device)?;
        let sampler = Sampler {
            model: &model,
            tokenizer: &tokenizer,
            template: &config.prompt_template,
            sampling: &config.pairs.sampling,
        };
        let sample =
            |name: &str| sampler.sample(context, &context.stream.child(name), &prompts, name);
        let (first, second) = (sample("first")?, sample("second")?);
        let outcomes = rank(
            context,
            &annotator.open(context.device, context.dir)?,
            &prompts,
            &first,
            &second,
        )?;
        check_failures("annotator", &config.annotator, &outcomes)?;
        let (mut pairs, mut set_aside) = (Vec::new(), Vec::new());
        let mut tested = Vec::new();
        for (row, ((prompt, outcome), (first, second))) in prompts
            .iter()
            .zip(&outcomes)
            .zip(first.into_iter().zip(second))
            .enumerate()
        {
            match label(
                &context.stream,
                &tokenizer,
                config.pairs.label_noise,
                prompt,
                outcome,
                first,
                second,
            ) {
                Ok(pair) if row < trained => pairs.push(pair),
                Ok(pair) => tested.push(pair),
                Err((reason, detail)) => set_aside.push(SetAside::new(&prompt.id, reason, detail)),
            }
        }
        context.set_aside(&set_aside)?;
        write(context.dir, &pairs, &tested, &set_aside)
    })
}

/// The prompts of the pairs of a configuration, and how many of these are to train on; the others are held out.
pub fn ranked(config: &Config, prompts: Vec<PromptRecord>) -> (Vec<PromptRecord>, usize) {
    let tested = (prompts.len() as f64 * config.pairs.held_out).round() as usize;
    repeat(prompts, tested, config.pairs.per_prompt)
}

/// The prompts, each as often as it gets a pair, and how many of these are to train on. The last `tested` prompts are for
/// testing and stand once, behind the others; prompts are in random order, so any part is as good as another.
fn repeat(
    prompts: Vec<PromptRecord>,
    tested: usize,
    per_prompt: usize,
) -> (Vec<PromptRecord>, usize) {
    let trained = prompts.len() - tested;
    let copies = prompts.into_iter().enumerate().flat_map(|(row, prompt)| {
        let copies = if row < trained { per_prompt } else { 1 };
        (0..copies).map(move |copy| match copy {
            0 => prompt.clone(),
            _ => PromptRecord {
                id: format!("{}.{copy}", prompt.id),
                ..prompt.clone()
            },
        })
    });
    (copies.collect(), trained * per_prompt)
}

fn rank(
    context: &StageContext<'_>,
    annotator: &Panel,
    prompts: &[PromptRecord],
    first: &[Sampled],
    second: &[Sampled],
) -> Result<Vec<Outcome>> {
    let contests: Vec<Contest<'_>> = prompts
        .iter()
        .zip(first.iter().zip(second))
        .map(|(prompt, (first, second))| Contest {
            id: &prompt.id,
            prompt: &prompt.prompt,
            reference: &first.text,
            model: &second.text,
        })
        .collect();
    let log = context.plugin_log();
    let progress = |done: u64, total: u64| context.observer.progress(done, total, "judged");
    let call = CallContext {
        progress: &progress,
        ..context.call("annotator", 0, &log)
    };
    annotator.judge(&contests, &call)
}

/// The pair of a prompt, or why there is none.
fn label(
    stream: &Stream,
    tokenizer: &Tokenizer,
    label_noise: f64,
    prompt: &PromptRecord,
    outcome: &Outcome,
    first: Sampled,
    second: Sampled,
) -> Result<Pair, (SetAsideReason, String)> {
    if first.ids == second.ids {
        return Err((
            SetAsideReason::Identical,
            "both samples are the same".into(),
        ));
    }
    let empty = |sample: &Sampled| tokenizer.shown(&sample.ids, sample.ended).is_empty();
    if empty(&first) || empty(&second) {
        return Err((
            SetAsideReason::EmptyResponse,
            "a sample has no token".into(),
        ));
    }
    let Some(preference) = outcome.preference else {
        let reason = outcome.failure.as_deref().unwrap_or("no reason was given");
        return Err((
            SetAsideReason::Failed,
            format!("the annotator failed: {reason}"),
        ));
    };
    let mut rng = stream.child("label").child(&prompt.id).rng();
    let coin: bool = rng.random();
    let flipped = rng.random::<f64>() < label_noise;
    let second_is_better = if preference == 0.5 {
        coin
    } else {
        preference > 0.5
    };
    let (chosen, rejected) = if second_is_better ^ flipped {
        (second, first)
    } else {
        (first, second)
    };
    let sampled = SampledIds {
        chosen: tokenizer.shown(&chosen.ids, chosen.ended),
        rejected: tokenizer.shown(&rejected.ids, rejected.ended),
    };
    Ok(Pair {
        id: prompt.id.clone(),
        prompt: prompt.prompt.clone(),
        chosen: chosen.text,
        rejected: rejected.text,
        chosen_ended: chosen.ended,
        rejected_ended: rejected.ended,
        flipped,
        source: PairSource::Pairs,
        sampled: Some(sampled),
    })
}

fn write(dir: &Path, pairs: &[Pair], tested: &[Pair], set_aside: &[SetAside]) -> Result<()> {
    if pairs.is_empty() {
        return Err(Error::input(format!(
            "no preference pairs are left; {} were set aside",
            set_aside.len()
        ))
        .hint("raise pairs.sampling.temperature or the number of prompts"));
    }
    jsonl::write(&dir.join(PAIRS), pairs)?;
    jsonl::write(&dir.join(HELD_OUT_PAIRS), tested)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tested_prompts_stand_once_and_behind_the_others() {
        let prompts = ["a", "b", "c"].map(|id| PromptRecord {
            id: id.into(),
            prompt: id.to_uppercase(),
        });
        let (all, trained) = repeat(prompts.to_vec(), 1, 2);
        let ids: Vec<&str> = all.iter().map(|prompt| prompt.id.as_str()).collect();
        assert_eq!(ids, ["a", "a.1", "b", "b.1", "c"]);
        assert_eq!(trained, 4);
        assert_eq!(all[3].prompt, "B");
    }
}
