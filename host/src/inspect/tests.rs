//! A small run directory made by hand, as the terminal shows it.

use std::fs;
use std::path::Path;

use super::overview::{self, View};
use super::run::{Folder, Run, open};
use super::samples::Sort;
use super::tokens::{self, By};
use super::{line, plain};

/// A run of two stages, four steps, three samples and one row of tokens.
fn write_run(dir: &Path) {
    fs::create_dir_all(dir.join("metrics")).unwrap();
    let about = r#"{"name":"small","seed":3,
        "plugins":[{"kind":"reward","name":"token-average","version":"0.1.0","source":"built-in"}],
        "stages":[{"stage":"sft","hash":"8e61c232c12a5946","dir":"x","wall_seconds":3.236,"computed_in_this_run":false,
                "asked":[{"plugin":"editor/claude","rows":20,"requests":23,"input_tokens":10400,"output_tokens":4100,
                    "uncounted":0,"usd":0.00309,"unpriced":0,"models":{"claude-haiku-5-5":18,"claude-haiku-5-6":2}}]},
            {"stage":"ppo","hash":"cc752c12fd5fdf03","dir":"y","wall_seconds":61.5,"computed_in_this_run":true}]}"#;
    fs::write(dir.join("run.json"), about).unwrap();
    let curve = [(0, "null"), (1, "-1.5"), (2, "0.25"), (3, "2.0")]
        .map(|(step, v)| format!("{{\"step\":{step},\"reward/total\":{v},\"policy/lr\":0.001}}\n"));
    fs::write(
        dir.join("metrics/ppo-cc752c12fd5fdf03.jsonl"),
        curve.concat(),
    )
    .unwrap();
    let sample = |id: &str, preference: &str| {
        format!(
            "{{\"prompt\":\"say {id}\",\"response\":\"a\\nb\",\"reference\":\"c\",\"outcome\":{{\"id\":\"{id}\",\
             \"preference\":{preference},\"flip\":false,\"identical\":false,\"failure\":null,\"reasons\":[\"\",\"\"],\
             \"length_model\":3,\"length_reference\":1}}}}\n"
        )
    };
    let samples = [("p0", "0.5"), ("p1", "null"), ("p2", "1.0")].map(|(id, p)| sample(id, p));
    fs::write(dir.join("samples.jsonl"), samples.concat()).unwrap();
}

const TOKENS: &str = r#"{"id":"p2","prompt":"say p2","tokens":["the"," wild","\u001b[2J"," "],"reward":[0.5,-1.0,0.01,0.0],"channels":{},"kl":[0.0,0.1,0.2,0.3],"advantage":[1,2,3,4],"value":null,"total":-0.49,"preference":1.0,"ended":true}
"#;

fn run(dir: &Path) -> Run {
    match open(dir).unwrap() {
        Folder::Run(run) => *run,
        Folder::Comparison(runs) => panic!("a comparison: {runs:?}"),
    }
}

const VIEW: View<'_> = View {
    metric: None,
    samples: 1,
    sort: None,
};

#[test]
fn a_run_on_one_screen() {
    let dir = tempfile::tempdir().unwrap();
    write_run(dir.path());
    let run = run(dir.path());
    let text = overview::render(&run, &VIEW);
    assert_eq!(
        text,
        include_str!("snapshots/overview.txt"),
        "found:\n{text}"
    );
    let all = View {
        metric: Some("lr"),
        samples: 3,
        sort: Some(Sort::Worst),
    };
    let text = overview::render(&run, &all);
    assert!(
        text.contains("policy/lr") && !text.contains("reward/total"),
        "{text}"
    );
    let order = ["p0 (0.50)", "p2 (1.00)", "p1 (failed)"].map(|part| text.find(part).unwrap());
    assert!(order.is_sorted(), "{text}");
    let json = overview::json(&run, &VIEW);
    assert_eq!(json["metrics"][0]["name"], "reward/total");
    assert_eq!(json["metrics"][0]["values"][3], 2.0);
    assert_eq!(json["samples"]["best"][0]["outcome"]["id"], "p2");
}

#[test]
fn tokens_with_numbers_or_colours() {
    let dir = tempfile::tempdir().unwrap();
    write_run(dir.path());
    assert!(run(dir.path()).tokens().unwrap().is_none());
    fs::write(dir.path().join("tokens.jsonl"), TOKENS).unwrap();
    let mut rows = run(dir.path()).tokens().unwrap().unwrap();
    let row = tokens::find(&rows, "p2").unwrap();
    let text = tokens::render(row, By::Reward, false).unwrap();
    assert_eq!(text, include_str!("snapshots/tokens.txt"), "found:\n{text}");
    let coloured = tokens::render(row, By::Reward, true).unwrap();
    assert!(coloured.contains("\u{1b}[") && !coloured.contains("[2J\u{1b}[2J"));
    assert!(
        !coloured.contains("\u{1b}[2J"),
        "the response's own escape is shown"
    );
    let error = tokens::render(row, By::Value, false).unwrap_err();
    assert!(error.to_string().contains("--by value: this run has none"));
    let error = tokens::find(&rows, "p9").unwrap_err();
    assert_eq!(
        (error.exit_code(), error.hint_text()),
        (2, Some("there are p2 and others"))
    );
    rows[0].reward.pop();
    let error = tokens::render(&rows[0], By::Reward, false).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("4 tokens and 3 numbers of `reward`")
    );
}

#[test]
fn a_comparison_lists_its_runs_and_other_folders_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = open(dir.path()).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(
        error
            .to_string()
            .ends_with("is not a run directory: it has no run.json")
    );
    assert!(error.hint_text().is_some());
    assert_eq!(open(&dir.path().join("absent")).unwrap_err().exit_code(), 2);
    write_run(&dir.path().join("b-seed1"));
    write_run(&dir.path().join("a-seed1"));
    match open(dir.path()).unwrap() {
        Folder::Comparison(runs) => assert_eq!(
            runs,
            ["a-seed1", "b-seed1"].map(|name| dir.path().join(name))
        ),
        Folder::Run(run) => panic!("a run: {run:?}"),
    }
}

#[test]
fn control_characters_are_shown_and_not_sent() {
    assert_eq!(plain("a\n\u{1b}[31mb\t"), "a⏎\u{fffd}[31mb→");
    assert_eq!(line("abcdef", 4), "abc…");
}
