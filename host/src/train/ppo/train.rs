//! The loop of PPO, to be read from top to bottom.

use std::time::{Duration, Instant};

use super::config::{CriticHead, PpoConfig};
use super::metrics::{self, Step};
use super::reward_scale::Gains;
use super::rewards::row_sums;
use super::rollout::{self, Environment, Models, WeightedSource};
use super::update::{Learner, Material};
use crate::error::{Context, Error, Result};
use crate::eval::efficiency::EvaluationPoint;
use crate::model::{Llama, ScalarHead, ScoredModel};
use crate::pipeline::context::StageContext;
use crate::plugins::instance::AdvantageInstance;
use crate::train::rollout_batch::Decode;

/// What a run of PPO takes.
pub struct PpoInputs<'a> {
    /// The policy to start from; it is trained in place.
    pub policy: Llama,
    /// The frozen policy from which the KL divergence is measured, usually a copy of the same.
    pub reference: &'a Llama,
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
    pub evaluate: &'a mut dyn FnMut(u64, &Llama) -> Result<f64>,
}

/// What a run of PPO leaves.
pub struct PpoReport {
    /// The policy after the last step.
    pub last: Llama,
    /// The policy with the highest evaluation, the earliest of several; may be the one that the run started from.
    pub best: Llama,
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
    let mut learner = Learner::new(inputs.policy, critic, config)?;
    let mut kl = config.kl_controller();
    let mut gains = Gains::new(config.reward_scale);
    let mut tracker = Tracker::new();
    tracker.evaluate(0, &learner.policy, inputs.evaluate, context)?;

    let environment = Environment {
        rewards: inputs.rewards,
        prompts: inputs.prompts,
        decode: inputs.decode,
        eos: inputs.eos,
        config,
    };
    for step in 0..config.steps {
        context.check_cancelled()?;
        let started = Instant::now();
        let named = format!("ppo step {step}");

        // 1. Sample, and measure what stays fixed.
        let models = Models {
            policy: &learner.policy,
            reference: inputs.reference,
            critic: learner.critic.as_ref(),
        };
        let beta = kl.coefficient();
        let mut rollout = rollout::collect(&models, &environment, beta, &mut gains, step, context)
            .context(&named)?;

        // 2. Rewards to advantages and returns.
        let targets =
            rollout::targets(&rollout, inputs.advantage, config, step, context).context(&named)?;

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
        let stats = learner.update(&material, first, &shuffle).context(&named)?;

        // 4. The coefficient follows the divergence of this rollout.
        let divergences: Vec<f32> = rollout
            .log_ratios()
            .into_iter()
            .map(|log_ratio| config.kl_estimator.value(log_ratio))
            .collect();
        let divergence = row_sums(&divergences, &rollout.offsets).iter().sum::<f64>()
            / rollout.batch.rows() as f64;
        kl.observe(divergence, rollout.batch.rows());

        // 5. Report and, now and then, evaluate.
        tracker.seconds += started.elapsed();
        tracker.samples += rollout.batch.rows() as u64;
        tracker.optimizer_steps += stats.optimizer_steps;
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
            total_seconds: tracker.seconds.as_secs_f64(),
            samples: tracker.samples,
            optimizer_steps: tracker.optimizer_steps,
        });
        metrics::send(done, &values, context.observer);
        let reward = row_sums(&targets.rewards, &rollout.offsets)
            .iter()
            .sum::<f64>()
            / rollout.batch.rows() as f64;
        let message = format!("reward {reward:.3}, kl {divergence:.3}");
        context.observer.progress(done, config.steps, &message);
        if done == config.steps
            || (inputs.evaluate_every > 0 && done.is_multiple_of(inputs.evaluate_every))
        {
            tracker.evaluate(done, &learner.policy, inputs.evaluate, context)?;
        }
    }
    tracker.finish(learner, gains, kl.coefficient())
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
fn critic(policy: &Llama, rewards: &[WeightedSource<'_>], head: CriticHead) -> Result<ScoredModel> {
    let model = rewards.iter().find_map(|reward| reward.source.model);
    let mut backbone = model.map_or(policy, |model| &model.backbone).clone();
    backbone.set_recompute(policy.recompute());
    let head = match (head, model) {
        (CriticHead::RewardModel, Some(model)) => model.head.clone(),
        _ => ScalarHead::zero(backbone.config().hidden_size)?,
    };
    Ok(ScoredModel::new(backbone, head))
}

/// Evaluations, the best policy so far, and what training has cost.
struct Tracker {
    seconds: Duration,
    samples: u64,
    optimizer_steps: u64,
    evaluations: Vec<EvaluationPoint>,
    best: Option<(EvaluationPoint, Llama)>,
}

impl Tracker {
    fn new() -> Self {
        Self {
            seconds: Duration::ZERO,
            samples: 0,
            optimizer_steps: 0,
            evaluations: Vec::new(),
            best: None,
        }
    }

    fn evaluate(
        &mut self,
        step: u64,
        policy: &Llama,
        evaluate: &mut dyn FnMut(u64, &Llama) -> Result<f64>,
        context: &StageContext<'_>,
    ) -> Result<()> {
        let score = evaluate(step, policy).context(format!("evaluation after ppo step {step}"))?;
        if !score.is_finite() {
            return Err(Error::internal(format!(
                "the evaluation after ppo step {step} is {score}"
            )));
        }
        let point = EvaluationPoint {
            step,
            wall_seconds: self.seconds.as_secs_f64(),
            samples: self.samples,
            optimizer_steps: self.optimizer_steps,
            score,
        };
        context
            .observer
            .metrics(step, &[("evaluation/score", score)]);
        self.evaluations.push(point);
        if self
            .best
            .as_ref()
            .is_none_or(|(best, _)| score > best.score)
        {
            self.best = Some((point, policy.clone()));
        }
        Ok(())
    }

    fn finish(self, learner: Learner, gains: Gains, kl_coef: f64) -> Result<PpoReport> {
        let (point, best) = self
            .best
            .ok_or_else(|| Error::internal("invariant: step 0 is evaluated"))?;
        Ok(PpoReport {
            last: learner.policy,
            best,
            best_step: point.step,
            evaluations: self.evaluations,
            samples: self.samples,
            optimizer_steps: self.optimizer_steps,
            wall_seconds: self.seconds.as_secs_f64(),
            critic: learner.critic,
            gains,
            kl_coef,
        })
    }
}
