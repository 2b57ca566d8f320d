//! Plugins of another workspace take part in runs of the command, found by path and by environment.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output};

use super::build::{COMMAND, FIXTURES, root};

/// A run as small as it may be, all of whose plugins but the SDK's are out of the tree.
const CONFIG: &str = r#"
name = "elsewhere"
preferences = "edits"
annotator = { use = "shorter" }
editor = { use = "unstutter" }
reward = [{ use = "length-penalised", options = { price = 0.1 } }]
advantage = { use = "leave-one-out" }
judge = { use = "shorter" }
alignment = { max_changed = 1.0 }
sandbox = { n_demonstrations = 32, n_reward_prompts = 20, n_ppo_prompts = 8, n_eval_prompts = 8 }
sft = { epochs = 1 }
reward_model = { epochs = 1 }
ppo = { steps = 1, rollout_rows = 8, minibatch_rows = 4, samples_per_prompt = 2 }
evaluation = { every = 0, prompts_while_training = 4, bootstrap_samples = 100 }
"#;

/// Runs the configuration in `dir`, with libraries by path and libraries by `FINEGRAIN_PLUGIN_PATH`.
fn run(dir: &Path, by_path: &[&str], by_environment: &[&str]) -> Output {
    let built = |names: &[&str]| -> Vec<&Path> {
        names.iter().map(|name| FIXTURES[*name].as_path()).collect()
    };
    run_with(dir, &built(by_path), &built(by_environment))
}

fn run_with(dir: &Path, by_path: &[&Path], by_environment: &[&Path]) -> Output {
    let config = dir.join("elsewhere.toml");
    fs::write(&config, CONFIG).unwrap();
    let mut command = Command::new(&*COMMAND);
    command
        .arg("run")
        .arg(&config)
        .arg("--out")
        .arg(dir.join("out"))
        .arg("--store")
        .arg(dir.join("store"))
        .current_dir(root())
        .env(
            "FINEGRAIN_PLUGIN_PATH",
            std::env::join_paths(by_environment).unwrap(),
        );
    for path in by_path {
        command.arg("--plugin").arg(path);
    }
    command.output().unwrap()
}

#[test]
fn all_four_kinds_take_part_found_by_path_and_by_environment() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(
        dir.path(),
        &["reward-length-penalised", "judge-shorter"],
        &["advantage-leave-one-out", "editor-unstutter"],
    );
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let tables = String::from_utf8(output.stdout).unwrap();
    assert!(tables.contains("judged by shorter"), "{tables}");
    let record = fs::read_to_string(dir.path().join("out/run.json")).unwrap();
    for library in [
        "libreward_length_penalised.so",
        "libjudge_shorter.so",
        "libadvantage_leave_one_out.so",
        "libeditor_unstutter.so",
    ] {
        assert!(record.contains(library), "no {library} in {record}");
    }
}

#[test]
fn a_refused_library_ends_the_command_with_code_4_and_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), &["second-gae"], &[]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{errors}");
    assert!(
        errors.starts_with("error: ") && errors.contains("libsecond_gae.so"),
        "{errors}"
    );
    assert!(!dir.path().join("out").exists());
}

/// Bytes behind the end of a library change its hash and nothing else: as a build from changed sources does, but without
/// waiting for the compiler.
#[test]
fn a_rebuilt_plugin_runs_what_used_it_again_and_nothing_else() {
    let names = [
        "reward-length-penalised",
        "judge-shorter",
        "advantage-leave-one-out",
        "editor-unstutter",
    ];
    let dir = tempfile::tempdir().unwrap();
    let libraries = names.map(|name| {
        let path = dir.path().join(FIXTURES[name].file_name().unwrap());
        fs::copy(&FIXTURES[name], &path).unwrap();
        path
    });
    let paths: Vec<&Path> = libraries.iter().map(std::path::PathBuf::as_path).collect();
    let computed = || -> Vec<String> {
        let output = run_with(dir.path(), &paths, &[]);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        let text = fs::read_to_string(dir.path().join("out/run.json")).unwrap();
        let about: serde_json::Value = serde_json::from_str(&text).unwrap();
        let stages = about["stages"].as_array().unwrap().iter();
        stages
            .filter(|stage| stage["computed_in_this_run"] == true)
            .map(|stage| stage["stage"].as_str().unwrap().to_owned())
            .collect()
    };
    let rebuild = |at: usize| {
        let mut file = fs::OpenOptions::new()
            .append(true)
            .open(&libraries[at])
            .unwrap();
        file.write_all(b"rebuilt").unwrap();
    };
    assert_eq!(computed().len(), 9);
    assert!(computed().is_empty());
    rebuild(2);
    assert_eq!(
        computed(),
        ["ppo", "evaluate", "token_views"],
        "the advantage estimator"
    );
    rebuild(0);
    assert_eq!(
        computed(),
        [
            "reward_model",
            "reward_tests",
            "ppo",
            "evaluate",
            "token_views"
        ],
        "the reward scheme"
    );
    rebuild(3);
    assert_eq!(
        computed(),
        [
            "edits",
            "reward_model",
            "reward_tests",
            "ppo",
            "evaluate",
            "token_views"
        ],
        "the editor"
    );
    // The annotator and the judge are this one plugin.
    rebuild(1);
    assert_eq!(
        computed(),
        [
            "pairs",
            "edits",
            "reward_model",
            "reward_tests",
            "ppo",
            "evaluate",
            "token_views"
        ],
        "the judge"
    );
}
