//! Sampling at temperature 1 from prompts of half the length, with a KV cache; no token ends a row.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use finegrain_sdk::rng::Stream;

use super::{Plan, random_rows, repeat};
use crate::error::{Error, Result};
use crate::model::{Llama, Sampling, generate};

/// Laying the weights out for sampling is part of the work: PPO does it once a rollout.
pub(super) fn run(plan: &Plan, cancel: &AtomicBool) -> Result<Vec<f64>> {
    let stream = Stream::new(plan.seed).child("bench");
    let config = plan.shape.config(plan.batch.length);
    let model = Llama::new(config, &stream.child("model"))?;
    let new = plan.batch.new_tokens();
    let sampling = Sampling::at_temperature(1.0, new, Vec::new());
    repeat(plan, cancel, |repetition| {
        let stream = stream.index(repetition);
        let (rows, length) = (plan.batch.rows, plan.batch.prompt());
        let prompts = random_rows(&stream, rows, length, plan.shape.vocabulary);
        let start = Instant::now();
        let responses = generate(&model, &prompts, &sampling, &stream, cancel)?;
        let elapsed = start.elapsed();
        if responses.iter().all(|response| response.ids.len() == new) {
            Ok(elapsed)
        } else {
            Err(Error::internal(format!("a response has not {new} tokens")))
        }
    })
}
