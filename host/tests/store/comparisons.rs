//! Plans, grids, several runs at once, and comparisons of finished runs.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::{Place, TINY, configs, fails, folders, succeeds};

/// `compare` of anything, as small as may be but for `max_changed`, where that is asked for.
fn compare(place: &Place, out: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_finegrain"));
    command
        .env_remove("FINEGRAIN_PLUGIN_PATH")
        .args(["compare", "--quiet", "--out"])
        .arg(place.path(out))
        .arg("--store")
        .arg(place.store())
        .args(args);
    for set in TINY {
        if !set.starts_with("alignment.max_changed") {
            command.args(["--set", set]);
        }
    }
    command
}

/// Writes a file that builds on one of the sandbox's.
fn file(place: &Place, name: &str, base: &str, text: &str) -> String {
    let path = place.path(name);
    let base = configs(&format!("sandbox/{base}.toml"));
    fs::write(&path, format!("base = {base:?}\n{text}")).unwrap();
    path.to_str().unwrap().to_owned()
}

fn plan(command: &mut Command) -> Value {
    let output = command.args(["--dry-run", "--json"]).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{message}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The stages of a plan that have to be computed, sorted.
fn to_compute(plan: &Value) -> Vec<String> {
    let stages = plan["stages"].as_array().unwrap().iter();
    let mut missing: Vec<String> = stages
        .filter(|stage| stage["cached"] == false)
        .map(|stage| stage["stage"].as_str().unwrap().to_owned())
        .collect();
    missing.sort();
    missing
}

const ALL: &str = "alignment.max_changed = 1.0\n";

#[test]
fn a_grid_shares_what_it_can_and_a_plan_says_so_and_changes_nothing() {
    let place = Place::new();
    let sweep = |values: &str| {
        let text = format!("{ALL}[sweep]\n\"ppo.learning_rate\" = {values}\nppo.kl_coef = [0.1]");
        file(&place, "sweep.toml", "fine-token-ppo", &text)
    };
    let path = sweep("[0.001, 0.002]");
    let first = plan(&mut compare(&place, "a", &[&path]));
    assert_eq!(first["runs"].as_array().unwrap().len(), 2);
    let shared = [
        "data",
        "edits",
        "pairs",
        "reward_model",
        "reward_tests",
        "sft",
    ];
    let mut all = vec![
        "data", "edits", "evaluate", "evaluate", "pairs", "ppo", "ppo",
    ];
    all.extend(["reward_model", "reward_tests", "sft"]);
    all.extend(["token_views", "token_views"]);
    assert_eq!(to_compute(&first), all);
    for stage in first["stages"].as_array().unwrap() {
        let runs = if shared.contains(&stage["stage"].as_str().unwrap()) {
            2
        } else {
            1
        };
        assert_eq!(stage["runs"], runs, "{stage}");
        assert_eq!(stage["estimate"], Value::Null);
    }
    assert!(!place.store().exists() && !place.path("a").exists());

    succeeds(&mut compare(&place, "a", &[&path]));
    // The plan had the keys of what was then made.
    let mut planned: Vec<String> = first["stages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|stage| stage["hash"].as_str().unwrap().to_owned())
        .collect();
    let mut made: Vec<String> = place
        .list()
        .iter()
        .map(|artifact| artifact["hash"].as_str().unwrap().to_owned())
        .collect();
    planned.sort();
    made.sort();
    assert_eq!(planned, made);
    assert!(to_compute(&plan(&mut compare(&place, "b", &[&path]))).is_empty());
    // Another point of the grid is PPO and evaluation, and their time is known by now.
    let wider = plan(&mut compare(&place, "b", &[&sweep("[0.001, 0.003]")]));
    assert_eq!(to_compute(&wider), ["evaluate", "ppo", "token_views"]);
    let new = wider["stages"].as_array().unwrap().iter();
    for stage in new.filter(|stage| stage["cached"] == false) {
        assert_eq!(stage["estimate"]["from"], 2, "{stage}");
        assert_eq!(
            stage["estimate"]["differs_in"],
            serde_json::json!(["ppo.learning_rate"])
        );
    }
    // A point's configuration is one of its own, without the grid.
    let run = place.path("a/fine-token-ppo,kl_coef=0.1,learning_rate=0.002-seed1");
    let config = fs::read_to_string(run.join("config.toml")).unwrap();
    assert!(config.contains("learning_rate = 0.002") && !config.contains("sweep"));
}

#[test]
fn a_grid_that_is_wrong_is_refused_by_its_place() {
    let place = Place::new();
    let refused = |text: &str, sets: &[&str], words: &[&str]| {
        let path = file(&place, "sweep.toml", "ppo-rlhf", text);
        let message = fails(&mut compare(&place, "a", &[&[&*path], sets].concat()), 2);
        for word in words {
            assert!(message.contains(word), "no {word:?} in {message}");
        }
    };
    refused(
        "[sweep]\n\"ppo.learning_rat\" = [1e-3]",
        &[],
        &[
            "sweep.toml:3",
            "sweep.ppo.learning_rat",
            "did you mean ppo.learning_rate?",
        ],
    );
    refused(
        "[sweep]\n\"ppo.learning_rate\" = [1e-3, \"fast\"]",
        &[],
        &["sweep.toml:3", "ppo.learning_rate", "expected f64"],
    );
    refused(
        "[sweep]\n\"pairs.label_noise\" = [0.1, 0.9]",
        &[],
        &["sweep.toml:3", "pairs.label_noise: 0.9 is outside"],
    );
    refused(
        "[sweep]\n\"ppo.kl_coef\" = [0.1]",
        &["--set", "ppo.kl_coef=1"],
        &["--set ppo.kl_coef", "sweep.toml:3 sweeps over this key"],
    );
    // One run is one variant.
    let path = file(
        &place,
        "sweep.toml",
        "ppo-rlhf",
        "[sweep]\n\"ppo.kl_coef\" = [0.1, 0.2]",
    );
    let message = fails(
        Command::new(env!("CARGO_BIN_EXE_finegrain")).args(["run", &path]),
        2,
    );
    for word in ["sweep.toml:2", "2 variants", "finegrain compare"] {
        assert!(message.contains(word), "no {word:?} in {message}");
    }
    assert!(!place.store().exists());
}

#[test]
fn runs_at_once_compute_each_stage_once_and_give_the_same_bits() {
    let (together, apart) = (Place::new(), Place::new());
    let variants = ["ppo-rlhf", "fine-ppo", "fine-token-ppo"];
    let tables = |place: &Place, args: &[&str]| {
        let mut command = place.command("compare", &variants, "a", &[]);
        succeeds(command.args(["--seeds", "1,2"]).args(args));
        place.tables("a")
    };
    let at_once = tables(&together, &["--jobs", "3"]);
    assert_eq!(at_once, tables(&apart, &["--jobs", "1", "--threads", "1"]));
    let computed: usize = variants
        .iter()
        .flat_map(|name| [1, 2].map(|seed| format!("a/{name}-seed{seed}")))
        .map(|run| together.stages(&run).0.len())
        .sum();
    assert_eq!(computed, together.list().len());
}

#[test]
fn the_first_failure_stops_the_others_and_is_told_with_its_run() {
    let place = Place::new();
    // No edit is kept where no token may change.
    let fails_at_edits = file(
        &place,
        "a.toml",
        "fine-ppo",
        "alignment.max_changed = 0.0\n",
    );
    // Would sample for a very long time.
    let slow = file(
        &place,
        "b.toml",
        "ppo-rlhf",
        &format!("{ALL}pairs.per_prompt = 10000\n"),
    );
    let args = [&*fails_at_edits, &slow, "--jobs", "2", "--seeds", "7"];
    let message = fails(&mut compare(&place, "out", &args), 2);
    assert!(
        message.contains("fine-ppo seed 7: ") && message.contains("no edit pairs are left"),
        "{message}"
    );
    assert_eq!(folders(&place.store().join("pairs"), "").len(), 1);
    // What was finished is kept for the next time.
    assert!(!folders(&place.store().join("sft"), "").is_empty());
}

#[test]
fn finished_runs_are_compared_as_they_are_and_configurations_are_run_beside_them() {
    let place = Place::new();
    for (variant, seed) in [
        ("ppo-rlhf", 1),
        ("ppo-rlhf", 2),
        ("fine-ppo", 1),
        ("fine-ppo", 2),
    ] {
        let seed = format!("seed={seed}");
        let out = format!("{variant}-{seed}");
        succeeds(&mut place.command("run", &[variant], &out, &[&seed]));
    }
    let run = |name: &str| place.path(name).to_str().unwrap().to_owned();
    let runs = [
        run("ppo-rlhf-seed=1"),
        run("ppo-rlhf-seed=2"),
        run("fine-ppo-seed=2"),
        run("fine-ppo-seed=1"),
    ];
    let [one, two, three, four] = runs.each_ref().map(String::as_str);
    succeeds(&mut compare(&place, "runs", &[one, two, three, four]));
    let variants = ["ppo-rlhf", "fine-ppo"];
    let mut command = place.command("compare", &variants, "configs", &[]);
    succeeds(command.args(["--seeds", "1,2"]));
    let same = |name: &str| fs::read(place.path(name).join("result.json")).unwrap();
    assert_eq!(same("runs"), same("configs"));

    // A configuration beside them is run with their seeds.
    let third = file(&place, "c.toml", "fine-token-ppo", ALL);
    succeeds(&mut compare(&place, "mixed", &[one, two, &third]));
    let result = place.tables("mixed");
    assert_eq!(result["seeds"], serde_json::json!([1, 2]));
    assert_eq!(result["variants"].as_array().unwrap().len(), 2);
    let (computed, _) = place.stages("mixed/fine-token-ppo-seed2");
    assert!(computed.contains(&"ppo".to_owned()), "{computed:?}");
    assert!(!place.path("mixed/ppo-rlhf-seed1").exists());
    // One of the same name lacks a seed alone.
    let base = file(&place, "d.toml", "ppo-rlhf", ALL);
    let lacking = plan(&mut compare(&place, "x", &[one, &base, "--seeds", "1,3"]));
    let runs = lacking["runs"].as_array().unwrap();
    assert_eq!((runs.len(), &runs[0]["seed"]), (1, &Value::from(3)));

    let refused = |args: &[&str], words: &[&str]| {
        let message = fails(&mut compare(&place, "x", args), 2);
        for word in words {
            assert!(message.contains(word), "no {word:?} in {message}");
        }
        assert!(!place.path("x").exists());
    };
    refused(&[one, two, three], &["ppo-rlhf has 1, 2; fine-ppo has 2"]);
    refused(&[one, one], &["ppo-rlhf has a run with this seed already"]);
    let other = format!("{ALL}ppo.kl_coef = 0.5\n");
    let other = file(&place, "e.toml", "ppo-rlhf", &other);
    refused(
        &[one, &other],
        &["both called \"ppo-rlhf\"", "differ in ppo.kl_coef"],
    );
    refused(&[one, "--seeds", "3"], &["--seeds"]);
    let empty = place.path("empty");
    fs::create_dir(&empty).unwrap();
    refused(
        &[empty.to_str().unwrap()],
        &["is no finished run", "run.json"],
    );
}

#[test]
fn a_run_whose_store_has_moved_or_lost_something_says_what_and_how_to_get_it_back() {
    let place = Place::new();
    place.run("run", &[]);
    let run = place.path("run");
    let compare = |store: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_finegrain"));
        command.args(["compare", "--quiet"]).arg(&run);
        command.arg("--store").arg(store);
        command.arg("--out").arg(place.path("compared"));
        command
    };
    // The run says where its store is.
    succeeds(&mut compare(&place.path("nowhere")));
    assert!(!place.path("nowhere").exists());
    let before = place.tables("compared");

    let moved = place.path("moved");
    fs::rename(place.store(), &moved).unwrap();
    let message = fails(&mut compare(&place.path("nowhere")), 2);
    assert!(
        message.contains("9 of its 9 stages cannot be had"),
        "{message}"
    );
    succeeds(&mut compare(&moved));
    assert_eq!(place.tables("compared"), before);

    let ppo = &folders(&moved.join("ppo"), "")[0];
    fs::remove_dir_all(ppo).unwrap();
    let tests = &folders(&moved.join("reward_tests"), "")[0];
    fs::write(tests.join("marked.jsonl"), "").unwrap();
    let message = fails(&mut compare(&moved), 2);
    let hash = ppo.file_name().unwrap().to_str().unwrap();
    let gone = format!("ppo/{hash} is neither at ");
    let back = format!(
        "finegrain run {0}/config.toml --out {0} --store {1}",
        run.display(),
        moved.display()
    );
    for words in [
        "2 of its 9 stages",
        &gone,
        "is damaged: marked.jsonl has 0 bytes",
        &back,
    ] {
        assert!(message.contains(words), "no {words:?} in {message}");
    }
    // What the hint says does get it back.
    let mut again = Command::new(env!("CARGO_BIN_EXE_finegrain"));
    again.args(["run", "--quiet"]).arg(run.join("config.toml"));
    succeeds(again.arg("--out").arg(&run).arg("--store").arg(&moved));
    let (computed, _) = place.stages("run");
    assert_eq!(computed, ["reward_tests", "ppo"]);
    succeeds(&mut compare(&moved));
    assert_eq!(place.tables("compared"), before);
}
