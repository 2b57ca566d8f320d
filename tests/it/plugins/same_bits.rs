//! First-party plugins give the same bits whether they are linked in or loaded from their shared library.

use std::io::Write;

use finegrain::data::records::Demonstration;
use finegrain::plugins::{Judgement, Registry};
use finegrain::sandbox::{self, SandboxConfig};
use finegrain_sdk::kinds::{EditOutcome, Verdict};
use finegrain_sdk::rng::Stream;
use serde_json::json;

use super::batches::{Batch, Texts, context};
use super::fixtures::{bits, first_party_linked, first_party_loaded};

/// Batches of several sizes.
fn batches() -> impl Iterator<Item = Batch> {
    [2, 2, 6, 20, 64]
        .into_iter()
        .enumerate()
        .map(|(seed, rows)| Batch::new(seed as u64, rows))
}

/// The registry with the linked plugins, and the one with the loaded ones.
fn both() -> [Registry; 2] {
    [first_party_linked(), first_party_loaded()]
}

#[test]
fn reward_schemes() {
    let [linked, loaded] = both();
    for (name, options) in [
        ("sequence", json!({})),
        ("token-average", json!({})),
        ("token-average", json!({ "tokens": "all", "scale": "mean" })),
        (
            "token-average",
            json!({ "tokens": "all", "scale": "mean", "exclude_eos_id": 3 }),
        ),
        (
            "token-average",
            json!({ "tokens": "changed", "exclude_eos_id": 3 }),
        ),
    ] {
        let [linked, loaded] =
            [&linked, &loaded].map(|registry| registry.reward(name, &options).unwrap());
        for batch in batches() {
            let losses = [&linked, &loaded].map(|scheme| {
                let loss = scheme.preference_loss(&batch.pairs(), &context()).unwrap();
                (
                    loss.loss.to_bits(),
                    bits(&loss.chosen),
                    bits(&loss.rejected),
                )
            });
            assert_eq!(losses[0], losses[1], "{name} {options}");
            let rewards = [&linked, &loaded].map(|scheme| {
                let sequence = scheme
                    .sequence_reward(&batch.rollouts(), &context())
                    .unwrap();
                let tokens = scheme.token_rewards(&batch.rollouts(), &context()).unwrap();
                (bits(&sequence), bits(&tokens))
            });
            assert_eq!(rewards[0], rewards[1], "{name} {options}");
        }
    }
}

#[test]
fn advantage_estimators() {
    let [linked, loaded] = both();
    for options in [
        json!({}),
        json!({ "gamma": 0.99, "lambda": 0.95 }),
        json!({ "gamma": 0.9, "lambda": 0.5, "value_lambda": 1.0 }),
    ] {
        let [linked, loaded] =
            [&linked, &loaded].map(|registry| registry.advantage("gae", &options).unwrap());
        for batch in batches() {
            let estimates = [&linked, &loaded].map(|estimator| {
                let (advantages, returns) = estimator
                    .estimate(&batch.trajectories(), &context())
                    .unwrap();
                (bits(&advantages), bits(&returns))
            });
            assert_eq!(estimates[0], estimates[1], "{options}");
        }
    }
}

#[test]
fn editors() {
    let [linked, loaded] = both();
    let batch = sandbox_batch();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    for (row, response) in batch.responses.batch().iter().enumerate() {
        // One edit, two of which one is drawn, or none.
        for edit in 0..[1, 2, 0][row % 3] {
            let line =
                json!({ "id": format!("row-{row}"), "edited": format!("{response} edit {edit}") });
            writeln!(file, "{line}").unwrap();
        }
    }
    let human = json!({ "path": file.path().to_str(), "repeats": "random" });
    for (name, options) in [("human", human), ("rubric", json!({}))] {
        let outcomes = [&linked, &loaded].map(|registry| {
            let editor = registry.editor(name, &options).unwrap();
            editor.edit_all(&batch.requests(), &context()).unwrap()
        });
        assert_eq!(outcomes[0], outcomes[1], "{name}");
        let edited = |outcome: &EditOutcome| matches!(outcome, EditOutcome::Edited(_));
        assert!(
            outcomes[0].iter().filter(|outcome| edited(outcome)).count() > 10,
            "{name} edits too little to compare"
        );
    }
}

#[test]
fn judges() {
    let [linked, loaded] = both();
    let batch = sandbox_batch();
    let judgements = [&linked, &loaded].map(|registry| {
        let judge = registry.judge("rubric", &json!({})).unwrap();
        judge.compare_all(&batch.comparisons(), &context()).unwrap()
    });
    assert_eq!(judgements[0], judgements[1]);
    let prefers_a = |judgement: &Judgement| judgement.verdict == Verdict::Preference(0.0);
    let n = judgements[0]
        .iter()
        .filter(|judgement| prefers_a(judgement))
        .count();
    assert!(
        n > 3,
        "{n} verdicts for the first response are too few to compare"
    );
}

/// Prompts and responses of the sandbox, whose editor and judge refuse any others. Most responses have defects; each is
/// compared with the response to another prompt.
fn sandbox_batch() -> Batch {
    let config = SandboxConfig {
        n_demonstrations: 64,
        defect_rate: 0.5,
        ..SandboxConfig::default()
    };
    let corpus = sandbox::generate(&config, &Stream::new(1)).unwrap();
    let column = |text: fn(&Demonstration) -> &String| {
        corpus.demonstrations.iter().map(text).cloned().collect()
    };
    let responses: Vec<String> = column(|row| &row.response);
    let mut batch = Batch::new(7, responses.len());
    batch.prompts = Texts::new(column(|row| &row.prompt));
    batch.others = Texts::new(responses.iter().rev().cloned().collect());
    batch.responses = Texts::new(responses);
    batch
}
