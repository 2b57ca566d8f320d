//! The updates on one rollout: epochs, minibatches (one optimizer step each), micro-batches (memory only).

use finegrain_sdk::rng::Stream;

use super::config::PpoConfig;
use super::kl::KlPlacement;
use super::losses::{add_kl_loss, policy_loss, value_loss};
use super::rollout::{FirstPasses, Rollout, Targets};
use crate::error::{Error, Result};
use crate::model::{CausalLm, PolicyPass, ScorePass, ScoredModel};
use crate::pipeline::checkpoints::{Part, Saved, parameters, restore_parameters};
use crate::telemetry::NotFinite;
use crate::train::adamw::AdamW;
use crate::train::batching::{micro_batches, shuffled};
use crate::train::forward::{check_finite, row_lengths, select};

/// Policy and critic with their optimizers.
pub struct Learner {
    /// The policy.
    pub policy: CausalLm,
    policy_optimizer: AdamW,
    /// The critic, where the advantage estimator needs one.
    pub critic: Option<ScoredModel>,
    critic_optimizer: Option<AdamW>,
}

/// What one round of updates works with.
pub struct Material<'a> {
    /// The rollout.
    pub rollout: &'a Rollout,
    /// Its advantages and returns.
    pub targets: &'a Targets,
    /// The switches.
    pub config: &'a PpoConfig,
    /// What the learning rates are multiplied by.
    pub lr_factor: f64,
    /// β.
    pub kl_coef: f64,
}

/// Sums over the updates of a rollout; the means are what docs/metrics.md defines.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UpdateStats {
    /// Optimizer steps.
    pub optimizer_steps: u64,
    /// Response tokens, counted once per epoch.
    pub tokens: usize,
    /// Sum over optimizer steps of the policy loss, without KL and entropy terms.
    pub policy_loss: f64,
    /// The same of the KL loss (where the KL is a loss), β included.
    pub kl_loss: f64,
    /// The same of the value loss, without its coefficient.
    pub value_loss: f64,
    /// Tokens at which the policy's clip decided.
    pub policy_clipped: usize,
    /// Tokens at which the value's clip decided.
    pub value_clipped: usize,
    /// Σ k3 of `KL(π_old ‖ π)`.
    pub kl_sum: f64,
    /// Mean ratio over the first minibatch: 1 unless sampling and training disagree.
    pub first_ratio: f64,
    /// max |ratio − 1| over the first minibatch.
    pub first_ratio_deviation: f64,
    /// Sum over optimizer steps of the policy's gradient norm before clipping.
    pub policy_grad_norm: f64,
    /// The same of the critic's.
    pub critic_grad_norm: f64,
}

/// The rows of flat values, one after the other.
fn pick(values: &[f32], offsets: &[u64], rows: &[usize]) -> Vec<f32> {
    rows.iter()
        .flat_map(|&row| &values[offsets[row] as usize..offsets[row + 1] as usize])
        .copied()
        .collect()
}

impl Learner {
    /// A learner with fresh optimizers.
    pub fn new(policy: CausalLm, critic: Option<ScoredModel>, config: &PpoConfig) -> Result<Self> {
        Ok(Self {
            policy_optimizer: AdamW::new(&policy, &config.optimizer)?,
            critic_optimizer: critic
                .as_ref()
                .map(|critic| AdamW::new(critic, &config.optimizer))
                .transpose()?,
            policy,
            critic,
        })
    }

    /// Parameters and moments of both, for a checkpoint.
    ///
    /// # Errors
    /// Work on the device that failed.
    pub fn parts(&self) -> Result<Vec<Part<'_>>> {
        let mut parts = parameters("policy", &self.policy)?;
        parts.extend(self.policy_optimizer.parts("policy_optimizer")?);
        if let (Some(critic), Some(optimizer)) = (&self.critic, &self.critic_optimizer) {
            parts.extend(parameters("critic", critic)?);
            parts.extend(optimizer.parts("critic_optimizer")?);
        }
        Ok(parts)
    }

    /// How many steps the optimizers have taken, both the same number.
    pub fn optimizer_steps(&self) -> u64 {
        self.policy_optimizer.steps()
    }

    /// Puts back what [`Learner::optimizer_steps`] and [`Learner::parts`] gave.
    pub fn restore(&mut self, optimizer_steps: u64, saved: &Saved) -> Result<()> {
        restore_parameters("policy", &mut self.policy, saved)?;
        let optimizer = &mut self.policy_optimizer;
        optimizer.restore("policy_optimizer", optimizer_steps, saved)?;
        if let (Some(critic), Some(optimizer)) = (&mut self.critic, &mut self.critic_optimizer) {
            restore_parameters("critic", critic, saved)?;
            optimizer.restore("critic_optimizer", optimizer_steps, saved)?;
        }
        Ok(())
    }

    /// Trains on a rollout; `stream` shuffles. `given` are the rollout's own passes, where they are also the first
    /// update's: its minibatch is the whole rollout then, in its own order.
    ///
    /// # Errors
    /// A log-probability, value or gradient that is not finite, naming the row of the rollout.
    pub fn update(
        &mut self,
        material: &Material<'_>,
        mut given: Option<FirstPasses>,
        stream: &Stream,
    ) -> Result<UpdateStats> {
        let (rollout, config) = (material.rollout, material.config);
        let mut stats = UpdateStats::default();
        let lengths = row_lengths(&rollout.batch);
        for epoch in 0..config.epochs {
            let order = match &given {
                Some(_) => (0..rollout.batch.rows()).collect(),
                None => shuffled(rollout.batch.rows(), &stream.index(epoch as u64)),
            };
            for minibatch in order.chunks(config.minibatch_rows) {
                let first = stats.optimizer_steps == 0;
                let costs: Vec<usize> = minibatch.iter().map(|&row| lengths[row]).collect();
                let tokens = minibatch
                    .iter()
                    .map(|&row| rollout.batch.response(row).len())
                    .sum();
                for micro in micro_batches(&costs, config.micro_batch_tokens) {
                    let rows = MicroBatch {
                        rows: &minibatch[micro],
                        minibatch_rows: minibatch.len(),
                        minibatch_tokens: tokens,
                    };
                    let (policy, critic) = match given.take() {
                        Some(passes) => (Some(passes.policy), passes.critic),
                        None => (None, None),
                    };
                    self.policy_pass(material, &rows, policy, first, &mut stats)?;
                    self.critic_pass(material, &rows, critic, &mut stats)?;
                }
                stats.tokens += tokens;
                if first {
                    stats.first_ratio /= tokens as f64;
                }
                self.step(config, material.lr_factor, minibatch, &mut stats)?;
            }
        }
        Ok(stats)
    }

    fn policy_pass(
        &mut self,
        material: &Material<'_>,
        rows: &MicroBatch<'_>,
        given: Option<PolicyPass>,
        first: bool,
        stats: &mut UpdateStats,
    ) -> Result<()> {
        let (rollout, config) = (material.rollout, material.config);
        let batch = || select(&rollout.batch, rows.rows.iter().copied());
        let pass = match given {
            Some(pass) => pass,
            None => self
                .policy
                .log_probs_pass(&batch(), config.sampling.temperature)?,
        };
        let new = pass.logprobs();
        rows.check_finite("the log-probability", new, rollout)?;
        let weights = rows.weights(rollout, config);
        let mut loss = policy_loss(
            new,
            &pick(&rollout.old_logprobs, &rollout.offsets, rows.rows),
            &pick(&material.targets.advantages, &rollout.offsets, rows.rows),
            &weights,
            config.clip_range,
            config.clip_range_high,
        );
        if config.kl_placement == KlPlacement::Loss {
            let reference = pick(&rollout.ref_logprobs, &rollout.offsets, rows.rows);
            let gradient = &mut loss.gradient;
            stats.kl_loss += add_kl_loss(
                gradient,
                new,
                &reference,
                &weights,
                config.kl_estimator,
                material.kl_coef,
            );
        }
        rows.check_finite("the gradient of the policy loss", &loss.gradient, rollout)?;
        let bonus: Option<Vec<f32>> = (config.entropy_coef > 0.0).then(|| {
            let weights = weights.iter();
            weights.map(|w| -(config.entropy_coef as f32) * w).collect()
        });
        let gradients = self.policy_optimizer.gradients();
        pass.backward(&self.policy, &loss.gradient, bonus.as_deref(), gradients)?;
        stats.policy_loss += loss.loss;
        stats.policy_clipped += loss.clipped;
        stats.kl_sum += loss.kl_sum;
        if first {
            stats.first_ratio += loss.ratio_sum;
            stats.first_ratio_deviation = stats.first_ratio_deviation.max(loss.ratio_deviation);
        }
        Ok(())
    }

    fn critic_pass(
        &mut self,
        material: &Material<'_>,
        rows: &MicroBatch<'_>,
        given: Option<ScorePass>,
        stats: &mut UpdateStats,
    ) -> Result<()> {
        let (rollout, config) = (material.rollout, material.config);
        let (Some(critic), Some(optimizer), Some(old)) =
            (&self.critic, &mut self.critic_optimizer, &rollout.values)
        else {
            return Ok(());
        };
        let batch = || select(&rollout.batch, rows.rows.iter().copied());
        let pass = match given {
            Some(pass) => pass,
            None => critic.values_pass(&batch())?,
        };
        let new = pass.scores();
        rows.check_finite("the value", new, rollout)?;
        let mut loss = value_loss(
            new,
            &pick(old, &rollout.offsets, rows.rows),
            &pick(&material.targets.returns, &rollout.offsets, rows.rows),
            &rows.weights(rollout, config),
            config.value_clip,
        );
        let coefficient = config.value_coef as f32;
        for gradient in &mut loss.gradient {
            *gradient *= coefficient;
        }
        rows.check_finite("the gradient of the value loss", &loss.gradient, rollout)?;
        pass.backward(critic, &loss.gradient, optimizer.gradients())?;
        stats.value_loss += loss.loss;
        stats.value_clipped += loss.clipped;
        Ok(())
    }

    /// Clips and moves both models by the gradients of a minibatch.
    fn step(
        &mut self,
        config: &PpoConfig,
        factor: f64,
        minibatch: &[usize],
        stats: &mut UpdateStats,
    ) -> Result<()> {
        let policy_norm = self.policy_optimizer.gradient_norm()?;
        let critic_norm = match &self.critic_optimizer {
            Some(optimizer) => optimizer.gradient_norm()?,
            None => 0.0,
        };
        if !(policy_norm.is_finite() && critic_norm.is_finite()) {
            return Err(Error::internal(format!(
                "the gradient norms of minibatch {} are {policy_norm} (policy) and {critic_norm} (critic)",
                stats.optimizer_steps
            ))
            .with_not_finite(NotFinite::batch("the gradient norm", minibatch)));
        }
        let (policy_clip, critic_clip) = if config.clip_jointly {
            let both = config.optimizer.clip_factor(policy_norm.hypot(critic_norm));
            (both, both)
        } else {
            (
                config.optimizer.clip_factor(policy_norm),
                config.optimizer.clip_factor(critic_norm),
            )
        };
        let lr = config.learning_rate * factor;
        self.policy_optimizer
            .step(&mut self.policy, lr, policy_clip)?;
        if let (Some(critic), Some(optimizer)) = (&mut self.critic, &mut self.critic_optimizer) {
            let lr = config.critic_learning_rate * factor;
            optimizer.step(critic, lr, critic_clip)?;
        }
        stats.optimizer_steps += 1;
        stats.policy_grad_norm += policy_norm;
        stats.critic_grad_norm += critic_norm;
        Ok(())
    }
}

/// The rows of a micro-batch and the minibatch that they belong to.
struct MicroBatch<'a> {
    /// Rows of the rollout.
    rows: &'a [usize],
    minibatch_rows: usize,
    minibatch_tokens: usize,
}

impl MicroBatch<'_> {
    /// The weight of every response token in the minibatch's mean.
    fn weights(&self, rollout: &Rollout, config: &PpoConfig) -> Vec<f32> {
        let lengths: Vec<usize> = self
            .rows
            .iter()
            .map(|&row| rollout.batch.response(row).len())
            .collect();
        config.loss_average.weights(
            &lengths,
            self.minibatch_rows,
            self.minibatch_tokens,
            config.sampling.max_new_tokens,
        )
    }

    fn check_finite(&self, what: &str, values: &[f32], rollout: &Rollout) -> Result<()> {
        let lengths = self
            .rows
            .iter()
            .map(|&row| rollout.batch.response(row).len() as u64);
        let mut offsets = vec![0];
        offsets.extend(lengths.scan(0, |end, length| {
            *end += length;
            Some(*end)
        }));
        check_finite(what, values, &offsets, self.rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picks_rows_of_flat_values() {
        let values = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
        assert_eq!(
            pick(&values, &[0, 2, 3, 6], &[2, 0]),
            [3.0, 4.0, 5.0, 0.0, 1.0]
        );
    }
}
