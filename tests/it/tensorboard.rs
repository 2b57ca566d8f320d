//! A run's event files as TensorBoard reads them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use finegrain::config::Config;
use finegrain::pipeline::Session;
use finegrain::pipeline::observer::Show;
use finegrain::pipeline::run_dir::RunDir;
use finegrain::pipeline::store::Store;
use finegrain::plugins::Registry;
use serde_json::{Value, json};

use crate::python::python;

const TINY: &str = r#"
    preferences = "edits"
    sandbox = { n_demonstrations = 32, n_reward_prompts = 20, n_ppo_prompts = 8, n_eval_prompts = 8 }
    sft = { epochs = 1 }
    reward_model = { epochs = 1 }
    alignment = { max_changed = 1.0 }
    ppo = { steps = 3, rollout_rows = 8, minibatch_rows = 4 }
    evaluation = { every = 1, prompts_while_training = 4, bootstrap_samples = 100 }
    [[reward]]
    use = "token-average"
"#;

fn json_lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// TensorBoard's scalars are f32; every other figure is the line's own. Tests on 2.21.0.
#[test]
fn tensorboard_lists_scalars_histograms_and_texts_with_the_figures_of_the_lines() {
    let folder = tempfile::tempdir().unwrap();
    let cancel = AtomicBool::new(false);
    let session = Session::new(
        Store::open(&folder.path().join("store")).unwrap(),
        Registry::built_in().unwrap(),
        &cancel,
        1,
        Show::Nothing,
    );
    let out = folder.path().join("run");
    let dir = RunDir::open(&out).unwrap();
    let run = dir
        .run(&session, &Config::from_toml(TINY).unwrap())
        .unwrap();
    let trained = [
        Some(&run.sft),
        run.reward_models[0].as_ref(),
        Some(&run.ppo),
    ];
    for artifact in trained.into_iter().flatten() {
        let name = format!("{}-{}", artifact.key.stage(), artifact.key.hash());
        let shown = out.join("tensorboard").join(&name);
        let Some(read) = python("event_files.py", [&shown], None) else {
            return;
        };
        let mut scalars: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for line in json_lines(&artifact.file("metrics.jsonl")) {
            for (tag, value) in line.as_object().unwrap() {
                if let (true, Some(value)) = (tag.contains('/'), value.as_f64()) {
                    let value = f64::from(value as f32);
                    let event = json!([line["step"], line["unix_seconds"], value]);
                    scalars.entry(tag.clone()).or_default().push(event);
                }
            }
        }
        assert!(scalars.len() >= 5, "{name}: {scalars:?}");
        assert_eq!(read["scalars"], json!(scalars), "{name}");
        let mut histograms: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for line in json_lines(&artifact.file("histograms.jsonl")) {
            let event = json!([line["step"], line["num"], line["limits"], line["counts"]]);
            let tag = line["name"].as_str().unwrap().to_owned();
            histograms.entry(tag).or_default().push(event);
        }
        assert_eq!(read["histograms"], json!(histograms), "{name}");
        let mut texts: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for line in json_lines(&artifact.file("texts.jsonl")) {
            let tag = line["name"].as_str().unwrap().to_owned();
            let event = json!([line["step"], line["text"]]);
            texts.entry(tag).or_default().push(event);
        }
        assert_eq!(read["texts"], json!(texts), "{name}");
        let is_ppo = artifact.key.stage() == "ppo";
        assert_eq!(
            (histograms.len(), texts.len()),
            if is_ppo { (7, 2) } else { (0, 0) }
        );
    }
}
