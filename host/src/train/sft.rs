//! Supervised fine-tuning: −Σ log π(response token) over the response tokens of a batch, divided by their number.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::adamw::{AdamW, OptimizerConfig};
use super::batching::{micro_batches, shuffled};
use super::forward;
use super::gradients::surrogate;
use super::schedule::{Decay, ScheduleConfig};
use crate::data::ragged::TokenBatch;
use crate::error::{Context, Error, Result};
use crate::model::Llama;
use crate::pipeline::context::StageContext;

/// Supervised fine-tuning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SftConfig {
    /// Passes over the demonstrations. AlpacaFarm: 3.
    #[schemars(range(min = 1))]
    pub epochs: u64,
    /// Demonstrations per optimizer step. AlpacaFarm: 128.
    #[schemars(range(min = 1))]
    pub batch_rows: usize,
    /// Tokens that go through the model together; decides memory, not results (gradients add up). 0 = all.
    pub micro_batch_tokens: usize,
    /// Peak learning rate. AlpacaFarm: 2e-5.
    #[schemars(range(min = 0.0))]
    pub learning_rate: f64,
    /// Warm-up and decay over all steps. AlpacaFarm: cosine with a warm-up of 3%.
    pub schedule: ScheduleConfig,
    /// AdamW.
    pub optimizer: OptimizerConfig,
}

impl Default for SftConfig {
    fn default() -> Self {
        Self {
            epochs: 3,
            batch_rows: 128,
            micro_batch_tokens: 4096,
            learning_rate: 2e-5,
            schedule: ScheduleConfig {
                decay: Decay::Cosine,
                warmup_steps: 0,
                warmup_ratio: 0.03,
            },
            optimizer: OptimizerConfig::default(),
        }
    }
}

impl SftConfig {
    /// Refuses values outside their ranges.
    pub fn validate(&self) -> Result<()> {
        for (key, count) in [("epochs", self.epochs), ("batch_rows", self.batch_rows as u64)] {
            if count == 0 {
                return Err(Error::input(format!("sft.{key}: 0 is not accepted; at least 1 is")));
            }
        }
        if !(self.learning_rate >= 0.0 && self.learning_rate.is_finite()) {
            return Err(Error::input(format!(
                "sft.learning_rate: {} is not accepted; a finite number of at least 0 is",
                self.learning_rate
            )));
        }
        self.schedule.validate("sft.schedule")?;
        self.optimizer.validate("sft.optimizer")
    }
}

/// The held-out loss before training and after every epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SftReport {
    /// Nats per response token, over all held-out responses; empty where none are held out.
    pub held_out_losses: Vec<f64>,
    /// Optimizer steps.
    pub optimizer_steps: u64,
}

/// Trains `policy` in place on the rows of `train`. A response should end with EOS; the prompt is not trained on.
///
/// # Errors
/// No rows, a row without a response, a loss that is not finite (naming step and row), an interruption.
pub fn run(
    policy: &Llama,
    train: &TokenBatch,
    held_out: &TokenBatch,
    config: &SftConfig,
    context: &StageContext<'_>,
) -> Result<SftReport> {
    config.validate()?;
    if train.rows() == 0 {
        return Err(Error::input("sft: there are no demonstrations"));
    }
    if let Some(row) = (0..train.rows()).find(|&row| train.response(row).is_empty()) {
        return Err(Error::input(format!("sft: demonstration {row} has an empty response")));
    }
    let mut optimizer = AdamW::new(policy.parameters(), &config.optimizer)?;
    let steps = train.rows().div_ceil(config.batch_rows) as u64 * config.epochs;
    let mut held_out_losses = Vec::new();
    let evaluate = |step: u64, losses: &mut Vec<f64>| -> Result<()> {
        if held_out.responses().values().is_empty() {
            return Ok(());
        }
        let loss = mean_loss(policy, held_out, config.micro_batch_tokens)?;
        context.observer.metrics(step, &[("sft/held_out_loss", loss)]);
        losses.push(loss);
        Ok(())
    };
    evaluate(0, &mut held_out_losses)?;
    let mut step = 0;
    for epoch in 0..config.epochs {
        let order = shuffled(train.rows(), &context.stream.child("batches").index(epoch));
        for rows in order.chunks(config.batch_rows) {
            context.check_cancelled()?;
            let lr = config.learning_rate * config.schedule.factor(step, steps);
            let (loss, tokens) = accumulate(policy, train, rows, config.micro_batch_tokens, &mut optimizer)
                .context(format!("sft step {step}"))?;
            let norm = optimizer
                .clip_and_step(lr)
                .context(format!("sft step {step}"))?;
            step += 1;
            context.observer.metrics(
                step,
                &[
                    ("sft/loss", loss),
                    ("sft/lr", lr),
                    ("sft/grad_norm", norm),
                    ("sft/response_tokens", tokens as f64),
                ],
            );
            context.observer.progress(step, steps, &format!("loss {loss:.4}"));
        }
        evaluate(step, &mut held_out_losses)?;
    }
    Ok(SftReport {
        held_out_losses,
        optimizer_steps: step,
    })
}

/// The mean loss over the response tokens of a batch, in nats, without training.
pub fn mean_loss(policy: &Llama, batch: &TokenBatch, micro_batch_tokens: usize) -> Result<f64> {
    let (logprobs, _) = forward::log_probs(policy, batch, 1.0, micro_batch_tokens)?;
    Ok(-logprobs.iter().map(|&x| f64::from(x)).sum::<f64>() / logprobs.len() as f64)
}

/// Adds the gradients of the mean loss of `rows`; returns the loss and its number of tokens.
fn accumulate(
    policy: &Llama,
    train: &TokenBatch,
    rows: &[usize],
    micro_batch_tokens: usize,
    optimizer: &mut AdamW,
) -> Result<(f64, usize)> {
    let batch = forward::select(train, rows.iter().copied());
    let tokens = batch.responses().values().len();
    let mut loss = 0.0;
    for micro in micro_batches(&forward::row_lengths(&batch), micro_batch_tokens) {
        let part = forward::select(&batch, micro.clone());
        let logprobs = policy.log_probs(&part, 1.0)?.logprobs;
        let values = logprobs.to_vec1::<f32>()?;
        let responses = part.responses();
        forward::check_finite("the log-probability", &values, responses.offsets(), &rows[micro])?;
        loss -= values.iter().map(|&x| f64::from(x)).sum::<f64>();
        let weight = -1.0 / tokens as f32;
        optimizer.accumulate(&surrogate(&logprobs, &vec![weight; values.len()])?)?;
    }
    Ok((loss / tokens as f64, tokens))
}
