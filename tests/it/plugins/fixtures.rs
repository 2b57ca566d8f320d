//! The good fixtures do what they say, found by path and by environment; and the registries that the other tests use.

use std::process::Command;

use finegrain::error::Result;
use finegrain::plugins::{PluginSearch, Registry};
use finegrain_sdk::kinds::{EditOutcome, Verdict};
use serde_json::json;

use super::batches::{Batch, Texts, context};
use super::build::{FIRST_PARTY, FIXTURES};

/// A search of these libraries alone.
pub(super) fn search(paths: &[std::path::PathBuf]) -> PluginSearch {
    PluginSearch {
        paths: paths.to_vec(),
        ..PluginSearch::built_in()
    }
}

/// What is found.
pub(super) fn registry(search: &PluginSearch) -> Result<Registry> {
    Registry::load(search)
}

/// The built-in plugins and these libraries.
pub(super) fn registry_with(paths: &[std::path::PathBuf]) -> Result<Registry> {
    registry(&search(paths))
}

/// The first-party plugins as they are linked into finegrain.
pub(super) fn first_party_linked() -> Registry {
    Registry::built_in().unwrap()
}

/// The first-party plugins from their shared libraries alone.
pub(super) fn first_party_loaded() -> Registry {
    let mut registry = Registry::default();
    let paths: Vec<_> = FIRST_PARTY.values().cloned().collect();
    registry.add_libraries(&search(&paths)).unwrap();
    registry
}

/// The bits of numbers, for comparisons without tolerance.
pub(super) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn good(name: &str) -> Registry {
    registry_with(&[FIXTURES[name].clone()]).unwrap()
}

#[test]
fn a_loaded_reward_scheme_trains_and_rewards() {
    let registry = good("reward-length-penalised");
    let scheme = registry
        .reward("length-penalised", &json!({ "price": 0.25 }))
        .unwrap();
    let batch = Batch::new(1, 6);
    let (rollouts, pairs) = (batch.rollouts(), batch.pairs());
    let sequence = scheme.sequence_reward(&rollouts, &context()).unwrap();
    let tokens = scheme.token_rewards(&rollouts, &context()).unwrap();
    for (row, reward) in sequence.iter().enumerate() {
        let sum: f32 = tokens[rollouts.scores.range(row)].iter().sum();
        assert!(
            (sum - reward).abs() < 1e-5,
            "row {row}: {sum} is not {reward}"
        );
    }
    let loss = scheme.preference_loss(&pairs, &context()).unwrap();
    // A token's gradient is the same along its row, and both sides of a pair pull equally hard in all.
    for row in 0..batch.rows() {
        let sum = |side: &[f32], range: std::ops::Range<usize>| side[range].iter().sum::<f32>();
        let chosen = sum(&loss.chosen, pairs.chosen.scores.range(row));
        let rejected = sum(&loss.rejected, pairs.rejected.scores.range(row));
        assert!(
            chosen < 0.0 && (chosen + rejected).abs() < 1e-6,
            "row {row}: {chosen}, {rejected}"
        );
    }
}

#[test]
fn a_loaded_advantage_estimator_works_without_a_critic() {
    let estimator = good("advantage-leave-one-out")
        .advantage("leave-one-out", &json!({}))
        .unwrap();
    assert!(!estimator.capabilities().needs_critic);
    assert_eq!(estimator.capabilities().samples_per_prompt, 2);
    let batch = Batch::new(2, 6);
    let mut trajectories = batch.trajectories();
    trajectories.values = None;
    let (advantages, returns) = estimator.estimate(&trajectories, &context()).unwrap();
    for first in (0..batch.rows()).step_by(2) {
        let [a, b] = [first, first + 1].map(|row| trajectories.rewards.range(row).start);
        assert!(
            (advantages[a] + advantages[b]).abs() < 1e-5,
            "a pair's advantages cancel out"
        );
        assert!((advantages[a] - (returns[a] - returns[b])).abs() < 1e-5);
    }
}

#[test]
fn a_loaded_editor_edits() {
    let editor = good("editor-unstutter")
        .editor("unstutter", &json!({ "ignore_case": true }))
        .unwrap();
    let mut batch = Batch::new(3, 2);
    batch.responses = Texts::new(vec![
        "The the größer größer cat".into(),
        "one two one".into(),
    ]);
    let outcomes = editor.edit_all(&batch.requests(), &context()).unwrap();
    assert_eq!(
        outcomes,
        [
            EditOutcome::Edited("The größer cat".into()),
            EditOutcome::Unchanged
        ]
    );
}

#[test]
fn a_loaded_judge_judges_with_its_reasons() {
    let judge = good("judge-shorter").judge("shorter", &json!({})).unwrap();
    let mut batch = Batch::new(4, 4);
    batch.responses = Texts::new(["ab", "größer", "x", ""].map(String::from).to_vec());
    batch.others = Texts::new(["a", "bigger", "xy", ""].map(String::from).to_vec());
    let judgements = judge.compare_all(&batch.comparisons(), &context()).unwrap();
    let verdicts: Vec<Verdict> = judgements
        .iter()
        .map(|judgement| judgement.verdict.clone())
        .collect();
    let (a, b) = (Verdict::Preference(0.0), Verdict::Preference(1.0));
    assert_eq!(verdicts, [b, Verdict::Tie, a, Verdict::Tie]);
    assert_eq!(judgements[0].reason, "2 against 1 characters");
}

#[test]
fn several_libraries_live_side_by_side() {
    let paths: Vec<_> = FIXTURES
        .iter()
        .filter(|(name, _)| *name != "second-gae")
        .map(|(_, path)| path.clone())
        .collect();
    let registry = registry_with(&paths).unwrap();
    for name in [
        "sequence",
        "token-average",
        "length-penalised",
        "bad-reward",
    ] {
        assert!(registry.reward(name, &json!({})).is_ok(), "{name}");
    }
}

/// Set in the process that this test starts, which then looks for its plugins through the environment.
const CHILD: &str = "FINEGRAIN_TEST_OF_THE_ENVIRONMENT";

#[test]
fn the_environment_names_libraries_too() {
    if std::env::var_os(CHILD).is_some() {
        let search = PluginSearch {
            use_environment: true,
            ..PluginSearch::built_in()
        };
        let registry = registry(&search).unwrap();
        assert!(registry.judge("shorter", &json!({})).is_ok());
        assert!(registry.editor("unstutter", &json!({})).is_ok());
        return;
    }
    let (_, module) = module_path!().split_once("::").expect("below the crate");
    let name = format!("{module}::the_environment_names_libraries_too");
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(
        &FIXTURES["editor-unstutter"],
        folder.path().join("libunstutter.so"),
    )
    .unwrap();
    let path = format!(
        "{}:{}",
        FIXTURES["judge-shorter"].display(),
        folder.path().display()
    );
    let output = Command::new(std::env::current_exe().unwrap())
        .args([name.as_str(), "--exact", "--nocapture"])
        .env("FINEGRAIN_PLUGIN_PATH", path)
        .env(CHILD, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
