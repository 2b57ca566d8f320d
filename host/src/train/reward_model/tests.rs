//! Training of a reward model on a tiny backbone.

use std::sync::atomic::AtomicBool;

use finegrain_sdk::rng::Stream;
use serde_json::json;

use super::*;
use crate::train::testing::{EOS, Recorder, context, decode, model, reward, weights};

/// Edits that replace every 9 by a 5.
fn pairs(rows: std::ops::Range<u32>) -> Vec<TokenPair> {
    rows.map(|row| {
        let rejected = vec![3 + row % 4, 9, 6 + row % 2, 9, 2][..4 + (row % 2) as usize].to_vec();
        let changed: Vec<u8> = rejected.iter().map(|&id| u8::from(id == 9)).collect();
        TokenPair {
            prompt: vec![1, 3 + row % 7],
            chosen: rejected
                .iter()
                .map(|&id| if id == 9 { 5 } else { id })
                .collect(),
            rejected,
            chosen_changed: changed.clone(),
            rejected_changed: changed,
        }
    })
    .collect()
}

#[test]
fn both_schemes_learn_to_rank_held_out_pairs() {
    for (name, options) in [
        ("token-average", json!({"tokens": "changed"})),
        ("token-average", json!({"tokens": "all"})),
        ("sequence", json!({})),
    ] {
        let (backbone, scheme) = (model(1), reward(name, &options));
        let train = |seed| {
            let (cancel, recorder) = (AtomicBool::new(false), Recorder::default());
            let inputs = RewardModelInputs {
                backbone: &backbone,
                scheme: &scheme,
                train: &pairs(0..48),
                held_out: &pairs(48..60),
                decode: &decode,
                eos: &[EOS],
                config: &RewardModelConfig {
                    epochs: 4,
                    batch_pairs: 8,
                    micro_batch_tokens: 40,
                    learning_rate: 1e-2,
                    ..RewardModelConfig::default()
                },
            };
            let report = run(&inputs, &context(seed, &cancel, &recorder)).unwrap();
            assert_eq!((report.optimizer_steps, report.held_out.len()), (24, 4));
            assert_eq!(recorder.all("reward_model/held_out_accuracy").len(), 4);
            report
        };
        let report = train(1);
        let last = report.held_out[3];
        assert!(last.accuracy > 0.95 && last.loss < 0.5, "{name}: {last:?}");
        let again = train(1);
        assert_eq!(weights(&report.model), weights(&again.model));
        assert_ne!(weights(&report.model), weights(&train(2).model));
    }
}

#[test]
fn micro_batches_add_up_to_the_mean_of_the_batch() {
    let backbone = model(1);
    let before = weights(&backbone);
    let scheme = reward("token-average", &json!({}));
    let pairs = pairs(0..7);
    let (cancel, recorder) = (AtomicBool::new(false), Recorder::default());
    let context = context(1, &cancel, &recorder);
    let step = |micro_batch_tokens| {
        let config = RewardModelConfig {
            micro_batch_tokens,
            ..RewardModelConfig::default()
        };
        let inputs = RewardModelInputs {
            backbone: &backbone,
            scheme: &scheme,
            train: &pairs,
            held_out: &[],
            decode: &decode,
            eos: &[EOS],
            config: &config,
        };
        let head = ScalarHead::random(16, &Stream::new(3)).unwrap();
        let mut model = ScoredModel::new(backbone.clone(), head).unwrap();
        let constants = OptimizerConfig {
            eps: 1.0,
            ..OptimizerConfig::default()
        };
        let mut optimizer = AdamW::new(&model, &constants).unwrap();
        let batch = [6, 0, 3, 2, 1];
        let loss = accumulate(&model, &mut optimizer, &inputs, &batch, 0, &context).unwrap();
        optimizer.clip_and_step(&mut model, 1.0).unwrap();
        (loss, weights(&model))
    };
    let (whole, parts) = (step(0), step(30));
    assert!(
        (whole.0 - parts.0).abs() < 1e-6,
        "{} against {}",
        whole.0,
        parts.0
    );
    assert_ne!(whole.1, before);
    for (a, b) in whole.1.iter().zip(&parts.1) {
        assert!((a - b).abs() < 1e-6, "{a} against {b}");
    }
    assert_eq!(
        weights(&backbone),
        before,
        "the backbone is copied, not trained"
    );
}

#[test]
fn pairs_that_break_their_contract_are_named() {
    let (backbone, scheme) = (model(1), reward("token-average", &json!({})));
    let (cancel, recorder) = (AtomicBool::new(false), Recorder::default());
    let context = context(1, &cancel, &recorder);
    let refused = |change: fn(&mut TokenPair), words: &str| {
        let mut train = pairs(0..3);
        change(&mut train[1]);
        let inputs = RewardModelInputs {
            backbone: &backbone,
            scheme: &scheme,
            train: &train,
            held_out: &[],
            decode: &decode,
            eos: &[EOS],
            config: &RewardModelConfig::default(),
        };
        let Err(error) = run(&inputs, &context) else {
            panic!("{words} was accepted")
        };
        assert_eq!(
            error.to_string(),
            format!("reward_model: training pair 1 {words}")
        );
    };
    refused(|pair| pair.chosen.clear(), "has a response of no tokens");
    refused(|pair| pair.prompt.clear(), "has a prompt of no tokens");
    refused(
        |pair| _ = pair.chosen_changed.pop(),
        "does not say for every token whether it changed",
    );
}

#[test]
fn equal_rewards_count_one_half() {
    assert_eq!(
        accuracy(&[1.0, 0.0, 2.0, 3.0], &[0.0, 0.0, 3.0, 1.0]),
        0.625
    );
}
