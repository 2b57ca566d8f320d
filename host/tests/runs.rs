//! Whole runs of the command: a comparison, found again in the store, and inputs that change in place.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should fail where it stands"
)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{TINY, configs, finegrain, refused, stages, variant};

#[test]
fn a_whole_comparison_runs_twice_with_the_same_result_and_the_second_time_from_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let small = [
        "sandbox.n_demonstrations=64",
        "sandbox.n_reward_prompts=40",
        "sandbox.n_ppo_prompts=16",
        "sandbox.n_eval_prompts=12",
        "sft.epochs=1",
        "reward_model.epochs=1",
        "ppo.steps=2",
        "ppo.rollout_rows=8",
        "ppo.minibatch_rows=4",
        "evaluation.every=1",
        "evaluation.prompts_while_training=8",
        "evaluation.bootstrap_samples=200",
        "alignment.max_changed=1.0",
    ];
    let variants = ["ppo-rlhf", "fine-ppo", "fine-token-ppo"]
        .map(|name| configs(&format!("sandbox/{name}.toml")));
    let compare = |out: &str, store: &str, threads: &str| {
        let mut args = vec![
            "compare",
            "--json",
            "--quiet",
            "--out",
            out,
            "--store",
            store,
            "--threads",
            threads,
        ];
        args.extend(variants.iter().map(String::as_str));
        for set in &small {
            args.extend(["--set", set]);
        }
        let output = finegrain(&args);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let first = compare(&place("a"), &place("store"), "2");
    let again = compare(&place("b"), &place("store"), "2");
    // Nothing was computed the second time: even the seconds are the same.
    assert_eq!(first, again);
    let afresh = compare(&place("c"), &place("other-store"), "1");
    for table in ["win_rates", "reward_models"] {
        assert_eq!(
            first[table], afresh[table],
            "{table} differ between two runs with one seed, the one on two threads, the other on one"
        );
    }
    assert_eq!(first["variants"].as_array().unwrap().len(), 3);
    assert_eq!(first["baseline"], "ppo-rlhf");
    let run = dir.path().join("a/fine-token-ppo-seed1");
    for file in [
        "config.toml",
        "run.json",
        "samples.jsonl",
        "policy/model.safetensors",
    ] {
        assert!(run.join(file).is_file(), "{file} is missing");
    }
    assert!(dir.path().join("a/report.md").is_file());

    let policy = run.join("policy");
    let prompt = "write one point of care from the kind sea to the grand city";
    let output = finegrain(&[
        "generate",
        "--model",
        policy.to_str().unwrap(),
        "--prompt",
        prompt,
        "--max-tokens",
        "5",
    ]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .starts_with("write one point")
    );
    let args = [
        "generate",
        "--chat",
        "--model",
        policy.to_str().unwrap(),
        "--prompt",
        prompt,
    ];
    refused(&args, 2, &["no chat template", "chat_template.jinja"]);
}

#[test]
fn a_file_of_edits_that_is_changed_in_place_is_imported_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let run = |config: &Path| {
        let out = dir.path().join("out");
        let mut args = vec!["run", config.to_str().unwrap(), "--quiet"];
        args.extend(["--out", out.to_str().unwrap()]);
        args.extend(["--store", store.to_str().unwrap()]);
        for set in &TINY {
            args.extend(["--set", set]);
        }
        let output = finegrain(&args);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{message}");
    };
    // The ids and responses to edit are in the answers of another editor.
    run(Path::new(&configs("sandbox/fine-token-ppo.toml")));
    let [rubric] = &stages(&store, "edits")[..] else {
        panic!("one edits stage")
    };
    let asked: Vec<serde_json::Value> = ["train", "held_out"]
        .iter()
        .flat_map(|part| {
            let text = fs::read_to_string(rubric.join(format!("answers_{part}.jsonl"))).unwrap();
            let lines: Vec<_> = text
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
            lines
        })
        .collect();
    let edits = dir.path().join("edits.jsonl");
    let write = |word: &str| {
        let lines: Vec<String> = asked
            .iter()
            .map(|row: &serde_json::Value| {
                let edited = format!("{} {word}", row["original"].as_str().unwrap());
                serde_json::json!({ "id": row["id"], "edited": edited }).to_string()
            })
            .collect();
        fs::write(&edits, lines.join("\n")).unwrap();
    };
    let config = variant(
        dir.path(),
        "preferences = \"edits\"\n[editor]\nuse = \"human\"\noptions = { path = \"edits.jsonl\" }",
    );
    write("kind");
    run(&config);
    run(&config);
    assert_eq!(
        stages(&store, "edits").len(),
        2,
        "an unchanged file is found"
    );
    write("grand");
    run(&config);
    let all = stages(&store, "edits");
    assert_eq!(all.len(), 3);
    for word in [" kind\"", " grand\""] {
        let with = |stage: &&PathBuf| {
            let text = fs::read_to_string(stage.join("edits.jsonl")).unwrap();
            text.lines().all(|line| line.contains(word))
        };
        assert_eq!(all.iter().filter(with).count(), 1, "{word}");
    }
    assert_eq!(
        stages(&store, "reward_model").len(),
        3,
        "what builds on them is new too"
    );
}
