//! Supervised fine-tuning: −Σ log π(response token) over the response tokens of a batch, divided by their number.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::adamw::{AdamW, OptimizerConfig};
use super::batching::{micro_batches, shuffled};
use super::forward;
use super::schedule::{Decay, ScheduleConfig};
use crate::data::ragged::TokenBatch;
use crate::error::{Context, Error, Result};
use crate::model::CausalLm;
use crate::pipeline::checkpoints::{Snapshot, parameters, restore_parameters};
use crate::pipeline::context::StageContext;
use crate::telemetry::not_finite::OffendingRows;

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
        for (key, count) in [
            ("epochs", self.epochs),
            ("batch_rows", self.batch_rows as u64),
        ] {
            if count == 0 {
                return Err(Error::input(format!(
                    "sft.{key}: 0 is not accepted; at least 1 is"
                )));
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
    policy: &mut CausalLm,
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
        return Err(Error::input(format!(
            "sft: demonstration {row} has an empty response"
        )));
    }
    let mut optimizer = AdamW::new(policy, &config.optimizer)?;
    let steps_per_epoch = train.rows().div_ceil(config.batch_rows) as u64;
    let steps = steps_per_epoch * config.epochs;
    let mut held_out_losses = Vec::new();
    let mut start = 0;
    if let Some((state, saved)) = context.checkpoints.resume::<State>()? {
        restore_parameters("policy", policy, saved)?;
        optimizer.restore("optimizer", state.optimizer_steps, saved)?;
        (start, held_out_losses) = (saved.step(), state.held_out_losses);
    }
    let evaluate = |policy: &CausalLm, step: u64, losses: &mut Vec<f64>| -> Result<()> {
        if held_out.responses().values().is_empty() {
            return Ok(());
        }
        let loss = mean_loss(policy, held_out, config.micro_batch_tokens)?;
        context
            .observer
            .metrics(step, &[("sft/held_out_loss", loss)]);
        losses.push(loss);
        Ok(())
    };
    if start == 0 {
        evaluate(policy, 0, &mut held_out_losses)?;
    }
    let stream = context.stream.child("batches");
    for epoch in start / steps_per_epoch..config.epochs {
        let order = shuffled(train.rows(), &stream.index(epoch));
        let batches = (epoch * steps_per_epoch..).zip(order.chunks(config.batch_rows));
        for (step, rows) in batches.filter(|&(step, _)| step >= start) {
            let lr = config.learning_rate * config.schedule.factor(step, steps);
            let (loss, tokens) = accumulate(
                policy,
                train,
                rows,
                config.micro_batch_tokens,
                &mut optimizer,
            )
            .context(format!("sft step {step}"))?;
            let norm = optimizer
                .clip_and_step(policy, lr)
                .of_batch("the gradient norm", rows)
                .rows_named_in(train, |row| row.row)
                .context(format!("sft step {step}"))?;
            let done = step + 1;
            context.observer.metrics(
                done,
                &[
                    ("sft/loss", loss),
                    ("sft/lr", lr),
                    ("sft/grad_norm", norm),
                    ("sft/response_tokens", tokens as f64),
                ],
            );
            context
                .observer
                .progress(done, steps, &format!("loss {loss:.4}"));
            if done.is_multiple_of(steps_per_epoch) {
                evaluate(policy, done, &mut held_out_losses)?;
            }
            context.after_step(done, || {
                let mut parts = parameters("policy", policy)?;
                parts.extend(optimizer.parts("optimizer")?);
                let state = State {
                    optimizer_steps: optimizer.steps(),
                    held_out_losses: held_out_losses.clone(),
                };
                Ok(Snapshot { state, parts })
            })?;
        }
    }
    Ok(SftReport {
        held_out_losses,
        optimizer_steps: steps,
    })
}

/// What a checkpoint holds beside parameters and moments.
#[derive(Serialize, Deserialize)]
struct State {
    optimizer_steps: u64,
    held_out_losses: Vec<f64>,
}

/// The mean loss over the response tokens of a batch, in nats, without training.
pub fn mean_loss(policy: &CausalLm, batch: &TokenBatch, micro_batch_tokens: usize) -> Result<f64> {
    let (logprobs, _) = forward::log_probs(policy, batch, 1.0, micro_batch_tokens)?;
    Ok(-logprobs.iter().map(|&x| f64::from(x)).sum::<f64>() / logprobs.len() as f64)
}

/// Adds the gradients of the mean loss of `rows`; returns the loss and its number of tokens.
fn accumulate(
    policy: &CausalLm,
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
        let pass = policy.log_probs_pass(&part, 1.0)?;
        let values = pass.logprobs();
        let responses = part.responses();
        forward::check_finite(
            "the log-probability",
            values,
            responses.offsets(),
            &rows[micro],
        )
        .rows_of(&part)?;
        loss -= values.iter().map(|&x| f64::from(x)).sum::<f64>();
        let weight = -1.0 / tokens as f32;
        let gradient = vec![weight; values.len()];
        pass.backward(policy, &gradient, None, optimizer.gradients())?;
    }
    Ok((loss / tokens as f64, tokens))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::train::testing::{Recorder, context, model, weights};

    /// Demonstrations that count upwards from the prompt's last token and end.
    fn corpus(rows: std::ops::Range<u32>) -> TokenBatch {
        let mut batch = TokenBatch::new();
        for row in rows {
            let start = 3 + row % 5;
            let response = [start + 1, start + 2, start + 3, 2];
            batch.push(&[1, start], &response[(start % 2) as usize..]);
        }
        batch
    }

    fn config(micro_batch_tokens: usize) -> SftConfig {
        SftConfig {
            epochs: 12,
            batch_rows: 4,
            micro_batch_tokens,
            learning_rate: 1e-2,
            ..SftConfig::default()
        }
    }

    #[test]
    fn the_loss_falls_and_the_seed_decides_the_bits() {
        let train = |seed| {
            let (mut policy, recorder) = (model(1), Recorder::default());
            let cancel = AtomicBool::new(false);
            let context = context(seed, &cancel, &recorder);
            let report = run(
                &mut policy,
                &corpus(0..20),
                &corpus(20..25),
                &config(0),
                &context,
            )
            .unwrap();
            assert_eq!(report.optimizer_steps, 60);
            assert_eq!(report.held_out_losses.len(), 13);
            let (first, last) = (report.held_out_losses[0], report.held_out_losses[12]);
            assert!(
                (1.0..2.0).contains(&(first / 12f64.ln())),
                "a fresh model knows nothing, and with a tied table expects the token it has read: {first}"
            );
            assert!(last < 0.4 * first, "{:?}", report.held_out_losses);
            assert_eq!(recorder.all("sft/loss").len(), 60);
            weights(&policy)
        };
        let first = train(1);
        assert_eq!(first, train(1));
        assert_ne!(first, train(2));
    }

    #[test]
    fn micro_batches_add_up_to_the_batch_mean() {
        let gradient_step = |micro_batch_tokens| {
            let mut policy = model(1);
            let constants = OptimizerConfig {
                eps: 1.0,
                ..OptimizerConfig::default()
            };
            let mut optimizer = AdamW::new(&policy, &constants).unwrap();
            let train = corpus(0..6);
            let rows = [4, 1, 5, 0];
            let (loss, tokens) =
                accumulate(&policy, &train, &rows, micro_batch_tokens, &mut optimizer).unwrap();
            assert_eq!(tokens, 13);
            let selected = forward::select(&train, rows);
            assert!((loss - mean_loss(&policy, &selected, 0).unwrap()).abs() < 1e-6);
            optimizer.clip_and_step(&mut policy, 1.0).unwrap();
            weights(&policy)
        };
        let whole = gradient_step(0);
        assert_ne!(whole, weights(&model(1)));
        for (a, b) in whole.iter().zip(gradient_step(7)) {
            assert!((a - b).abs() < 1e-6, "{a} against {b}");
        }
    }

    #[test]
    fn a_model_that_is_not_finite_is_reported_with_step_and_row() {
        let mut policy = model(1);
        let norm = policy.parameters_mut().get_mut("model.norm.weight");
        norm.unwrap().fill(f32::NAN);
        let (cancel, recorder) = (AtomicBool::new(false), Recorder::default());
        let context = context(1, &cancel, &recorder);
        let error = run(
            &mut policy,
            &corpus(0..4),
            &TokenBatch::new(),
            &config(0),
            &context,
        )
        .unwrap_err();
        let message = error.to_string();
        assert!(
            message.starts_with("sft step 0: the log-probability is NaN"),
            "{message}"
        );
        assert!(message.contains("of row "), "{message}");
    }

    #[test]
    fn an_empty_response_and_an_interrupt_end_the_run() {
        let (mut policy, recorder) = (model(1), Recorder::default());
        let cancel = AtomicBool::new(true);
        let context = context(1, &cancel, &recorder);
        let mut train = corpus(0..2);
        let error = run(
            &mut policy,
            &train,
            &TokenBatch::new(),
            &config(0),
            &context,
        )
        .unwrap_err();
        assert_eq!(error.exit_code(), 130);
        train.push(&[1], &[]);
        let error = run(
            &mut policy,
            &train,
            &TokenBatch::new(),
            &config(0),
            &context,
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "sft: demonstration 2 has an empty response"
        );
    }
}
