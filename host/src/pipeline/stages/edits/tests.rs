//! What is asked of an editor, what is kept of its answers, and when too many failures end the stage.

use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};

use finegrain_sdk::kinds::{EditOutcome, EditSink, Editor, Origin};
use finegrain_sdk::rng::Stream;
use finegrain_sdk::schemars::{self, JsonSchema};
use finegrain_sdk::{Plugin, PluginInfo, register};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::*;
use crate::device::Device;
use crate::pipeline::checkpoints::Checkpoints;
use crate::pipeline::context::Silent;
use crate::plugins::Registry;

/// The ids of every call, and the folder for answers that came with it.
static CALLS: Mutex<Vec<(Vec<String>, Option<String>)>> = Mutex::new(Vec::new());

#[derive(Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Options {}

/// An editor that fails on ids with an `x` in its first call and edits everything later.
struct Outage;

impl Plugin for Outage {
    const NAME: &'static str = "test-outage";
    type Options = Options;

    fn info() -> PluginInfo {
        PluginInfo::default()
    }

    fn new(_: Options) -> finegrain_sdk::Result<Self> {
        Ok(Self)
    }
}

impl Editor for Outage {
    fn edit(
        &self,
        requests: &EditRequests<'_>,
        sink: &mut dyn EditSink,
        context: &CallContext<'_>,
    ) -> finegrain_sdk::Result<()> {
        let mut calls = CALLS.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = requests.ids.rows();
        let ids: Vec<String> = (0..rows).map(|row| requests.ids.row(row).into()).collect();
        for (row, id) in ids.iter().enumerate() {
            let outcome = if calls.is_empty() && id.contains('x') {
                EditOutcome::Failed("503".into())
            } else if id == "599" {
                EditOutcome::Rejected("not-minimal: longer 3.000 (limit 1.5)".into())
            } else {
                EditOutcome::Edited(format!("{} edited", requests.responses.row(row)))
            };
            let origin = Origin {
                model: "m".into(),
                tries: 1,
                ..Origin::default()
            };
            // Some rows have an origin.
            if row % 2 == 0 {
                sink.push_with_origin(row, outcome, &origin)?;
            } else {
                sink.push(row, outcome)?;
            }
        }
        let folder = context.answers.map(|path| path.display().to_string());
        calls.push((ids, folder));
        Ok(())
    }
}

register!(Editor, Outage);

#[test]
fn a_failure_is_asked_again_and_too_many_end_the_stage() {
    let dir = tempfile::tempdir().unwrap();
    let context = StageContext {
        stream: Stream::new(1),
        threads: 1,
        device: &Device::Cpu,
        cancel: &AtomicBool::new(false),
        observer: &Silent,
        dir: dir.path(),
        checkpoints: Checkpoints::none(),
        answers: Some(Path::new("paid")),
    };
    let pairs: Vec<Pair> = (0..600)
        .map(|i| Pair {
            id: if i < 40 {
                format!("x{i}")
            } else {
                format!("{i}")
            },
            prompt: "p".into(),
            chosen: "good".into(),
            rejected: "bad".into(),
            chosen_ended: true,
            rejected_ended: true,
            flipped: false,
            source: PairSource::Pairs,
            sampled: None,
        })
        .collect();
    let registry = Registry::built_in().unwrap();
    let editor = registry.editor("test-outage", &json!({})).unwrap();
    let log = dir.path().join("train.jsonl");
    let config = EditorConfig::default();
    let mut set_aside = Vec::new();
    let go = |config: &EditorConfig| edit(&context, config, &editor, &log, &pairs);

    // 40 of 600 are more than 5%.
    let error = go(&config).unwrap_err();
    assert_eq!(error.exit_code(), 4);
    let text = error.to_string();
    for word in [
        "failed on 40 of 600",
        "editor.max_failed = 0.05",
        "\"x0\": 503",
    ] {
        assert!(text.contains(word), "{text}");
    }
    let answers = go(&config).unwrap();
    // In the order of the pairs, whenever they came, with where they came from.
    let ids: Vec<&String> = answers.iter().map(|answer| &answer.id).collect();
    assert!(ids.into_iter().eq(pairs.iter().map(|pair| &pair.id)));
    let with_origin = answers.iter().filter(|answer| answer.origin.is_some());
    assert_eq!(with_origin.count(), 300);
    // Another attempt reads them as they were written.
    assert_eq!(go(&config).unwrap(), answers);
    let edited = edited(&pairs, answers, &mut set_aside);
    assert_eq!(edited.len(), 599);
    assert_eq!(edited[0].chosen, "bad edited");
    // An answer that is no minimal edit is kept, not asked again, and counted on its own.
    let [rejected] = &set_aside[..] else {
        panic!("{set_aside:?}")
    };
    assert_eq!(
        (rejected.id.as_str(), rejected.reason),
        ("599", SetAsideReason::Rejected)
    );
    assert_eq!(counted(&set_aside), "1 rejected");

    let calls = CALLS.lock().unwrap();
    // All rows in one call, then those alone that failed.
    let rows: Vec<usize> = calls.iter().map(|(ids, _)| ids.len()).collect();
    assert_eq!(rows, [600, 40]);
    assert!(calls[1].0.iter().all(|id| id.starts_with('x')));
    assert_eq!(calls[0].1.as_deref(), Some("paid"));
}

#[test]
fn a_few_failures_are_set_aside_with_their_reason() {
    let answers = |failed: usize| -> Vec<EditRecord> {
        let outcome = |i: usize| {
            if i < failed {
                Outcome::Failed { error: "no".into() }
            } else {
                Outcome::Unchanged
            }
        };
        let record = |i: usize| EditRecord {
            id: i.to_string(),
            prompt: "p".into(),
            original: "bad".into(),
            outcome: outcome(i),
            origin: None,
        };
        (0..100).map(record).collect()
    };
    let registry = Registry::built_in().unwrap();
    let editor = registry.editor("test-outage", &json!({})).unwrap();
    let check = |failed: usize, max_failed: f64| {
        let config = EditorConfig {
            max_failed,
            ..EditorConfig::default()
        };
        check_failures(&config, &editor, &answers(failed)).is_ok()
    };
    assert!(check(0, 0.0) && check(5, 0.05) && check(100, 1.0));
    assert!(!check(1, 0.0) && !check(6, 0.05));
}
