//! Forward, backward and an AdamW step of the next-token loss over all positions, f32, without clipping.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use candle_core::Device;
use finegrain_sdk::rng::Stream;

use super::{Plan, random_rows, repeat};
use crate::data::ragged::TokenBatch;
use crate::error::{Error, Result};
use crate::model::Llama;
use crate::train::adamw::{AdamW, OptimizerConfig};
use crate::train::gradients::surrogate;

/// A model in training.
struct Trainer {
    model: Llama,
    optimizer: AdamW,
}

impl Trainer {
    fn new(plan: &Plan, stream: &Stream) -> Result<Self> {
        let config = plan.shape.config(plan.batch.length);
        let model = Llama::new(config, &stream.child("model"), &Device::Cpu)?;
        let optimizer = AdamW::new(model.parameters(), &OptimizerConfig::default())?;
        Ok(Self { model, optimizer })
    }

    /// The work that is timed; returns the mean loss in nats.
    fn step(&mut self, batch: &TokenBatch) -> Result<f64> {
        let logprobs = self.model.log_probs(batch, 1.0)?.logprobs;
        let values = logprobs.to_vec1::<f32>()?;
        let weight = -1.0 / values.len() as f32;
        self.optimizer
            .accumulate(&surrogate(&logprobs, &vec![weight; values.len()])?)?;
        self.optimizer.step(1e-5, 1.0)?;
        Ok(-values.iter().map(|&x| f64::from(x)).sum::<f64>() / values.len() as f64)
    }
}

pub(super) fn run(plan: &Plan, cancel: &AtomicBool) -> Result<Vec<f64>> {
    let stream = Stream::new(plan.seed).child("bench");
    let mut trainer = Trainer::new(plan, &stream)?;
    repeat(plan, cancel, |repetition| {
        let batch = batch(plan, &stream.index(repetition));
        let start = Instant::now();
        let loss = trainer.step(&batch)?;
        let elapsed = start.elapsed();
        if loss.is_finite() {
            Ok(elapsed)
        } else {
            Err(Error::internal(format!("the loss is {loss}")))
        }
    })
}

/// Rows whose first token alone is prompt, so that every other is predicted.
fn batch(plan: &Plan, stream: &Stream) -> TokenBatch {
    let mut batch = TokenBatch::new();
    let (rows, length) = (plan.batch.rows, plan.batch.length);
    for row in random_rows(stream, rows, length, plan.shape.vocabulary) {
        let (prompt, response) = row.split_at(1);
        batch.push(prompt, response);
    }
    batch
}
