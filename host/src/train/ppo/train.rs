//! The loop of PPO, to be read from top to bottom.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::config::{CriticHead, PpoConfig};
use super::distributions;
use super::kl::KlController;
use super::metrics::{self, Step};
use super::reward_scale::Gains;
use super::rewards::row_sums;
use super::rollout::{self, Environment, Models, WeightedSource};
use super::update::{Learner, Material};
use crate::device::Device;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::eval::efficiency::EvaluationPoint;
use crate::model::{CausalLm, ScalarHead, ScoredModel};
use crate::pipeline::checkpoints::{Snapshot, parameters, restore_parameters};
use crate::pipeline::context::StageContext;
use crate::plugins::instance::AdvantageInstance;
use crate::telemetry::not_finite::OffendingRows;
use crate::train::rollout_batch::Decode;

/// What a run of PPO takes.
pub struct PpoInputs<'a> {
    /// The policy to start from; it is trained in place.
    pub policy: CausalLm,
    /// The frozen policy from which the KL divergence is measured, usually a copy of the same.
    pub reference: &'a CausalLm,
    /// The reward schemes with their weights and reward models; each is a channel.
    pub rewards: &'a [WeightedSource<'a>],
    /// The advantage estimator; it says whether there is a critic.
    pub advantage: &'a AdvantageInstance,
    /// The prompts as token ids, each with at least one token.
    pub prompts: &'a [Vec<u32>],
    /// From token ids to text, for schemes that read text.
    pub decode: &'a Decode<'a>,
    /// The tokens that end a response.
    pub eos: &'a [u32],
    /// The switches.
    pub config: &'a PpoConfig,
    /// Steps between evaluations; 0 evaluates before the first and after the last step only.
    pub evaluate_every: u64,
    /// Scores a policy after so many steps; more is better.
    pub evaluate: &'a mut dyn FnMut(u64, &CausalLm) -> Result<f64>,
}

/// What a run of PPO leaves.
pub struct PpoReport {
    /// The policy after the last step.
    pub last: CausalLm,
    /// The policy with the highest evaluation, the earliest of several; may be the one that the run started from.
    pub best: CausalLm,
    /// After how many steps that was.
    pub best_step: u64,
    /// Every evaluation, in order.
    pub evaluations: Vec<EvaluationPoint>,
    /// Responses sampled for training.
    pub samples: u64,
    /// Optimizer steps of the policy.
    pub optimizer_steps: u64,
    /// Seconds of training, without evaluations.
    pub wall_seconds: f64,
    /// The critic after the last step, where the estimator needs one.
    pub critic: Option<ScoredModel>,
    /// What the rewards of each scheme were multiplied by.
    pub gains: Gains,
    /// β after the last step.
    pub kl_coef: f64,
}

/// Runs PPO.
///
/// # Errors
/// A configuration, prompts or plugins that do not fit together; a plugin that fails; a number that is not finite,
/// naming step and row; an interruption.
pub fn run(inputs: PpoInputs<'_>, context: &StageContext<'_>) -> Result<PpoReport> {
    check(&inputs)?;
    let config = inputs.config;
    let critic = if inputs.advantage.capabilities().needs_critic {
        Some(critic(&inputs.policy, inputs.rewards, config.critic_head)?)
    } else {
        None
    };
    let mut run = Run {
        best: inputs.policy.to(&Device::Cpu)?,
        learner: Learner::new(inputs.policy, critic, config)?,
        kl: config.kl_controller(),
        gains: Gains::new(config.reward_scale),
        tally: Tally::default(),
    };
    let start = run.resume(context)?;
    let environment = Environment {
        rewards: inputs.rewards,
        prompts: inputs.prompts,
        decode: inputs.decode,
        eos: inputs.eos,
        config,
    };
    for done in start..=config.steps {
        if done > start {
            let step = done - 1;
            let gains = run.gains.clone();
            if let Err(error) = run.step(
                step,
                &environment,
                inputs.reference,
                inputs.advantage,
                context,
            ) {
                // Policy, critic and β are as they were; the rollout that the interrupt cut short is drawn again.
                run.gains = gains;
                return Err(run.leave(error, step, context));
            }
        }
        let due = done == 0
            || done == config.steps
            || (inputs.evaluate_every > 0 && done.is_multiple_of(inputs.evaluate_every));
        // A checkpoint may lie before the evaluation that an interrupt cut short, or behind it.
        let evaluates = due && !run.tally.evaluated(done);
        if evaluates && let Err(error) = run.evaluate(done, inputs.evaluate, context) {
            return Err(run.leave(error, done, context));
        }
        // What was read a moment ago need not be saved again.
        if done > start || evaluates {
            context.after_step(done, || run.snapshot())?;
        }
    }
    run.finish()
}

/// Refuses inputs that cannot be run.
fn check(inputs: &PpoInputs<'_>) -> Result<()> {
    inputs.config.validate()?;
    if inputs.prompts.is_empty() {
        return Err(Error::input("ppo: there are no prompts"));
    }
    if let Some(row) = inputs.prompts.iter().position(Vec::is_empty) {
        return Err(Error::input(format!("ppo: prompt {row} has no tokens"))
            .hint("a prompt needs at least one token, such as BOS"));
    }
    if inputs.rewards.is_empty() {
        return Err(Error::input("ppo: there is no reward scheme"));
    }
    let needed = inputs.advantage.capabilities().samples_per_prompt as usize;
    if inputs.config.samples_per_prompt < needed {
        return Err(Error::input(format!(
            "ppo.samples_per_prompt: {} is too few; {} needs at least {needed}",
            inputs.config.samples_per_prompt,
            inputs.advantage.identity()
        )));
    }
    Ok(())
}

/// A critic on the first reward model's backbone, or on the policy's where no scheme has a reward model.
fn critic(
    policy: &CausalLm,
    rewards: &[WeightedSource<'_>],
    head: CriticHead,
) -> Result<ScoredModel> {
    let model = rewards.iter().find_map(|reward| reward.source.model);
    let mut backbone = model.map_or(policy, |model| &model.backbone).clone();
    backbone.set_recompute(policy.recompute());
    let head = match (head, model) {
        (CriticHead::RewardModel, Some(model)) => model.head.clone(),
        _ => ScalarHead::zero(backbone.config().hidden_size)?,
    };
    ScoredModel::new(backbone, head)
}

/// What changes from step to step: all of it goes into a checkpoint.
struct Run {
    learner: Learner,
    kl: KlController,
    gains: Gains,
    tally: Tally,
    /// The policy with the highest evaluation so far.
    best: CausalLm,
}

/// Evaluations, and what training has cost.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Tally {
    seconds: f64,
    samples: u64,
    optimizer_steps: u64,
    evaluations: Vec<EvaluationPoint>,
    best: Option<EvaluationPoint>,
}

impl Tally {
    fn evaluated(&self, step: u64) -> bool {
        self.evaluations
            .last()
            .is_some_and(|point| point.step == step)
    }
}

/// What a checkpoint holds beside parameters and moments.
#[derive(Serialize, Deserialize)]
struct State {
    optimizer_steps: u64,
    kl_coef: f64,
    gains: Vec<f64>,
    tally: Tally,
}

impl Run {
    /// Rollout, advantages, update: the step after `step` others.
    fn step(
        &mut self,
        step: u64,
        environment: &Environment<'_>,
        reference: &CausalLm,
        advantage: &AdvantageInstance,
        context: &StageContext<'_>,
    ) -> Result<()> {
        let config = environment.config;
        let started = Instant::now();
        let named = format!("ppo step {step}");

        // 1. Sample, and measure what stays fixed.
        let models = Models {
            policy: &self.learner.policy,
            reference,
            critic: self.learner.critic.as_ref(),
        };
        let beta = self.kl.coefficient();
        let gains = &mut self.gains;
        let mut rollout =
            rollout::collect(&models, environment, beta, gains, step, context).context(&named)?;

        // 2. Rewards to advantages and returns.
        let targets =
            rollout::targets(&rollout, advantage, config, step, context).context(&named)?;

        // 3. Update on the rollout.
        let factor = config.schedule.factor(step, config.steps);
        let shuffle = context.stream.child("minibatches").index(step);
        let first = rollout.first.take();
        let material = Material {
            rollout: &rollout,
            targets: &targets,
            config,
            lr_factor: factor,
            kl_coef: beta,
        };
        let learner = &mut self.learner;
        let stats = learner
            .update(&material, first, &shuffle)
            .rows_named_in(&rollout.batch, |row| row.row)
            .in_words(environment.decode)
            .context(&named)?;

        // 4. The coefficient follows the divergence of this rollout.
        let divergences: Vec<f32> = rollout
            .log_ratios()
            .into_iter()
            .map(|log_ratio| config.kl_estimator.value(log_ratio))
            .collect();
        let divergence = row_sums(&divergences, &rollout.offsets).iter().sum::<f64>()
            / rollout.batch.rows() as f64;
        self.kl.observe(divergence, rollout.batch.rows());

        // 5. Report.
        let tally = &mut self.tally;
        tally.seconds += started.elapsed().as_secs_f64();
        tally.samples += rollout.batch.rows() as u64;
        tally.optimizer_steps += stats.optimizer_steps;
        let done = step + 1;
        let values = metrics::of(&Step {
            rollout: &rollout,
            targets: &targets,
            stats: &stats,
            config,
            kl_coef: beta,
            divergence,
            lr_factor: factor,
            seconds: started.elapsed().as_secs_f64(),
            total_seconds: tally.seconds,
            samples: tally.samples,
            optimizer_steps: tally.optimizer_steps,
        });
        metrics::send(done, &values, context.observer);
        distributions::send(
            done,
            &rollout,
            &targets,
            environment.decode,
            context.observer,
        )?;
        let reward = row_sums(&targets.rewards, &rollout.offsets)
            .iter()
            .sum::<f64>()
            / rollout.batch.rows() as f64;
        let message = format!("reward {reward:.3}, kl {divergence:.3}");
        context.observer.progress(done, config.steps, &message);
        Ok(())
    }

    fn evaluate(
        &mut self,
        step: u64,
        evaluate: &mut dyn FnMut(u64, &CausalLm) -> Result<f64>,
        context: &StageContext<'_>,
    ) -> Result<()> {
        let score = evaluate(step, &self.learner.policy)
            .context(format!("evaluation after ppo step {step}"))?;
        if !score.is_finite() {
            return Err(Error::internal(format!(
                "the evaluation after ppo step {step} is {score}"
            )));
        }
        let tally = &mut self.tally;
        let point = EvaluationPoint {
            step,
            wall_seconds: tally.seconds,
            samples: tally.samples,
            optimizer_steps: tally.optimizer_steps,
            score,
        };
        context
            .observer
            .metrics(step, &[("evaluation/score", score)]);
        tally.evaluations.push(point);
        if tally.best.is_none_or(|best| score > best.score) {
            tally.best = Some(point);
            // On the processor: it waits there until it is saved.
            self.best = self.learner.policy.to(&Device::Cpu)?;
        }
        Ok(())
    }

    fn snapshot(&self) -> Result<Snapshot<'_, State>> {
        let mut parts = self.learner.parts()?;
        parts.extend(parameters("best", &self.best)?);
        let state = State {
            optimizer_steps: self.learner.optimizer_steps(),
            kl_coef: self.kl.coefficient(),
            gains: self.gains.values().to_vec(),
            tally: self.tally.clone(),
        };
        Ok(Snapshot { state, parts })
    }

    /// Goes on from the checkpoint of an interrupted attempt, where there is one; returns the steps that are done.
    fn resume(&mut self, context: &StageContext<'_>) -> Result<u64> {
        let Some((state, saved)) = context.checkpoints.resume::<State>()? else {
            return Ok(0);
        };
        self.learner.restore(state.optimizer_steps, saved)?;
        restore_parameters("best", &mut self.best, saved)?;
        self.kl.restore(state.kl_coef);
        self.gains.restore(state.gains);
        self.tally = state.tally;
        Ok(saved.step())
    }

    /// Where an interrupt has ended a step or an evaluation, saves what there was after `done` steps.
    fn leave(&self, error: Error, done: u64, context: &StageContext<'_>) -> Error {
        if error.kind() == ErrorKind::Interrupted {
            context.save_before(error, done, self.snapshot())
        } else {
            error
        }
    }

    fn finish(self) -> Result<PpoReport> {
        let best = self
            .tally
            .best
            .ok_or_else(|| Error::internal("invariant: step 0 is evaluated"))?;
        Ok(PpoReport {
            last: self.learner.policy,
            critic: self.learner.critic,
            kl_coef: self.kl.coefficient(),
            gains: self.gains,
            best: self.best,
            best_step: best.step,
            evaluations: self.tally.evaluations,
            samples: self.tally.samples,
            optimizer_steps: self.tally.optimizer_steps,
            wall_seconds: self.tally.seconds,
        })
    }
}
