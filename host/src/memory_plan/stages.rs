//! What is alive when: the phases of a run, read off `pipeline/stages` and `train`.
//!
//! | phase | models | beside them |
//! |---|---|---|
//! | sft | policy, trained | a micro-batch there and back, logits |
//! | reward model, judge model | backbone and head, trained; the policy that it was copied from | a micro-batch there and back |
//! | pairs | policy | sampling; then the annotator's reward model, where it is one |
//! | ppo | reference, policy (trained), critic (trained), reward models, judge's reward model | sampling; passes that measure; updates |
//! | evaluation | reference, policy | sampling; then the judge's reward model, where it is one |
//!
//! Stages come one after another and share nothing in memory. Held-out losses, the reward models' tests and the token views
//! are passes without a way back with models that a stage above has alive as well, and are left out.
//!
//! In PPO the passes of a rollout are kept for the first update where a minibatch is a whole rollout in one micro-batch
//! (`FirstPasses`): policy's and critic's activations are then alive together. Otherwise a micro-batch of the policy is done
//! with before the critic's begins. On the CPU a model's buffers stay in its pool (`model/pass/pool.rs`; copies of a
//! model share one): policy's and critic's add up in any case, and are there while responses are sampled. The policy that was
//! best so far, where evaluations look for it, lies on the host: it is memory of the CPU's runs alone.

use std::slice;

use indicatif::HumanCount;
use serde::Serialize;

use super::parts::Parts;
use super::question::Question;
use super::rows::{MicroBatch, Row};
use super::sampling::Sampling;
use super::sizes::{Role, Sizes, State};
use crate::config::{JudgeConfig, RewardChoice, Task};
use crate::eval::sequence_rewards::BATCH_TOKENS as SCORED_TOKENS;
use crate::pipeline::sampling::CHUNK as SAMPLED_TOGETHER;
use crate::train::sampling::SamplingConfig;

/// A part of a stage, and what is in memory during it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Phase {
    /// The stage.
    pub stage: String,
    /// The part of it; empty where it has one.
    pub step: &'static str,
    /// The models that are alive.
    pub models: Vec<String>,
    /// How much goes through them, in words.
    pub work: String,
    /// Bytes by what they are spent on.
    #[serde(flatten)]
    pub parts: Parts,
    /// All of them.
    pub peak: u64,
}

impl Phase {
    /// `ppo: update`.
    pub fn name(&self) -> String {
        match self.step {
            "" => self.stage.clone(),
            step => format!("{}: {step}", self.stage),
        }
    }
}

/// The phases of a run, in their order.
pub(super) fn phases(question: &Question) -> Vec<Phase> {
    let sizes = question.sizes();
    let mut run = Run {
        question,
        sizes: &sizes,
        phases: Vec::new(),
    };
    run.sft();
    if let Some(judge) = question.judges().find(|judge| judge.asks_reward_model()) {
        run.reward_model(
            &format!("judge model ({})", judge.scheme.plugin),
            question.data_row(),
        );
    }
    let config = &question.config;
    if config.task.ranks_samples() {
        run.pairs();
    }
    let mut trained: Vec<&RewardChoice> = Vec::new();
    for (choice, &needed) in config.reward.iter().zip(&question.needs.reward_models) {
        // Equal schemes share one training.
        let same = |other: &&RewardChoice| {
            other.plugin == choice.plugin && other.options == choice.options
        };
        if needed && !trained.iter().any(same) {
            run.reward_model(
                &format!("reward model ({})", choice.plugin),
                question.preference_row(),
            );
            trained.push(choice);
        }
    }
    run.ppo();
    run.evaluation();
    run.phases
}

impl Question {
    fn judges(&self) -> impl Iterator<Item = &JudgeConfig> {
        self.config.judges().map(|(_, judge)| judge)
    }

    /// Prompts of a split, where the configuration says how many there are.
    fn prompts(&self, of_sandbox: usize) -> u64 {
        match self.config.task {
            Task::Sandbox => of_sandbox as u64,
            Task::EditPairs | Task::Preferences => u64::MAX,
        }
    }
}

/// The base of each role where adapters are merged before they are saved; 0 for all where they are not.
const OF_POLICY: usize = 1;
const OF_JUDGE: usize = 2;
const OF_REWARD: usize = 3;

/// A run under way.
struct Run<'q> {
    question: &'q Question,
    sizes: &'q Sizes,
    phases: Vec<Phase>,
}

impl Run<'_> {
    fn push(&mut self, stage: &str, step: &'static str, roles: &[Role], work: String, held: Parts) {
        let machine = &self.question.machine;
        let other = Parts {
            other: machine.overhead(),
            ..Parts::default()
        };
        let parts = self.sizes.of_roles(roles, machine) + held + other;
        let name = |role: &Role| {
            let state = match role.state {
                State::Trained => "trained",
                State::Frozen => "frozen",
            };
            format!("{} ({state})", role.name)
        };
        self.phases.push(Phase {
            stage: stage.to_owned(),
            step,
            models: roles.iter().map(name).collect(),
            work,
            peak: parts.total(),
            parts,
        });
    }

    /// A model that an earlier stage has saved: on the shared base with its adapter, or merged on a base of its own.
    fn saved(&self, role: Role, own: usize) -> Role {
        let merged = self.question.config.model.merge_adapters;
        Role {
            base: if merged { own } else { 0 },
            adapted: !merged,
            ..role
        }
    }

    fn judge(&self) -> Role {
        self.saved(Role::frozen("judge's reward model").scored(), OF_JUDGE)
    }

    fn sft(&mut self) {
        let config = &self.question.config.sft;
        let batch = MicroBatch::of(
            config.batch_rows as u64,
            self.question.data_row(),
            1,
            config.micro_batch_tokens as u64,
        );
        let passes = self.question.passes(self.sizes);
        let held = Parts {
            activations: passes.training(batch),
            logits: passes.logits(batch, true),
            ..Parts::default()
        };
        self.push("sft", "", &[Role::trained("policy")], micro(batch), held);
    }

    fn reward_model(&mut self, title: &str, row: Row) {
        let config = &self.question.config.reward_model;
        let batch = MicroBatch::of(
            2 * config.batch_pairs as u64,
            row,
            2,
            config.micro_batch_tokens as u64,
        );
        let passes = self.question.passes(self.sizes);
        let held = Parts {
            activations: passes.training(batch),
            ..Parts::default()
        };
        let roles = [
            Role::trained("reward model").scored(),
            Role::frozen("policy it starts from"),
        ];
        self.push(title, "", &roles, micro(batch), held);
    }

    fn pairs(&mut self) {
        let config = &self.question.config;
        let policy = self.saved(Role::frozen("policy"), 0);
        let prompts = config
            .sandbox
            .n_reward_prompts
            .saturating_mul(config.pairs.per_prompt);
        let prompts = self.question.prompts(prompts);
        self.sampling(
            "pairs",
            slice::from_ref(&policy),
            &config.pairs.sampling,
            prompts,
            Parts::default(),
        );
        if config.annotator.asks_reward_model() {
            self.judging("pairs", vec![policy], config.pairs.sampling.max_new_tokens);
        }
    }

    fn evaluation(&mut self) {
        let config = &self.question.config;
        let roles = vec![
            self.saved(Role::frozen("reference"), 0),
            self.saved(Role::frozen("policy"), OF_POLICY),
        ];
        let prompts = self.question.prompts(config.sandbox.n_eval_prompts);
        self.sampling(
            "evaluation",
            &roles,
            &config.evaluation.sampling,
            prompts,
            Parts::default(),
        );
        if config.judge.asks_reward_model() {
            self.judging(
                "evaluation",
                roles,
                config.evaluation.sampling.max_new_tokens,
            );
        }
    }

    /// Sampling as the pipeline does it, some prompts at a time; `idle` is what a pool keeps meanwhile.
    fn sampling(
        &mut self,
        stage: &str,
        roles: &[Role],
        config: &SamplingConfig,
        prompts: u64,
        idle: Parts,
    ) {
        self.sample(
            stage,
            "sampling",
            roles,
            config,
            prompts.min(SAMPLED_TOGETHER as u64),
            idle,
        );
    }

    fn sample(
        &mut self,
        stage: &str,
        step: &'static str,
        roles: &[Role],
        config: &SamplingConfig,
        rows: u64,
        idle: Parts,
    ) {
        let machine = &self.question.machine;
        let sampling = Sampling {
            rows,
            row: self.question.sampled_row(config.max_new_tokens),
            weights: config.weights,
        };
        let work = format!(
            "{} rows at once of up to {} tokens",
            HumanCount(sampling.at_once(self.sizes, machine)),
            HumanCount(sampling.row.tokens())
        );
        let held = sampling.parts(self.question.passes(self.sizes)) + idle;
        // Where adapters are trained, the CPU merges a copy of the weights, and drops it once they are laid out.
        if !machine.is_gpu() && self.sizes.adapter().is_some() {
            let copy = Parts {
                parameters: machine.real() * self.sizes.parameters(),
                ..Parts::default()
            };
            let merging = sampling.decoder(self.sizes) + copy + idle;
            if merging.total() > held.total() {
                let work = format!("a copy with the adapter merged is laid out for {work}");
                self.push(stage, step, roles, work, merging);
                return;
            }
        }
        self.push(stage, step, roles, work, held);
    }

    /// A reward model judges responses that were sampled before.
    fn judging(&mut self, stage: &str, mut roles: Vec<Role>, new: usize) {
        let row = self.question.sampled_row(new);
        let batch = MicroBatch::of(u64::from(u32::MAX), row, 1, SCORED_TOKENS as u64);
        roles.push(self.judge());
        let passes = self.question.passes(self.sizes);
        let held = Parts {
            activations: passes.forward(batch),
            ..Parts::default()
        };
        self.push(stage, "judging", &roles, micro(batch), held);
    }

    fn ppo(&mut self) {
        let question = self.question;
        let (config, needs) = (&question.config, &question.needs);
        let (ppo, gpu) = (&config.ppo, question.machine.is_gpu());
        let passes = question.passes(self.sizes);
        let row = question.sampled_row(ppo.sampling.max_new_tokens);
        let cut = |rows: usize| MicroBatch::of(rows as u64, row, 1, ppo.micro_batch_tokens as u64);
        let (rollout, batch) = (cut(ppo.rollout_rows), cut(ppo.minibatch_rows));
        let roles = self.ppo_roles();

        let kept_for_first = ppo.minibatch_rows >= ppo.rollout_rows;
        let both = if needs.critic { 2 } else { 1 };
        let update = if gpu && !kept_for_first {
            passes.training(batch)
        } else if gpu {
            both * passes.kept(batch) + passes.backward(batch)
        } else {
            both * passes.training(batch)
        };
        let update = Parts {
            activations: update,
            logits: passes.logits(batch, true),
            ..Parts::default()
        };
        // Reward models that are not the critic's have pools of their own.
        let others = needs.reward_models.iter().filter(|&&needed| needed).count() as u64;
        let measuring = if gpu {
            let kept = if kept_for_first {
                both * passes.kept(rollout)
            } else {
                0
            };
            Parts {
                activations: kept + passes.forward(rollout),
                // The policy's, where they are kept, and the reference's.
                logits: passes.logits(rollout, false) * if kept_for_first { 2 } else { 1 },
                ..Parts::default()
            }
        } else {
            Parts {
                activations: update.activations + others * passes.forward(rollout),
                ..update
            }
        };
        // On the CPU the buffers of an update wait in the pools for the next.
        let idle = if gpu { Parts::default() } else { update };
        self.sample(
            "ppo",
            "sampling",
            &roles,
            &ppo.sampling,
            ppo.rollout_rows as u64,
            idle,
        );
        self.push("ppo", "measuring", &roles, micro(rollout), measuring);
        let mut work = micro(batch);
        if kept_for_first && needs.critic {
            work.push_str(", passes of policy and critic kept together");
        }
        self.push("ppo", "update", &roles, work, update);
        let watched = config.evaluation.prompts_while_training;
        let watched = question.prompts(watched.min(config.sandbox.n_reward_prompts));
        let watched = watched.min(config.evaluation.prompts_while_training as u64);
        let watched = watched.min(SAMPLED_TOGETHER as u64);
        self.sample(
            "ppo",
            "evaluating",
            &roles,
            &config.evaluation.sampling,
            watched,
            idle,
        );
    }

    fn ppo_roles(&self) -> Vec<Role> {
        let (config, needs) = (&self.question.config, &self.question.needs);
        let mut roles = vec![
            self.saved(Role::frozen("reference"), 0),
            Role::trained("policy"),
        ];
        let merged = config.model.merge_adapters;
        let base = |at: usize| if merged { OF_REWARD + at } else { 0 };
        let mut first = None;
        for (at, choice) in config.reward.iter().enumerate() {
            if !needs.reward_models.get(at).copied().unwrap_or(false) {
                continue;
            }
            first = first.or(Some(base(at)));
            // A merged one gets a fresh adapter, since a critic is made of it.
            roles.push(Role {
                base: base(at),
                ..Role::frozen(format!("reward model {}", choice.plugin)).scored()
            });
        }
        if needs.critic {
            roles.push(Role {
                base: first.unwrap_or(0),
                ..Role::trained("critic").scored()
            });
        }
        if config.judge.asks_reward_model() {
            roles.push(self.judge());
        }
        // On a GPU it waits on the host (`train/ppo/train.rs`).
        if config.evaluation.every > 0 && !self.question.machine.is_gpu() {
            roles.push(Role::frozen("best policy so far"));
        }
        roles
    }
}

/// A micro-batch in words.
fn micro(batch: MicroBatch) -> String {
    format!(
        "up to {} tokens at once, {} of them read",
        HumanCount(batch.tokens),
        HumanCount(batch.read)
    )
}
