//! One iteration of PPO as TRL's trainer does it: four models of one shape, two epochs, one minibatch an epoch.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use finegrain_sdk::rng::Stream;
use serde_json::{Value, json};

use super::cost::PPO_EPOCHS;
use super::{Plan, adapted, model, random_rows};
use crate::error::Result;
use crate::model::{ScalarHead, ScoredModel};
use crate::pipeline::checkpoints::Checkpoints;
use crate::pipeline::context::{Observer, StageContext};
use crate::plugins::Registry;
use crate::train::ppo::{self, PpoConfig, PpoInputs, WeightedSource};
use crate::train::rollout_batch::RewardSource;
use crate::train::sampling::SamplingConfig;

/// Remembers when each iteration ended.
struct Clock<'a> {
    plan: &'a Plan,
    marks: Mutex<Result<Vec<Instant>>>,
}

impl<'a> Clock<'a> {
    fn start(plan: &'a Plan) -> Self {
        let clock = Self {
            plan,
            marks: Mutex::new(Ok(Vec::new())),
        };
        clock.mark();
        clock
    }

    /// A mark is the time at which the device has done what it was asked, or the first failure of it.
    fn mark(&self) {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(ends) = &mut *marks else { return };
        let done = self.plan.device.synchronize();
        match done.and_then(|()| self.plan.before(ends.len())) {
            Ok(()) => ends.push(Instant::now()),
            Err(error) => *marks = Err(error),
        }
    }

    fn seconds(self) -> Result<Vec<f64>> {
        let marks = self
            .marks
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)?;
        let pairs = marks.windows(2);
        Ok(pairs
            .map(|pair| (pair[1] - pair[0]).as_secs_f64())
            .collect())
    }
}

impl Observer for Clock<'_> {
    fn metrics(&self, _: u64, _: &[(&str, f64)]) {}

    fn progress(&self, _: u64, _: u64, _: &str) {
        self.mark();
    }

    fn warn(&self, _: &str) {}
}

/// TRL's arithmetic with the sizes of the plan.
fn config(plan: &Plan) -> PpoConfig {
    PpoConfig {
        steps: plan.rounds() as u64,
        rollout_rows: plan.batch.rows,
        minibatch_rows: plan.batch.rows,
        epochs: PPO_EPOCHS,
        micro_batch_tokens: plan.micro_batch_tokens,
        sampling: SamplingConfig {
            temperature: 1.0,
            max_new_tokens: plan.batch.new_tokens(),
            ..SamplingConfig::default()
        },
        ..PpoConfig::trl()
    }
}

pub(super) fn run(plan: &Plan, cancel: &AtomicBool) -> Result<Vec<f64>> {
    let stream = Stream::new(plan.seed).child("bench");
    let head = ScalarHead::random(plan.shape.channels, &stream.child("head"))?;
    // The critic is made from the reward model by the trainer.
    let base = model(plan, &stream.child("model"))?;
    let policy = adapted(&base, plan, &stream.child("lora"))?;
    let of_rewards = stream.child("reward model");
    let scored = match plan.lora {
        None => model(plan, &of_rewards)?,
        Some(_) => adapted(&base, plan, &of_rewards)?,
    };
    let reward_model = ScoredModel::new(scored, head)?;
    let reference = policy.clone();
    drop(base);
    let registry = Registry::built_in()?;
    let scheme = registry.reward("sequence", &Value::Null)?;
    let advantage = registry.advantage("gae", &json!({ "gamma": 1.0, "lambda": 0.95 }))?;
    let config = config(plan);
    let prompts = random_rows(
        &stream,
        plan.batch.rows * config.steps as usize,
        plan.batch.prompt,
        plan.shape.vocabulary,
    );
    let clock = Clock::start(plan);
    ppo::run(
        PpoInputs {
            policy,
            reference: &reference,
            rewards: &[WeightedSource {
                weight: 1.0,
                source: RewardSource {
                    name: "sequence",
                    scheme: &scheme,
                    model: Some(&reward_model),
                },
            }],
            advantage: &advantage,
            prompts: &prompts,
            decode: &|_, _| Ok(String::new()),
            eos: &[],
            config: &config,
            evaluate_every: 0,
            evaluate: &mut |_, _| Ok(0.0),
        },
        &StageContext {
            stream,
            device: &plan.device,
            threads: rayon::current_num_threads(),
            cancel,
            observer: &clock,
            dir: Path::new("."),
            checkpoints: Checkpoints::none(),
            answers: None,
        },
    )?;
    clock.seconds()
}
