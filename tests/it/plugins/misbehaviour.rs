//! Plugins that break their contract: each way is one error with exit code 4 that names plugin and row, and nothing else
//! happens to the process.

use finegrain::error::Error;
use finegrain::plugins::Registry;
use serde_json::{Value, json};

use super::batches::{Batch, context};
use super::build::FIXTURES;
use super::fixtures::registry_with;

fn registry() -> Registry {
    registry_with(&[FIXTURES["misbehaving"].clone()]).unwrap()
}

fn how(how: &str) -> Value {
    json!({ "how": how })
}

/// Asserts exit code 4, one line, and every part of the message.
#[track_caller]
fn assert_refused(error: &Error, parts: &[&str]) {
    let message = error.to_string();
    assert_eq!(error.exit_code(), 4, "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

#[test]
fn a_reward_scheme_may_not_panic() {
    let batch = Batch::new(1, 4);
    let scheme = registry().reward("bad-reward", &how("panics")).unwrap();
    let error = scheme
        .token_rewards(&batch.rollouts(), &context())
        .unwrap_err();
    assert_refused(
        &error,
        &[
            "plugin reward/bad-reward (libmisbehaving.so",
            "src/reward.rs:",
            "this reward scheme panics",
        ],
    );
    let again = scheme
        .sequence_reward(&batch.rollouts(), &context())
        .unwrap_err();
    assert_refused(&again, &["panicked in an earlier call"]);
}

#[test]
fn a_reward_scheme_must_write_every_element() {
    let batch = Batch::new(2, 4);
    let scheme = registry().reward("bad-reward", &how("unwritten")).unwrap();
    for error in [
        scheme
            .preference_loss(&batch.pairs(), &context())
            .unwrap_err(),
        scheme
            .sequence_reward(&batch.rollouts(), &context())
            .unwrap_err(),
        scheme
            .token_rewards(&batch.rollouts(), &context())
            .unwrap_err(),
    ] {
        assert_refused(&error, &["reward/bad-reward", "row 3", "unwritten"]);
    }
}

#[test]
fn gradients_and_rewards_must_be_finite() {
    let batch = Batch::new(3, 4);
    let scheme = registry().reward("bad-reward", &how("not-finite")).unwrap();
    for error in [
        scheme
            .preference_loss(&batch.pairs(), &context())
            .unwrap_err(),
        scheme
            .sequence_reward(&batch.rollouts(), &context())
            .unwrap_err(),
        scheme
            .token_rewards(&batch.rollouts(), &context())
            .unwrap_err(),
    ] {
        assert_refused(&error, &["reward/bad-reward", "row 3", "inf"]);
    }
}

#[test]
fn an_advantage_estimator_is_held_to_the_same() {
    let batch = Batch::new(4, 4);
    for (way, part) in [
        ("panics", "this advantage estimator panics"),
        ("unwritten", "unwritten"),
        ("not-finite", "-inf"),
    ] {
        let estimator = registry().advantage("bad-advantage", &how(way)).unwrap();
        let error = estimator
            .estimate(&batch.trajectories(), &context())
            .unwrap_err();
        assert_refused(&error, &["plugin advantage/bad-advantage", part]);
    }
}

#[test]
fn an_editor_answers_every_row_once() {
    let batch = Batch::new(5, 4);
    for (way, part) in [
        ("panics", "this editor panics"),
        ("unwritten", "never pushed"),
        ("twice", "a second time"),
        ("out-of-range", "not in its batch of 4 rows"),
        ("deaf", "a second time"),
    ] {
        let editor = registry().editor("bad-editor", &how(way)).unwrap();
        let error = editor.edit_all(&batch.requests(), &context()).unwrap_err();
        assert_refused(&error, &["plugin editor/bad-editor", part]);
    }
}

#[test]
fn answers_before_the_fault_are_kept() {
    let batch = Batch::new(5, 4);
    let editor = registry().editor("bad-editor", &how("deaf")).unwrap();
    let mut stored = Vec::new();
    let outcome = editor.edit(&batch.requests(), &context(), &mut |row, _| {
        stored.push(row);
        Ok(())
    });
    assert!(outcome.is_err());
    assert_eq!(stored, [0, 1, 2, 3]);
}

#[test]
fn a_judge_answers_every_row_once_and_within_its_range() {
    let batch = Batch::new(6, 4);
    for (way, part) in [
        ("panics", "this judge panics"),
        ("unwritten", "never pushed"),
        ("not-finite", "NaN"),
        ("twice", "a second time"),
        ("out-of-range", "not in its batch of 4 rows"),
        ("deaf", "a second time"),
    ] {
        let judge = registry().judge("bad-judge", &how(way)).unwrap();
        let error = judge
            .compare_all(&batch.comparisons(), &context())
            .unwrap_err();
        assert_refused(&error, &["plugin judge/bad-judge", part]);
    }
}

#[test]
fn a_panic_while_an_instance_is_made_is_an_error_too() {
    let registry = registry();
    let errors = [
        registry
            .reward("bad-reward", &how("panics-when-made"))
            .map(drop),
        registry
            .advantage("bad-advantage", &how("panics-when-made"))
            .map(drop),
        registry
            .editor("bad-editor", &how("panics-when-made"))
            .map(drop),
        registry
            .judge("bad-judge", &how("panics-when-made"))
            .map(drop),
    ];
    for error in errors {
        assert_refused(
            &error.unwrap_err(),
            &["this plugin panics when it is made", "src/lib.rs:"],
        );
    }
}
