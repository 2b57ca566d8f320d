//! The reward model: a backbone with a head that scores every response token, trained on pairs by a reward scheme.
//!
//! The scheme sees the scores of both sides as slices and returns its loss with d loss / d score; the backward pass
//! begins there. A scheme's loss is a mean over the pairs of a call, so that micro-batches weighted
//! by their share of the pairs add up to the batch's mean.

use finegrain_sdk::kinds::{ScoredPairs, ScoredSide};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::adamw::{AdamW, OptimizerConfig};
use super::batching::{micro_batches, shuffled};
use super::forward::{check_finite, scores};
use super::rollout_batch::{Decode, RewardSource, RolloutBatch, ended, log};
use super::schedule::{Decay, ScheduleConfig};
use crate::data::ragged::{RaggedVec, TokenBatch};
use crate::error::{Context, Error, Result};
use crate::model::{CausalLm, ScalarHead, ScoredModel};
use crate::pipeline::checkpoints::{Snapshot, parameters, restore_parameters};
use crate::pipeline::context::StageContext;
use crate::plugins::instance::{PairLoss, RewardInstance};
use crate::telemetry::not_finite::OffendingRows;

/// Training of a reward model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RewardModelConfig {
    /// Passes over the pairs. AlpacaFarm: 1.
    #[schemars(range(min = 1))]
    pub epochs: u64,
    /// Pairs per optimizer step. AlpacaFarm: 16.
    #[schemars(range(min = 1))]
    pub batch_pairs: usize,
    /// Tokens that go through the model together, both sides counted; decides memory, not results. 0 = all.
    pub micro_batch_tokens: usize,
    /// Peak learning rate. AlpacaFarm: 3e-6.
    #[schemars(range(min = 0.0))]
    pub learning_rate: f64,
    /// Warm-up and decay over all steps. AlpacaFarm: cosine with a warm-up of 3%.
    pub schedule: ScheduleConfig,
    /// AdamW.
    pub optimizer: OptimizerConfig,
}

impl Default for RewardModelConfig {
    fn default() -> Self {
        Self {
            epochs: 1,
            batch_pairs: 16,
            micro_batch_tokens: 4096,
            learning_rate: 3e-6,
            schedule: ScheduleConfig {
                decay: Decay::Cosine,
                warmup_steps: 0,
                warmup_ratio: 0.03,
            },
            optimizer: OptimizerConfig::default(),
        }
    }
}

impl RewardModelConfig {
    /// Refuses values outside their ranges.
    pub fn validate(&self) -> Result<()> {
        for (key, count) in [
            ("epochs", self.epochs),
            ("batch_pairs", self.batch_pairs as u64),
        ] {
            if count == 0 {
                return Err(Error::input(format!(
                    "reward_model.{key}: 0 is not accepted; at least 1 is"
                )));
            }
        }
        if !(self.learning_rate >= 0.0 && self.learning_rate.is_finite()) {
            return Err(Error::input(format!(
                "reward_model.learning_rate: {} is not accepted; a finite number of at least 0 is",
                self.learning_rate
            )));
        }
        self.schedule.validate("reward_model.schedule")?;
        self.optimizer.validate("reward_model.optimizer")
    }
}

/// A pair of responses to one prompt, as token ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenPair {
    /// The prompt, at least one token.
    pub prompt: Vec<u32>,
    /// The preferred response (for edit pairs the edited one), not empty.
    pub chosen: Vec<u32>,
    /// The other response, not empty.
    pub rejected: Vec<u32>,
    /// 1 where the edit touched the token, per token of `chosen`.
    pub chosen_changed: Vec<u8>,
    /// 1 where the edit touched the token, per token of `rejected`.
    pub rejected_changed: Vec<u8>,
}

impl TokenPair {
    fn tokens(&self) -> usize {
        2 * self.prompt.len() + self.chosen.len() + self.rejected.len()
    }
}

/// What a reward model makes of pairs that it was not trained on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldOut {
    /// The scheme's mean loss over the pairs.
    pub loss: f64,
    /// The share of pairs with R(chosen) > R(rejected); equal rewards count one half.
    pub accuracy: f64,
    /// How many pairs.
    pub pairs: usize,
}

/// A trained reward model.
pub struct RewardModelReport {
    /// The model.
    pub model: ScoredModel,
    /// The held-out measures after every epoch; empty where no pairs are held out.
    pub held_out: Vec<HeldOut>,
    /// Optimizer steps.
    pub optimizer_steps: u64,
}

/// What the training of a reward model takes.
pub struct RewardModelInputs<'a> {
    /// The model whose copy becomes the backbone: policy₀.
    pub backbone: &'a CausalLm,
    /// The scheme that says what the scores mean.
    pub scheme: &'a RewardInstance,
    /// The pairs to train on.
    pub train: &'a [TokenPair],
    /// The pairs to measure on.
    pub held_out: &'a [TokenPair],
    /// From token ids to text, for schemes that read text.
    pub decode: &'a Decode<'a>,
    /// The tokens that end a response.
    pub eos: &'a [u32],
    /// The constants.
    pub config: &'a RewardModelConfig,
}

/// Trains a reward model on a copy of the backbone with a fresh random head.
///
/// # Errors
/// Pairs that break their contract, a plugin that fails, a number that is not finite (naming step and row), an
/// interruption.
pub fn run(
    inputs: &RewardModelInputs<'_>,
    context: &StageContext<'_>,
) -> Result<RewardModelReport> {
    let config = inputs.config;
    config.validate()?;
    if inputs.train.is_empty() {
        return Err(Error::input("reward_model: there are no pairs to train on"));
    }
    for (name, pairs) in [("training", inputs.train), ("held-out", inputs.held_out)] {
        check(name, pairs)?;
    }
    let backbone = inputs.backbone.clone();
    let head = ScalarHead::random(backbone.config().hidden_size, &context.stream.child("head"))?;
    let mut model = ScoredModel::new(backbone, head)?;
    let mut optimizer = AdamW::new(&model, &config.optimizer)?;
    let steps_per_epoch = inputs.train.len().div_ceil(config.batch_pairs) as u64;
    let steps = steps_per_epoch * config.epochs;
    let mut held_out = Vec::new();
    let mut start = 0;
    if let Some((state, saved)) = context.checkpoints.resume::<State>()? {
        restore_parameters("model", &mut model, saved)?;
        optimizer.restore("optimizer", state.optimizer_steps, saved)?;
        (start, held_out) = (saved.step(), state.held_out);
    }
    let stream = context.stream.child("batches");
    for epoch in start / steps_per_epoch..config.epochs {
        let order = shuffled(inputs.train.len(), &stream.index(epoch));
        let batches = (epoch * steps_per_epoch..).zip(order.chunks(config.batch_pairs));
        for (step, batch) in batches.filter(|&(step, _)| step >= start) {
            let lr = config.learning_rate * config.schedule.factor(step, steps);
            let named = format!("reward model step {step}");
            let loss =
                accumulate(&model, &mut optimizer, inputs, batch, step, context).context(&named)?;
            let norm = optimizer
                .clip_and_step(&mut model, lr)
                .of_batch("the gradient norm", &[batch, batch].concat())
                .rows_of_all(|| {
                    both_sides(
                        &batch
                            .iter()
                            .map(|&row| &inputs.train[row])
                            .collect::<Vec<_>>(),
                    )
                })
                .in_words(inputs.decode)
                .context(&named)?;
            let done = step + 1;
            let metrics = [
                ("reward_model/loss", loss),
                ("reward_model/lr", lr),
                ("reward_model/grad_norm", norm),
            ];
            context.observer.metrics(done, &metrics);
            context
                .observer
                .progress(done, steps, &format!("loss {loss:.4}"));
            if done.is_multiple_of(steps_per_epoch) && !inputs.held_out.is_empty() {
                let measured = measure(&model, inputs, done, context)?;
                let metrics = [
                    ("reward_model/held_out_loss", measured.loss),
                    ("reward_model/held_out_accuracy", measured.accuracy),
                ];
                context.observer.metrics(done, &metrics);
                held_out.push(measured);
            }
            context.after_step(done, || {
                let mut parts = parameters("model", &model)?;
                parts.extend(optimizer.parts("optimizer")?);
                let state = State {
                    optimizer_steps: optimizer.steps(),
                    held_out: held_out.clone(),
                };
                Ok(Snapshot { state, parts })
            })?;
        }
    }
    Ok(RewardModelReport {
        model,
        held_out,
        optimizer_steps: steps,
    })
}

/// What a checkpoint holds beside parameters and moments.
#[derive(Serialize, Deserialize)]
struct State {
    optimizer_steps: u64,
    held_out: Vec<HeldOut>,
}

/// Refuses pairs that a scheme must not see.
fn check(name: &str, pairs: &[TokenPair]) -> Result<()> {
    for (row, pair) in pairs.iter().enumerate() {
        let fault = if pair.prompt.is_empty() {
            "has a prompt of no tokens"
        } else if pair.chosen.is_empty() || pair.rejected.is_empty() {
            "has a response of no tokens"
        } else if pair.chosen.len() != pair.chosen_changed.len()
            || pair.rejected.len() != pair.rejected_changed.len()
        {
            "does not say for every token whether it changed"
        } else {
            continue;
        };
        return Err(Error::input(format!(
            "reward_model: {name} pair {row} {fault}"
        )));
    }
    Ok(())
}

/// Adds the gradients of the mean loss of `batch`, micro-batch after micro-batch; returns that loss.
fn accumulate(
    model: &ScoredModel,
    optimizer: &mut AdamW,
    inputs: &RewardModelInputs<'_>,
    batch: &[usize],
    step: u64,
    context: &StageContext<'_>,
) -> Result<f64> {
    let costs: Vec<usize> = batch
        .iter()
        .map(|&row| inputs.train[row].tokens())
        .collect();
    let mut total = 0.0;
    for micro in micro_batches(&costs, inputs.config.micro_batch_tokens) {
        let rows = &batch[micro];
        let pairs: Vec<&TokenPair> = rows.iter().map(|&row| &inputs.train[row]).collect();
        let tokens = both_sides(&pairs);
        let pass = model.scores_pass(&tokens)?;
        let values = pass.scores();
        let names: Vec<usize> = rows.iter().chain(rows).copied().collect();
        check_finite("the score", values, tokens.responses().offsets(), &names)
            .rows_of(&tokens)
            .in_words(inputs.decode)?;
        let loss = preference_loss(inputs.scheme, &pairs, values, step, context)?;
        let share = pairs.len() as f64 / batch.len() as f64;
        total += share * loss.loss;
        let gradient: Vec<f32> = [loss.chosen, loss.rejected]
            .concat()
            .iter()
            .map(|gradient| gradient * share as f32)
            .collect();
        pass.backward(model, &gradient, optimizer.gradients())?;
    }
    Ok(total)
}

/// The chosen sides of all pairs, then the rejected ones, as one batch: one forward pass scores both.
fn both_sides(pairs: &[&TokenPair]) -> TokenBatch {
    let mut batch = TokenBatch::new();
    for pair in pairs {
        batch.push(&pair.prompt, &pair.chosen);
    }
    for pair in pairs {
        batch.push(&pair.prompt, &pair.rejected);
    }
    batch
}

/// The scheme's loss for scores in the layout of [`both_sides`].
fn preference_loss(
    scheme: &RewardInstance,
    pairs: &[&TokenPair],
    scores: &[f32],
    step: u64,
    context: &StageContext<'_>,
) -> Result<PairLoss> {
    let split = pairs.iter().map(|pair| pair.chosen.len()).sum();
    let (chosen_scores, rejected_scores) = scores.split_at(split);
    let chosen = Side::new(pairs, chosen_scores, |pair| {
        (&pair.chosen, &pair.chosen_changed)
    })?;
    let rejected = Side::new(pairs, rejected_scores, |pair| {
        (&pair.rejected, &pair.rejected_changed)
    })?;
    let pairs = ScoredPairs {
        chosen: chosen.view(),
        rejected: rejected.view(),
    };
    let call_log = log(context);
    scheme.preference_loss(&pairs, &context.call("reward", step, &call_log))
}

/// One side of a batch of pairs, owned.
struct Side {
    scores: RaggedVec<f32>,
    ids: RaggedVec<u32>,
    changed: RaggedVec<u8>,
}

impl Side {
    fn new(
        pairs: &[&TokenPair],
        scores: &[f32],
        side: fn(&TokenPair) -> (&Vec<u32>, &Vec<u8>),
    ) -> Result<Self> {
        let ids: RaggedVec<u32> = pairs
            .iter()
            .map(|pair| side(pair).0.iter().copied())
            .collect();
        let changed = pairs
            .iter()
            .map(|pair| side(pair).1.iter().copied())
            .collect();
        Ok(Self {
            scores: RaggedVec::from_parts(scores.to_vec(), ids.offsets().to_vec())?,
            ids,
            changed,
        })
    }

    fn view(&self) -> ScoredSide<'_> {
        ScoredSide {
            scores: self.scores.view(),
            ids: self.ids.view(),
            changed: self.changed.view(),
        }
    }
}

/// Loss and accuracy on the held-out pairs.
fn measure(
    model: &ScoredModel,
    inputs: &RewardModelInputs<'_>,
    step: u64,
    context: &StageContext<'_>,
) -> Result<HeldOut> {
    let pairs: Vec<&TokenPair> = inputs.held_out.iter().collect();
    let budget = inputs.config.micro_batch_tokens;
    let tokens = both_sides(&pairs);
    let values = scores(model, &tokens, budget)?;
    let loss = preference_loss(inputs.scheme, &pairs, &values, step, context)?.loss;
    let source = RewardSource {
        name: "reward",
        scheme: inputs.scheme,
        model: Some(model),
    };
    let rollouts = RolloutBatch::new(&tokens, ended(&tokens, inputs.eos), inputs.decode)?;
    let rewards = source.sequence_rewards(&tokens, &rollouts, budget, step, context)?;
    let (chosen, rejected) = rewards.split_at(pairs.len());
    Ok(HeldOut {
        loss,
        accuracy: accuracy(chosen, rejected),
        pairs: pairs.len(),
    })
}

/// The share of pairs that the rewards rank as labelled; equal rewards count one half.
pub fn accuracy(chosen: &[f32], rejected: &[f32]) -> f64 {
    let right = chosen.iter().zip(rejected).map(|(chosen, rejected)| {
        if chosen > rejected {
            1.0
        } else if chosen == rejected {
            0.5
        } else {
            0.0
        }
    });
    right.sum::<f64>() / chosen.len() as f64
}

#[cfg(test)]
mod tests;
