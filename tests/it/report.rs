//! The report in a browser: its figures, its views, its looks.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use finegrain::config::Config;
use finegrain::pipeline::Session;
use finegrain::pipeline::comparison::summarise;
use finegrain::pipeline::observer::Show;
use finegrain::pipeline::run_dir::RunDir;
use finegrain::pipeline::store::Store;
use finegrain::plugins::Registry;
use serde_json::Value;

use crate::python::python;

const TINY: &str = r#"
    preferences = "edits"
    sandbox = { n_demonstrations = 64, n_reward_prompts = 40, n_ppo_prompts = 8, n_eval_prompts = 30 }
    sft = { epochs = 1 }
    reward_model = { epochs = 1 }
    alignment = { max_changed = 1.0 }
    ppo = { steps = 2, rollout_rows = 8, minibatch_rows = 4 }
    evaluation = { every = 1, prompts_while_training = 4, bootstrap_samples = 100, token_views = 12 }
"#;

/// Two variants under two seeds, written as `compare` writes them.
fn comparison(dir: &Path) {
    let cancel = AtomicBool::new(false);
    let session = Session::new(
        Store::open(&dir.join("store")).unwrap(),
        Registry::built_in().unwrap(),
        &cancel,
        2,
        Show::Nothing,
    );
    let out = dir.join("comparison");
    let runs: Vec<Vec<_>> = ["sequence", "token-average"]
        .into_iter()
        .map(|scheme| {
            (1..=2)
                .map(|seed| {
                    let text = format!(
                        "name = \"{scheme}\"\nseed = {seed}\n{TINY}\n[[reward]]\nuse = \"{scheme}\""
                    );
                    let config = Config::from_toml(&text).unwrap();
                    let folder = RunDir::open(&out.join(format!("{scheme}-seed{seed}"))).unwrap();
                    folder.run(&session, &config).unwrap()
                })
                .collect()
        })
        .collect();
    let result = summarise(&runs, None).unwrap();
    RunDir::open(&out).unwrap().write_result(&result).unwrap();
}

#[test]
fn a_browser_shows_the_figures_of_the_json_offline_in_any_light_and_on_paper() {
    if std::env::var_os("FINEGRAIN_PYTHON").is_none() {
        eprintln!("skipped: FINEGRAIN_PYTHON names no Python with playwright");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    comparison(folder.path());
    let out = folder.path().join("comparison");
    let files = [out.join("report.html"), out.join("result.json")];
    let Some(seen) = python("report_page.py", &files, None) else {
        return;
    };
    assert_eq!(seen["errors"], serde_json::json!([]));
    let requests = seen["requests"].as_array().unwrap();
    assert!(
        requests
            .iter()
            .all(|url| url.as_str().unwrap().starts_with("file:")),
        "{requests:?}"
    );
    assert!(seen["bytes"].as_u64().unwrap() < 5_000_000);
    for table in ["1", "2", "3"] {
        let [page, json] = ["table", "json"].map(|of| &seen[format!("{of}_{table}")]);
        assert!(page.as_array().unwrap().len() > 1);
        assert_eq!(page, json);
    }
    assert_eq!(seen["matrix"], seen["json_matrix"]);
    // The chart writes them itself.
    for row in seen["json_1"].as_array().unwrap() {
        let figure = row[1].as_str().unwrap();
        assert!(seen["forest"].as_str().unwrap().contains(figure), "{seen}");
    }
    // Two reward models on two kinds of pairs, a cloud a variant, and the curves.
    assert_eq!(seen["charts"]["calibration"], 4);
    assert_eq!(seen["charts"]["lengths"], 2);
    assert!(seen["charts"]["curves"].as_u64().unwrap() >= 6);

    let tip = seen["tip"].as_str().unwrap();
    for word in ["token 1 of", "reward", "advantage", "KL", "value"] {
        assert!(tip.contains(word), "{tip}");
    }
    let measures: Vec<&str> = seen["measures"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    // The variants' schemes differ, so each can be looked at by itself.
    assert_eq!(
        measures,
        [
            "reward",
            "advantage",
            "kl",
            "value",
            "plain",
            "channel/sequence",
            "channel/token-average"
        ]
    );
    for measure in &measures[..4] {
        assert!(seen["coloured"][measure].as_u64().unwrap() > 0, "{measure}");
    }
    let of = |name: &str| seen[name].as_u64().unwrap();
    assert_eq!((of("all"), of("none")), (30, 0));
    assert!(of("found") > 0 && of("marks") > 0 && of("won") < 30);
    assert_eq!(seen["sorted"], true);
    for (name, wider) in seen["wider"].as_object().unwrap() {
        assert!(
            wider.as_i64().unwrap() <= 0,
            "{name} is {wider} px too wide"
        );
    }
    let [light, dark, paper] = [0, 1, 2].map(|at| &seen["backgrounds"][at]);
    assert!(light != dark && paper == light);
    assert!(of("pdf") > 10_000);
}
