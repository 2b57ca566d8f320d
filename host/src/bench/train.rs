//! Forward, backward and an AdamW step of the next-token loss over all positions, without clipping.

use std::sync::atomic::AtomicBool;

use finegrain_sdk::rng::Stream;

use super::{Plan, adapted, model, random_rows, repeat, timed};
use crate::data::ragged::TokenBatch;
use crate::error::{Error, Result};
use crate::model::CausalLm;
use crate::train::adamw::{AdamW, OptimizerConfig};

/// A model in training.
struct Trainer {
    model: CausalLm,
    optimizer: AdamW,
}

impl Trainer {
    fn new(plan: &Plan, stream: &Stream) -> Result<Self> {
        let model = adapted(
            &model(plan, &stream.child("model"))?,
            plan,
            &stream.child("lora"),
        )?;
        let optimizer = AdamW::new(&model, &OptimizerConfig::default())?;
        Ok(Self { model, optimizer })
    }

    /// The work that is timed; returns the mean loss in nats.
    fn step(&mut self, batch: &TokenBatch) -> Result<f64> {
        let pass = self.model.log_probs_pass(batch, 1.0)?;
        let values = pass.logprobs();
        let count = values.len();
        let sum: f64 = values.iter().map(|&x| f64::from(x)).sum();
        let gradient = vec![-1.0 / count as f32; count];
        let gradients = self.optimizer.gradients();
        pass.backward(&self.model, &gradient, None, gradients)?;
        self.optimizer.step(&mut self.model, 1e-5, 1.0)?;
        Ok(-sum / count as f64)
    }
}

pub(super) fn run(plan: &Plan, cancel: &AtomicBool) -> Result<Vec<f64>> {
    let stream = Stream::new(plan.seed).child("bench");
    let mut trainer = Trainer::new(plan, &stream)?;
    repeat(plan, cancel, |repetition| {
        let batch = batch(plan, &stream.index(repetition));
        let (elapsed, loss) = timed(plan, || trainer.step(&batch))?;
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
