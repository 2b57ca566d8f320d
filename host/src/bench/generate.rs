//! Sampling at temperature 1 from prompts, with a KV cache; no token ends a row.

use std::sync::atomic::AtomicBool;

use finegrain_sdk::rng::Stream;

use super::{Plan, model, random_rows, repeat, timed};
use crate::error::{Error, Result};
use crate::model::{CausalLm, RoundingEffect, Sampling, generate};

/// Laying the weights out for sampling is part of the work: PPO does it once a rollout.
pub(super) fn run(plan: &Plan, cancel: &AtomicBool) -> Result<Vec<f64>> {
    let work = Work::new(plan)?;
    repeat(plan, cancel, |repetition| {
        let (stream, prompts) = work.prompts(repetition);
        let (elapsed, responses) = timed(plan, || {
            generate(&work.model, &prompts, &work.sampling, &stream, cancel)
        })?;
        let new = work.sampling.max_new_tokens;
        if responses.iter().all(|response| response.ids.len() == new) {
            Ok(elapsed)
        } else {
            Err(Error::internal(format!("a response has not {new} tokens")))
        }
    })
}

/// What rounded weights do to the log-probabilities of the tokens of the first repetition.
pub(super) fn rounding(plan: &Plan, cancel: &AtomicBool) -> Result<Option<RoundingEffect>> {
    let work = Work::new(plan)?;
    let (stream, prompts) = work.prompts(0);
    let responses = generate(&work.model, &prompts, &work.sampling, &stream, cancel)?;
    RoundingEffect::measure(&work.model, &prompts, &responses, work.sampling.temperature)
}

struct Work<'a> {
    plan: &'a Plan,
    stream: Stream,
    model: CausalLm,
    sampling: Sampling,
}

impl<'a> Work<'a> {
    fn new(plan: &'a Plan) -> Result<Self> {
        let stream = Stream::new(plan.seed).child("bench");
        Ok(Self {
            plan,
            model: model(plan, &stream.child("model"))?,
            stream,
            sampling: Sampling {
                weights: plan.weights,
                ..Sampling::at_temperature(1.0, plan.batch.new_tokens(), Vec::new())
            },
        })
    }

    /// The random stream of a repetition and its prompts.
    fn prompts(&self, repetition: u64) -> (Stream, Vec<Vec<u32>>) {
        let stream = self.stream.index(repetition);
        let batch = self.plan.batch;
        let vocabulary = self.plan.shape.vocabulary;
        let prompts = random_rows(&stream, batch.rows, batch.prompt, vocabulary);
        (stream, prompts)
    }
}
