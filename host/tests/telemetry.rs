//! What a run shows of itself: every name is documented, alarms warn or stop it, and a batch with a NaN is saved.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should fail where it stands"
)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Output;

use common::{TINY, configs, finegrain, stages};
use serde_json::Value;

/// A run as small as may be, of four steps of PPO with two evaluations; `more` are further settings.
fn run(dir: &Path, out: &str, more: &[&str]) -> Output {
    let config = configs("sandbox/fine-token-ppo.toml");
    let place = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let (out, store) = (place(out), place("store"));
    let mut args = vec!["run", &config, "--quiet", "--out", &out, "--store", &store];
    let sets = TINY.iter().chain(&["ppo.steps=4", "evaluation.every=2"]);
    for set in sets.chain(more) {
        args.extend(["--set", set]);
    }
    finegrain(&args)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The files below a folder of a run whose names begin so.
fn files(dir: &Path, begin: &str) -> Vec<std::path::PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with(begin)
        })
        .collect()
}

fn json_lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Whether docs/metrics.md has a name; `<name>` there stands for a scheme's.
fn documented(page: &BTreeSet<String>, name: &str) -> bool {
    page.contains(name)
        || page.iter().any(|pattern| {
            pattern.split_once("<name>").is_some_and(|(before, after)| {
                name.len() > before.len() + after.len()
                    && name.starts_with(before)
                    && name.ends_with(after)
                    // Every name of the group would fit `reward/<name>`; a scheme's is a plugin's.
                    && name.contains("token-average")
            })
        })
}

#[test]
fn every_name_that_a_run_writes_is_documented_and_a_found_stage_shows_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), "a", &[]);
    assert!(output.status.success(), "{}", said(&output));
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let page = fs::read_to_string(page).unwrap();
    let page: BTreeSet<String> = page
        .split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect();
    let mut names = BTreeSet::new();
    for stage in ["sft", "reward_model", "ppo"] {
        let [artifact] = &stages(&dir.path().join("store"), stage)[..] else {
            panic!("one {stage} stage")
        };
        for line in json_lines(&artifact.join("metrics.jsonl")) {
            let line = line.as_object().unwrap().clone();
            assert!(line["unix_seconds"].as_f64().unwrap() > 1e9);
            names.extend(line.into_iter().map(|(name, _)| name));
        }
        for file in ["histograms.jsonl", "texts.jsonl"] {
            let path = artifact.join(file);
            assert_eq!(path.is_file(), stage == "ppo", "{}", path.display());
            if path.is_file() {
                let lines = json_lines(&path);
                let name = |line: &Value| line["name"].as_str().unwrap().to_owned();
                names.extend(lines.iter().map(name));
            }
        }
    }
    for name in [
        "sft/loss",
        "reward_model/held_out_accuracy",
        "reward/token-average_gain",
        "evaluation/standard_error",
        "policy/advantages",
        "samples/lowest_reward",
    ] {
        assert!(names.contains(name), "{name} was not written");
    }
    let missing: Vec<&String> = names
        .iter()
        .filter(|name| !documented(&page, name))
        .collect();
    assert!(missing.is_empty(), "not in docs/metrics.md: {missing:?}");

    // What was written along is what is written of a stage that was found.
    let again = run(dir.path(), "b", &[]);
    assert!(again.status.success(), "{}", said(&again));
    for stage in ["sft", "reward_model", "ppo"] {
        let of = |out: &str| {
            let runs = files(&dir.path().join(out).join("tensorboard"), stage);
            let [one] = &runs[..] else {
                panic!("one folder of {stage}: {runs:?}")
            };
            fs::read(one.join("events.out.tfevents.finegrain")).unwrap()
        };
        assert!(of("a").len() > 100);
        assert!(of("a") == of("b"), "the event files of {stage} differ");
    }
}

#[test]
fn a_gate_stops_the_run_with_exit_code_1_and_a_warning_is_noted() {
    let dir = tempfile::tempdir().unwrap();
    // Steps so large that the policy leaves the reference at once.
    let far = ["ppo.learning_rate=1e-2", "alarms.kl_runaway.above=0.5"];
    let with = |out: &str, action: &str| {
        let action = format!("alarms.kl_runaway.action={action}");
        run(dir.path(), out, &[far[0], far[1], &action])
    };
    let stopped = with("stopped", "gate");
    assert_eq!(stopped.status.code(), Some(1), "{}", said(&stopped));
    let error = said(&stopped);
    for word in [
        "alarm kl_runaway at step 3",
        "threshold is 0.5",
        "ppo.kl_coef",
    ] {
        assert!(error.contains(word), "no {word:?} in {error}");
    }
    let kept = files(&dir.path().join("stopped/metrics"), "ppo-");
    let last = json_lines(&kept[0]).pop().unwrap();
    assert_eq!(last["step"], 3, "stopped after the step");
    assert!(!files(&dir.path().join("stopped/tensorboard"), "ppo-").is_empty());

    let warned = with("warned", "warn");
    assert!(warned.status.success(), "{}", said(&warned));
    assert_eq!(
        said(&warned).matches("alarm kl_runaway at step 3").count(),
        1
    );
    let report = fs::read_to_string(dir.path().join("warned/report.md")).unwrap();
    assert!(report.contains("alarm kl_runaway at step 3"), "{report}");

    // The finished stage lies in the store: it is not trained again, and fails all the same.
    let found = with("found", "gate");
    assert_eq!(found.status.code(), Some(1), "{}", said(&found));
    assert!(said(&found).contains("alarm kl_runaway at step 3"));
    assert_eq!(stages(&dir.path().join("store"), "ppo").len(), 1);
    let off = with("off", "off");
    assert!(off.status.success());
    assert!(!said(&off).contains("kl_runaway"));
}

#[test]
fn a_batch_that_is_not_finite_is_saved_and_the_error_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    for (out, set, action, code) in [
        ("sft", "sft.learning_rate=1e30", "warn", 3),
        ("ppo", "ppo.learning_rate=1e30", "gate", 1),
        ("off", "sft.learning_rate=1e30", "off", 3),
    ] {
        let action = format!("alarms.not_finite.action={action}");
        let output = run(dir.path(), out, &[set, "sft.batch_rows=8", &action]);
        let error = said(&output);
        assert_eq!(output.status.code(), Some(code), "{error}");
        let saved = files(&dir.path().join(out).join("not-finite"), out);
        if out == "off" {
            assert!(saved.is_empty(), "{saved:?}");
            continue;
        }
        let [saved] = &saved[..] else {
            panic!("one file: {saved:?}; {error}")
        };
        assert!(error.contains(saved.to_str().unwrap()), "{error}");
        let [saved] = &json_lines(saved)[..] else {
            panic!("one object")
        };
        let rows = saved["rows"].as_array().unwrap();
        assert!(!rows.is_empty());
        for row in rows {
            let prompt = row["prompt"].as_str().unwrap();
            assert!(prompt.starts_with("write"), "{row}");
            assert!(!row["prompt_ids"].as_array().unwrap().is_empty());
            assert!(row["response"].is_string(), "{row}");
        }
    }
}
