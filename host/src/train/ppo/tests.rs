//! The whole of PPO on a tiny model.

use std::sync::atomic::AtomicBool;

use finegrain_sdk::rng::Stream;
use serde_json::json;

use super::config::PpoConfig;
use super::kl::KlPlacement;
use super::losses::LossAverage;
use super::reward_scale::Gains;
use super::rollout::{self, Environment, Models, WeightedSource};
use super::train::{PpoInputs, PpoReport, run};
use super::update::{Learner, Material};
use crate::error::Result;
use crate::model::{CausalLm, SamplingWeights, ScalarHead, ScoredModel};
use crate::train::adamw::OptimizerConfig;
use crate::train::rollout_batch::RewardSource;
use crate::train::sampling::SamplingConfig;
use crate::train::schedule::{Decay, ScheduleConfig};
use crate::train::testing::{EOS, Recorder, context, decode, gae, model, reward, weights};

fn config() -> PpoConfig {
    PpoConfig {
        steps: 3,
        rollout_rows: 16,
        minibatch_rows: 8,
        sampling: SamplingConfig {
            max_new_tokens: 6,
            ..SamplingConfig::default()
        },
        learning_rate: 3e-3,
        critic_learning_rate: 3e-3,
        schedule: ScheduleConfig {
            decay: Decay::Constant,
            ..ScheduleConfig::default()
        },
        optimizer: OptimizerConfig::default(),
        ..PpoConfig::default()
    }
}

fn prompts() -> Vec<Vec<u32>> {
    vec![
        vec![1, 3],
        vec![1, 4, 6],
        vec![1, 7],
        vec![1, 8, 9, 10],
        vec![1],
    ]
}

/// A run with the rule that wants id 5.
fn run_fives(
    config: &PpoConfig,
    seed: u64,
    every: u64,
    evaluate: &mut dyn FnMut(u64, &CausalLm) -> Result<f64>,
    recorder: &Recorder,
) -> PpoReport {
    let (scheme, advantage, policy) = (reward("test-fives", &json!({})), gae(), model(1));
    let reference = policy.clone();
    let rewards = [WeightedSource {
        weight: 1.0,
        source: RewardSource {
            name: "fives",
            scheme: &scheme,
            model: None,
        },
    }];
    let cancel = AtomicBool::new(false);
    run(
        PpoInputs {
            policy,
            reference: &reference,
            rewards: &rewards,
            advantage: &advantage,
            prompts: &prompts(),
            decode: &decode,
            eos: &[EOS],
            config,
            evaluate_every: every,
            evaluate,
        },
        &context(seed, &cancel, recorder),
    )
    .unwrap()
}

#[test]
fn the_first_step_has_ratio_one_and_no_divergence() {
    let recorder = Recorder::default();
    run_fives(&config(), 1, 0, &mut |_, _| Ok(0.0), &recorder);
    assert_eq!(recorder.all("kl/token_k1")[0], 0.0);
    assert_eq!(recorder.all("kl/token_k3")[0], 0.0);
    assert_eq!(recorder.all("reward/kl")[0], 0.0);
    // Later steps move away from the reference, but start each update at their own sampling policy.
    assert!(recorder.all("kl/token_k3")[2] > 0.0);
    for deviation in recorder.all("policy/first_ratio_deviation") {
        assert!(deviation < 1e-5, "{deviation}");
    }
    assert_eq!(
        recorder.all("value/mean")[0],
        0.0,
        "a zero head values nothing"
    );
}

/// The rollout's own log-probabilities stay those of the f32 policy, so that the first ratio is 1 whatever sampled.
#[test]
fn rounded_weights_say_how_far_they_sample_from_the_policy() {
    let names = [
        "sampling/logprob_deviation",
        "sampling/logprob_deviation_max",
        "sampling/kl_k3",
    ];
    for weights in [
        SamplingWeights::F32,
        SamplingWeights::Bf16,
        SamplingWeights::Q8,
    ] {
        let recorder = Recorder::default();
        let mut config = config();
        config.sampling.weights = weights;
        run_fives(&config, 1, 0, &mut |_, _| Ok(0.0), &recorder);
        let [mean, max, kl] = names.map(|name| recorder.all(name));
        if weights == SamplingWeights::F32 {
            assert!(mean.is_empty() && max.is_empty() && kl.is_empty());
            continue;
        }
        assert_eq!([mean.len(), max.len(), kl.len()], [3; 3]);
        for ((mean, max), kl) in mean.into_iter().zip(max).zip(kl) {
            // Sums of f32 in another order differ by about 1e-6; rounding by far more.
            assert!(mean > 1e-5 && mean < max && max < 0.1, "{mean} {max}");
            assert!(kl > 0.0 && kl < max * max, "{kl} {max}");
        }
        for deviation in recorder.all("policy/first_ratio_deviation") {
            assert!(deviation < 1e-5, "{deviation}");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_bits_and_another_seed_others() {
    let run = |seed| {
        let recorder = Recorder::default();
        let report = run_fives(&config(), seed, 0, &mut |_, _| Ok(0.0), &recorder);
        (weights(&report.last), recorder.timeless())
    };
    let (first, metrics) = run(1);
    // One thread instead of however many: no reduction may depend on it.
    let one_thread = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .unwrap();
    let (again, same_metrics) = one_thread.install(|| run(1));
    assert_eq!(first, again);
    assert_eq!(metrics, same_metrics);
    assert_ne!(first, run(2).0);
}

#[test]
fn the_reward_rises() {
    let recorder = Recorder::default();
    let config = PpoConfig {
        steps: 30,
        rollout_rows: 32,
        minibatch_rows: 16,
        kl_coef: 0.01,
        ..config()
    };
    let mut calls = Vec::new();
    let report = run_fives(
        &config,
        1,
        10,
        &mut |step, _| {
            calls.push(step);
            // A peak in the middle: the best is not the last.
            Ok(if step == 20 { 2.0 } else { 1.0 })
        },
        &recorder,
    );
    let rewards = recorder.all("reward/fives");
    assert!(rewards[0] < 1.5, "{rewards:?}");
    assert!(rewards[29] > 3.0, "{rewards:?}");
    assert_eq!(calls, [0, 10, 20, 30]);
    assert_eq!(report.best_step, 20);
    assert_ne!(weights(&report.best), weights(&report.last));
    let last = report.evaluations.last().unwrap();
    assert_eq!((last.samples, last.optimizer_steps), (30 * 32, 30 * 4));
    assert!(
        report
            .evaluations
            .windows(2)
            .all(|pair| pair[0].wall_seconds < pair[1].wall_seconds)
    );
}

/// One rollout and one update of one minibatch, at most so many tokens together; the weights after it.
/// `reuse` lets the first update take the rollout's own passes.
fn one_update(config: &PpoConfig, reuse: bool) -> (Vec<f32>, Vec<f32>) {
    let policy = model(1);
    let reference = model(2);
    let head = ScalarHead::random(16, &Stream::new(5)).unwrap();
    let critic = ScoredModel::new(model(3), head).unwrap();
    let scheme = reward("test-fives", &json!({}));
    let sources = [WeightedSource {
        weight: 1.0,
        source: RewardSource {
            name: "fives",
            scheme: &scheme,
            model: None,
        },
    }];
    let (cancel, recorder) = (AtomicBool::new(false), Recorder::default());
    let context = context(1, &cancel, &recorder);
    let models = Models {
        policy: &policy,
        reference: &reference,
        critic: Some(&critic),
    };
    let environment = Environment {
        rewards: &sources,
        prompts: &prompts(),
        decode: &decode,
        eos: &[EOS],
        config,
    };
    let mut rollout = rollout::collect(
        &models,
        &environment,
        0.1,
        &mut Gains::new(config.reward_scale),
        0,
        &context,
    )
    .unwrap();
    let first = rollout.first.take();
    assert_eq!(first.is_some(), config.micro_batch_tokens == 0);
    let first = first.filter(|_| reuse);
    let targets = rollout::targets(&rollout, &gae(), config, 0, &context).unwrap();
    let mut learner = Learner::new(policy, Some(critic), config).unwrap();
    let material = Material {
        rollout: &rollout,
        targets: &targets,
        config,
        lr_factor: 1.0,
        kl_coef: 0.1,
    };
    let stats = learner.update(&material, first, &Stream::new(9)).unwrap();
    assert_eq!(stats.optimizer_steps, 1);
    (weights(&learner.policy), weights(&learner.critic.unwrap()))
}

#[test]
fn micro_batches_and_passes_used_again_add_up_to_the_minibatch() {
    for loss_average in [
        LossAverage::Tokens,
        LossAverage::Rows,
        LossAverage::Capacity,
    ] {
        let with = |micro_batch_tokens| PpoConfig {
            epochs: 1,
            minibatch_rows: 16,
            micro_batch_tokens,
            entropy_coef: 0.01,
            kl_placement: KlPlacement::Loss,
            loss_average,
            clip_jointly: true,
            // A large epsilon makes the step linear in the gradient; Adam would blow up the rounding of tiny gradients.
            optimizer: OptimizerConfig {
                eps: 1.0,
                ..OptimizerConfig::default()
            },
            learning_rate: 1.0,
            critic_learning_rate: 1.0,
            ..config()
        };
        let start = weights(&model(1));
        let (whole, whole_critic) = one_update(&with(0), true);
        let (again, again_critic) = one_update(&with(0), false);
        let (parts, parts_critic) = one_update(&with(20), false);
        let moved = whole
            .iter()
            .zip(&start)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(moved > 1e-3, "{loss_average:?} moved by {moved}");
        for (other, other_critic) in [(again, again_critic), (parts, parts_critic)] {
            let pairs = whole.iter().zip(&other);
            for (a, b) in pairs.chain(whole_critic.iter().zip(&other_critic)) {
                assert!((a - b).abs() < 1e-5, "{loss_average:?}: {a} against {b}");
            }
        }
    }
}

#[test]
fn stacked_schemes_stay_channels_of_their_own() {
    let (fives, sequence) = (
        reward("test-fives", &json!({})),
        reward("sequence", &json!({})),
    );
    let head = ScalarHead::random(16, &Stream::new(5)).unwrap();
    let reward_model = ScoredModel::new(model(4), head).unwrap();
    let rewards = [
        WeightedSource {
            weight: 2.0,
            source: RewardSource {
                name: "fives",
                scheme: &fives,
                model: None,
            },
        },
        WeightedSource {
            weight: 0.5,
            source: RewardSource {
                name: "sequence",
                scheme: &sequence,
                model: Some(&reward_model),
            },
        },
    ];
    let (policy, reference, advantage) = (model(1), model(2), gae());
    let (cancel, recorder) = (AtomicBool::new(false), Recorder::default());
    let config = PpoConfig {
        samples_per_prompt: 4,
        ..config()
    };
    let inputs = PpoInputs {
        policy,
        reference: &reference,
        rewards: &rewards,
        advantage: &advantage,
        prompts: &prompts(),
        decode: &decode,
        eos: &[EOS],
        config: &config,
        evaluate_every: 0,
        evaluate: &mut |_, _| Ok(0.0),
    };
    run(inputs, &context(1, &cancel, &recorder)).unwrap();
    let names = ["reward/fives", "reward/sequence", "reward/kl"];
    let parts = names.map(|name| recorder.all(name));
    for (step, total) in recorder.all("reward/total").iter().enumerate() {
        let sum: f64 = parts.iter().map(|channel| channel[step]).sum();
        assert!((sum - total).abs() < 1e-5, "{sum} against {total}");
        assert!(parts.iter().all(|channel| channel[step] != 0.0));
    }
    assert_eq!(recorder.all("reward/zero_std_fraction").len(), 3);
}

#[test]
fn a_scheme_without_its_reward_model_is_refused() {
    let scheme = reward("sequence", &json!({}));
    let rewards = [WeightedSource {
        weight: 1.0,
        source: RewardSource {
            name: "sequence",
            scheme: &scheme,
            model: None,
        },
    }];
    let (reference, advantage) = (model(1), gae());
    let (cancel, recorder) = (AtomicBool::new(false), Recorder::default());
    let inputs = PpoInputs {
        policy: model(1),
        reference: &reference,
        rewards: &rewards,
        advantage: &advantage,
        prompts: &prompts(),
        decode: &decode,
        eos: &[EOS],
        config: &config(),
        evaluate_every: 0,
        evaluate: &mut |_, _| Ok(0.0),
    };
    let Err(error) = run(inputs, &context(1, &cancel, &recorder)) else {
        panic!("a run without rewards")
    };
    assert!(
        error.to_string().contains("needs a reward model"),
        "{error}"
    );
}
