//! Edits made by hand, with figures worked out by hand; edits that people made; a judge that is built in.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use finegrain_dialogue::minimality::Limits;
use finegrain_sdk::CallContext;
use finegrain_sdk::kinds::{EditRequests, Origin};
use finegrain_sdk::rng::Stream;
use serde_json::{Value, json};

use super::better;
use super::check::{self, Checked};
use super::diff::{self, Layout, Order};
use super::figures::{Measure, Unit};
use super::source::{EditSet, Fields};
use super::stats::{self, Stats};
use crate::data::fields::FieldPath;
use crate::data::ragged::TextVec;
use crate::data::records::{Demonstration, EditRecord, Outcome};
use crate::plugins::Registry;
use crate::sandbox::{self, SandboxConfig};

/// Five responses of ten words: one word replaced, two words put in behind the last, three words taken out at the front (a row
/// each), one that stays, one that an editor refused.
const EDITS: &str = r#"{"id": "replaced", "prompt": "p1", "response": "a b c d e f g h i j", "edited": "a b c d X f g h i j"}
{"id": "longer", "prompt": "p2", "response": "a b c d e f g h i j", "edited": "a b c d e f g h i j k l"}
{"id": "shorter", "prompt": "p3", "response": "a b c d e f g h i j", "edited": "d e f g h i j"}
{"id": "same", "prompt": "p4", "response": "a b", "edited": null}
{"id": "no", "prompt": "p5", "original": "a b", "outcome": {"kind": "refused", "reason": "cyber: no"}, "origin": {"model": "m", "tries": 1, "usd": 0.25}}
"#;

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("edits.jsonl");
    fs::write(&path, text).unwrap();
    (dir, path)
}

fn read(path: &Path) -> EditSet {
    let set = EditSet::read(path, Path::new("nowhere"), &Fields::default()).unwrap();
    EditSet {
        from: "edits.jsonl".into(),
        ..set
    }
}

fn words() -> Measure<'static> {
    Measure::new(None, None)
}

fn context(cancel: &AtomicBool) -> CallContext<'_> {
    CallContext {
        seed: 1,
        step: 0,
        threads: 1,
        cancel,
        log: &|_, _| {},
        progress: &|_, _| {},
        answers: None,
    }
}

#[test]
fn figures_are_those_worked_out_by_hand() {
    let (_dir, path) = file(EDITS);
    let set = read(&path);
    let stats = Stats::of(&set, &words()).unwrap();
    assert_eq!(
        (stats.rows, stats.measured, stats.unit),
        (5, 3, Unit::Words)
    );
    let outcomes: Vec<(&str, &str, usize, f64)> = stats
        .outcomes
        .iter()
        .map(|count| {
            (
                count.outcome,
                count.reason.as_str(),
                count.rows,
                count.share,
            )
        })
        .collect();
    assert_eq!(
        outcomes,
        [
            ("edited", "", 3, 0.6),
            ("unchanged", "", 1, 0.2),
            ("refused", "cyber", 1, 0.2)
        ]
    );
    // Words of both sides that differ: 2 of 20, 2 of 22, 3 of 17.
    let changed = stats.changed.unwrap();
    // numpy.quantile([2, 2, 3], [.05, .25, .5, .75, .95])
    for (found, expected) in changed.quantiles.iter().zip([2.0, 2.0, 2.0, 2.5, 2.9]) {
        assert!((found - expected).abs() < 1e-12, "{found} {expected}");
    }
    let share = stats.share_changed.unwrap();
    assert_eq!((share.min, share.max), (2.0 / 22.0, 3.0 / 17.0));
    assert_eq!(share.quantiles[2], 0.1);
    // 19 characters; 23 and 13 after the edit.
    let ratio = stats.length_ratio.unwrap();
    assert_eq!(
        (ratio.min, ratio.quantiles[2], ratio.max),
        (13.0 / 19.0, 1.0, 23.0 / 19.0)
    );
    assert_eq!(stats.changes.unwrap().max, 1.0);
    // Of six words: three in the first three tenths, one in the fifth, two behind the end.
    let sixth = 1.0 / 6.0;
    let expected = [
        sixth,
        sixth,
        sixth,
        0.0,
        sixth,
        0.0,
        0.0,
        0.0,
        0.0,
        2.0 * sixth,
    ];
    assert_eq!(stats.where_changed.unwrap(), expected);
    let asked = stats.asked.unwrap();
    assert_eq!((asked.rows, asked.usd), (1, 0.25));
}

#[test]
fn the_tables_fit_a_hundred_columns() {
    let (_dir, path) = file(EDITS);
    let stats = Stats::of(&read(&path), &words()).unwrap();
    let text = stats::render(&stats);
    assert_eq!(text, include_str!("snapshots/stats.txt"), "found:\n{text}");
    for line in text.lines() {
        assert!(console::measure_text_width(line) <= 100, "{line}");
    }
}

#[test]
fn diffs_have_their_figures_and_keep_to_the_width() {
    let (_dir, path) = file(
        r#"{"id": "1", "prompt": "Where is\nthe tower? Say it in a few words, please.", "response": "The tower is in  Lyon.\nIt is very old, and very tall.", "edited": "The tower is in Paris.\nIt is not very old, but tall."}
{"id": "2", "prompt": "p", "response": "a \u001b[2Jb", "edited": "a \u001b[2Jc"}
"#,
    );
    let set = read(&path);
    let render = |id: &str, width: usize, coloured: bool| {
        let row = diff::find(&set, id).unwrap();
        let figures = words().of(row).unwrap();
        let figures = figures.as_ref().map(|figures| (figures, "words"));
        diff::render(row, figures, Layout { width, coloured })
    };
    let text = render("1", 44, false);
    assert_eq!(text, include_str!("snapshots/diff.txt"), "found:\n{text}");
    for width in [20, 30, 80] {
        for line in render("1", width, true)
            .lines()
            .chain(render("1", width, false).lines())
        {
            assert!(
                console::measure_text_width(line) <= width,
                "{width}: {line}"
            );
        }
    }
    let coloured = render("1", 80, true);
    assert!(
        coloured.contains("\u{1b}[31m\u{1b}[9mLyon\u{1b}[0m"),
        "{coloured:?}"
    );
    assert!(
        coloured.contains("\u{1b}[32mParis\u{1b}[0m"),
        "{coloured:?}"
    );
    // A response must not steer the terminal.
    assert!(!render("2", 80, true).contains("\u{1b}[2J"));
    let error = diff::find(&set, "3").unwrap_err();
    assert_eq!(error.exit_code(), 2);
}

#[test]
fn the_edits_that_change_most_come_first() {
    let (_dir, path) = file(EDITS);
    let set = read(&path);
    let ids = |order: Order, n: usize| -> Vec<String> {
        let rows = diff::chosen(&set, &words(), order, n).unwrap();
        rows.into_iter().map(|(row, _)| row.id.clone()).collect()
    };
    assert_eq!(ids(Order::First, 9), ["replaced", "longer", "shorter"]);
    assert_eq!(ids(Order::Share, 2), ["shorter", "replaced"]);
    assert_eq!(ids(Order::Longer, 1), ["longer"]);
    assert_eq!(ids(Order::Shorter, 1), ["shorter"]);
}

#[test]
fn what_is_not_minimal_is_named_with_its_reasons() {
    let text = format!(
        "{}{}\n",
        EDITS,
        json!({"id": "new", "prompt": "p6", "response": "one two three four five six", "edited": "seven eight nine ten eleven twelve"})
    );
    let (_dir, path) = file(&text);
    let set = read(&path);
    let checked = Checked::of(&set, check::limits(&set).unwrap(), &words()).unwrap();
    assert_eq!((checked.edits, checked.set_aside.len()), (4, 1));
    let found = &checked.set_aside[0];
    assert_eq!(found.id, "new");
    assert_eq!(
        found.checks,
        ["changed-words", "changed-characters", "kept-words"]
    );
    assert_eq!(found.reasons[0], "changed-words 1.000 (limit 0.4)");
    let error = checked.strictly().unwrap_err();
    assert_eq!(error.exit_code(), 1);
    assert!(error.to_string().contains("1 of 4 edits"), "{error}");
    let text = check::render(&checked);
    assert!(
        text.contains("1 of 4 edits would be set aside (25.0%)"),
        "{text}"
    );
    let (_dir, path) = file(EDITS);
    let set = read(&path);
    let checked = Checked::of(&set, Limits::default(), &words()).unwrap();
    assert!(checked.strictly().is_ok());
}

#[test]
fn a_file_may_name_its_fields_and_says_what_is_missing() {
    let (_dir, path) = file(
        r#"{"q": "p", "before": {"text": "a b"}, "after": ["a c", "x"]}
{"q": "p", "before": {"text": "a b"}}
"#,
    );
    let fields = Fields {
        prompt: FieldPath::new("q"),
        response: FieldPath::new("before.text"),
        edited: FieldPath::new("after"),
        ..Fields::default()
    };
    let set = EditSet::read(&path, Path::new("nowhere"), &fields).unwrap();
    assert_eq!(set.rows.len(), 1);
    assert_eq!(
        (set.rows[0].id.as_str(), set.rows[0].prompt.as_str()),
        ("1", "p")
    );
    assert_eq!(
        set.rows[0].outcome,
        Outcome::Edited {
            response: "a c".into()
        }
    );
    assert_eq!(
        (set.set_aside[0].id.as_str(), set.set_aside.len()),
        ("2", 1)
    );
    let error = EditSet::read(&path, Path::new("nowhere"), &Fields::default()).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(
        error.to_string().contains("none of 2 rows is an edit"),
        "{error}"
    );
    assert!(
        error.hint_text().unwrap().contains("no key `response`"),
        "{error:?}"
    );
    let error =
        EditSet::read(Path::new("absent.jsonl"), Path::new("nowhere"), &fields).unwrap_err();
    assert!(error.to_string().contains("no store at nowhere"), "{error}");
}

/// Edits of the sandbox: the rubric's own repairs.
fn sandbox_edits() -> EditSet {
    let config = SandboxConfig {
        n_demonstrations: 64,
        defect_rate: 0.5,
        ..SandboxConfig::default()
    };
    let corpus = sandbox::generate(&config, &Stream::new(1)).unwrap();
    let registry = Registry::built_in().unwrap();
    let editor = registry.editor("rubric", &json!({})).unwrap();
    let column = |text: fn(&Demonstration) -> &String| -> TextVec {
        corpus.demonstrations.iter().map(text).collect()
    };
    let ids = column(|row| &row.id);
    let prompts = column(|row| &row.prompt);
    let responses = column(|row| &row.response);
    let requests = EditRequests {
        ids: ids.view(),
        prompts: prompts.view(),
        responses: responses.view(),
    };
    let cancel = AtomicBool::new(false);
    let outcomes = editor.edit_all(&requests, &context(&cancel)).unwrap();
    let rows = corpus.demonstrations.iter().zip(outcomes);
    EditSet {
        from: "sandbox".into(),
        rows: rows
            .map(|(row, outcome)| EditRecord {
                id: row.id.clone(),
                prompt: row.prompt.clone(),
                original: row.response.clone(),
                outcome: outcome.into(),
                origin: None,
            })
            .collect(),
        ..EditSet::default()
    }
}

#[test]
fn the_rubrics_repairs_are_better_than_what_they_repair_and_their_reverse_is_not() {
    let set = sandbox_edits();
    let registry = Registry::built_in().unwrap();
    let cancel = AtomicBool::new(false);
    let ask = |set: &EditSet, n: usize, seed: u64| {
        let judge = registry.judge("rubric", &json!({})).unwrap();
        better::judge(
            set,
            vec![("rubric".to_owned(), judge)],
            n,
            seed,
            &context(&cancel),
        )
        .unwrap()
    };
    let found = ask(&set, 20, 1);
    assert_eq!((found.outcomes.len(), found.rate.failures), (20, 0));
    assert!(found.edits > 20, "{}", found.edits);
    // The rubric judges by the defects that its editor repairs.
    assert_eq!(found.rate.rate, Some(1.0));
    let interval = found.rate.interval.unwrap();
    assert!(
        interval.low < 1.0 && interval.high == 1.0,
        "no spread is no certainty"
    );
    let text = better::render(&found);
    assert!(text.contains("the edit is better: 100.0% ["), "{text}");
    assert!(
        text.contains("20 wins, 0 ties, 0 losses, 0 flips"),
        "{text}"
    );
    // The same seed draws the same edits, in whatever order they stand; another draws others.
    let ids = |found: &better::Better| -> Vec<String> {
        let mut ids: Vec<String> = found.outcomes.iter().map(|o| o.id.clone()).collect();
        ids.sort();
        ids
    };
    let mut turned = set.clone();
    turned.rows.reverse();
    assert_eq!(ids(&ask(&turned, 20, 1)), ids(&found));
    assert_ne!(ids(&ask(&set, 20, 2)), ids(&found));
    // Originals in the place of edits lose.
    for row in &mut turned.rows {
        if let Outcome::Edited { response } = &mut row.outcome {
            std::mem::swap(response, &mut row.original);
        }
    }
    assert_eq!(ask(&turned, 20, 1).rate.rate, Some(0.0));
    let nothing = EditSet::default();
    let judge = registry.judge("rubric", &json!({})).unwrap();
    let error = better::judge(
        &nothing,
        vec![("rubric".to_owned(), judge)],
        5,
        1,
        &context(&cancel),
    )
    .unwrap_err();
    assert_eq!(error.exit_code(), 2);
}

/// The judge `test-said` says that its verdicts come from the model m-1.
#[test]
fn a_model_that_judges_its_own_edits_is_named() {
    let better = |editor: &str| {
        let mut set = sandbox_edits();
        for row in &mut set.rows {
            row.origin = Some(Origin {
                model: editor.into(),
                ..Origin::default()
            });
        }
        let registry = Registry::built_in().unwrap();
        let judge = registry.judge("test-said", &json!({})).unwrap();
        let judges = vec![("said".to_owned(), judge)];
        better::judge(&set, judges, 2, 1, &context(&AtomicBool::new(false))).unwrap()
    };
    let own = better("m-1");
    assert_eq!(own.editor_too, ["m-1".to_owned()].into());
    assert_eq!(own.asked[0].rows, 4, "two edits in both orders");
    let text = better::render(&own);
    assert!(text.contains("warning: m-1 edited and judged"), "{text}");
    let other = better("m-2");
    assert!(other.editor_too.is_empty());
    assert!(!better::render(&other).contains("warning"));
}

/// Two edits of responses to one prompt are no independent draws.
#[test]
fn the_interval_of_better_edits_goes_over_prompts() {
    let width = |prompt: &dyn Fn(usize) -> String| {
        let mut set = sandbox_edits();
        for (at, row) in set.rows.iter_mut().enumerate() {
            row.prompt = prompt(at);
        }
        let registry = Registry::built_in().unwrap();
        let judge = registry.judge("test-said", &json!({})).unwrap();
        let judges = vec![("said".to_owned(), judge)];
        let found = better::judge(&set, judges, 20, 1, &context(&AtomicBool::new(false)));
        let interval = found.unwrap().rate.interval.unwrap();
        interval.high - interval.low
    };
    let apart = width(&|at| at.to_string());
    let together = width(&|at| (at % 3).to_string());
    assert!(together > apart, "{together} {apart}");
}

/// Reviews that people turned round by small edits; the texts lie beside the workspace.
#[test]
fn edits_that_people_made_are_measured_too() {
    let shared = std::env::var_os("FINEGRAIN_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        PathBuf::from,
    );
    let path = shared.join("data/cad_imdb/train.jsonl");
    if !path.is_file() {
        #[expect(clippy::print_stderr, reason = "says why the test checks nothing")]
        {
            eprintln!(
                "skipped: {} does not exist; set FINEGRAIN_SHARED",
                path.display()
            );
        }
        return;
    }
    let fields = Fields {
        response: FieldPath::new("negative"),
        edited: FieldPath::new("positive"),
        ..Fields::default()
    };
    let set = EditSet::read(&path, Path::new("nowhere"), &fields).unwrap();
    let stats = Stats::of(&set, &words()).unwrap();
    // One of the reviews reads the same on both sides.
    assert_eq!((stats.rows, stats.measured), (1707, 1706));
    let share = stats.share_changed.clone().unwrap();
    assert!((0.02..0.3).contains(&share.quantiles[2]), "{share:?}");
    let ratio = stats.length_ratio.clone().unwrap();
    assert!((0.9..1.1).contains(&ratio.quantiles[2]), "{ratio:?}");
    // Changes are all over the text.
    assert!(
        stats
            .where_changed
            .unwrap()
            .iter()
            .all(|share| *share > 0.05)
    );
    let checked = Checked::of(&set, Limits::default(), &words()).unwrap();
    let refused = checked.set_aside.len() as f64 / checked.edits as f64;
    assert!(refused < 0.04, "{refused}");
    let json: Value = serde_json::to_value(&stats).unwrap();
    assert_eq!(json["unit"], "words");
}
