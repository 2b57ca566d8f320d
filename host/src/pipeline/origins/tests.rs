use std::sync::atomic::AtomicBool;

use finegrain_sdk::kinds::{Judge as Plugged, JudgeSink};
use finegrain_sdk::schemars::{self, JsonSchema};
use finegrain_sdk::{Plugin, PluginInfo, register};
use serde_json::json;

use super::*;
use crate::data::ragged::TextVec;
use crate::data::records::Outcome;
use crate::eval::{Contest, judge_both_orders};
use crate::pipeline::store::{StageKey, record};
use crate::plugins::Registry;

#[derive(Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Options {}

/// A judge that says where its verdicts come from, but of ids that begin with `-`; it answers from the last row to the first.
struct Said;

impl Plugin for Said {
    const NAME: &'static str = "test-said";
    type Options = Options;

    fn info() -> PluginInfo {
        PluginInfo::default()
    }

    fn new(_: Options) -> finegrain_sdk::Result<Self> {
        Ok(Self)
    }
}

impl Plugged for Said {
    fn compare(
        &self,
        comparisons: &Comparisons<'_>,
        sink: &mut dyn JudgeSink,
        _: &CallContext<'_>,
    ) -> finegrain_sdk::Result<()> {
        for row in (0..comparisons.ids.rows()).rev() {
            let id = comparisons.ids.row(row);
            if id.starts_with('-') {
                sink.push(row, Verdict::Tie, "")?;
            } else {
                let origin = origin(&format!("r{row}"));
                sink.push_with_origin(row, Verdict::Preference(1.0), "why", &origin)?;
            }
        }
        Ok(())
    }
}

register!(Judge, Said);

fn origin(request: &str) -> Origin {
    Origin {
        model: "m-1".into(),
        requests: vec![request.into()],
        input_tokens: Some(100),
        output_tokens: Some(10),
        picodollars: Some(5_000_000_000),
        tries: 1,
        rejected: Vec::new(),
    }
}

fn artifact(dir: &Path) -> Artifact {
    let key = StageKey::new("evaluate", json!(1));
    Artifact {
        dir: dir.into(),
        record: record::expected(&key),
        key,
        fresh: true,
    }
}

fn judge(dir: &Path, ids: &[&str], step: u64) -> Vec<crate::eval::Outcome> {
    let registry = Registry::built_in().unwrap();
    let judge = registry.judge("test-said", &json!({})).unwrap();
    let judge = Recorded::new("said", judge, dir);
    let contests: Vec<Contest<'_>> = ids
        .iter()
        .map(|id| Contest {
            id,
            prompt: "p",
            model: "a",
            reference: "b",
        })
        .collect();
    let context = CallContext {
        seed: 0,
        step,
        threads: 1,
        cancel: &AtomicBool::new(false),
        log: &|_, _| {},
        progress: &|_, _| {},
        answers: None,
    };
    judge_both_orders(&judge, &contests, &context).unwrap()
}

#[test]
fn origins_of_verdicts_are_written_in_the_order_of_rows_and_go_on_where_an_attempt_has_left_off() {
    let dir = tempfile::tempdir().unwrap();
    let (config, artifact) = (Config::default(), artifact(dir.path()));
    let outcomes = judge(dir.path(), &["-1"], 0);
    assert_eq!(outcomes[0].preference, Some(0.5));
    // A judge that says nothing leaves no file.
    assert!(!dir.path().join(ORIGINS).exists());
    assert!(of_stage(&config, &artifact).unwrap().is_empty());

    assert_eq!(
        judge(dir.path(), &["a", "-1", "b"], 0)[0].reasons,
        ["why"; 2]
    );
    judge(dir.path(), &["a"], 3);
    // An attempt that ended behind its verdicts leaves their origins; the next one is asked the same.
    judge(dir.path(), &["a"], 3);
    let lines: Vec<VerdictOrigin> = jsonl::read(&dir.path().join(ORIGINS)).unwrap();
    let ids: Vec<&str> = lines.iter().map(|line| line.id.as_str()).collect();
    assert_eq!(
        ids,
        [
            "said/0/a/reference-first",
            "said/0/a/model-first",
            "said/0/b/reference-first",
            "said/0/b/model-first",
            "said/3/a/reference-first",
            "said/3/a/model-first",
        ]
    );
    assert_eq!(lines[2].origin, origin("r4"));
    let asked = of_stage(&config, &artifact).unwrap();
    assert_eq!(asked.len(), 1);
    assert_eq!(
        asked[0].to_string(),
        "judge/said: 6 answers to 6 rows, 600 tokens in, 60 out, $0.030000; by m-1"
    );
}

#[test]
fn origins_of_edits_are_summed_over_both_files() {
    let dir = tempfile::tempdir().unwrap();
    let record = |id: &str, origin: Option<Origin>| EditRecord {
        id: id.into(),
        prompt: "p".into(),
        original: "o".into(),
        outcome: Outcome::Unchanged,
        origin,
    };
    let train = [record("1", Some(origin("r1"))), record("2", None)];
    jsonl::write(&dir.path().join(EDIT_ANSWERS), &train).unwrap();
    let held_out = [record("3", Some(origin("r3")))];
    jsonl::write(&dir.path().join(HELD_OUT_EDIT_ANSWERS), &held_out).unwrap();
    let mut config = Config::default();
    config.editor.plugin = "claude".into();
    let asked = of_stage(&config, &artifact(dir.path())).unwrap();
    assert_eq!(
        (asked[0].plugin.as_str(), asked[0].rows),
        ("editor/claude", 2)
    );
    assert_eq!(asked[0].usd, 0.01);
    let text = std::fs::read_to_string(dir.path().join(EDIT_ANSWERS)).unwrap();
    let second = text.lines().nth(1).unwrap();
    assert!(!second.contains("\"origin\""), "{second}");
}

#[test]
fn a_batch_without_rows_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::built_in().unwrap();
    let judge = registry.judge("test-said", &json!({})).unwrap();
    let judge = Recorded::new("said", judge, dir.path());
    let none: TextVec = std::iter::empty::<&str>().collect();
    let comparisons = Comparisons {
        ids: none.view(),
        prompts: none.view(),
        a: none.view(),
        b: none.view(),
    };
    let context = CallContext {
        seed: 0,
        step: 0,
        threads: 1,
        cancel: &AtomicBool::new(false),
        log: &|_, _| {},
        progress: &|_, _| {},
        answers: None,
    };
    assert!(judge.compare(&comparisons, &context).unwrap().is_empty());
    assert!(!dir.path().join(ORIGINS).exists());
}
