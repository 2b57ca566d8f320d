//! What the tests of the command share: calling it, its configurations, a run as small as may be.
#![allow(clippy::print_stderr, reason = "tests say why they skip")]
#![allow(
    dead_code,
    reason = "every test binary has this module and uses a part of it"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs the command to its end, with no plugins from elsewhere and no hub.
pub(crate) fn finegrain(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_finegrain"))
        .args(args)
        .env_remove("FINEGRAIN_PLUGIN_PATH")
        .env("HF_HUB_OFFLINE", "1")
        .env("HF_HOME", "no-such-cache")
        .output()
        .unwrap()
}

/// The path of a shipped configuration.
pub(crate) fn configs(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    root.join(name).to_str().unwrap().to_owned()
}

/// Runs the command, which must fail with `code` and say all of `words` on standard error.
pub(crate) fn refused(args: &[&str], code: i32, words: &[&str]) {
    let output = finegrain(args);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {message}");
    for word in words {
        assert!(message.contains(word), "{args:?}: no {word:?} in {message}");
    }
    assert!(!message.contains("panicked"), "{message}");
    assert!(output.stdout.is_empty(), "{args:?} printed data and failed");
}

/// A file that builds on the sandbox's base.
pub(crate) fn variant(dir: &Path, text: &str) -> PathBuf {
    let path = dir.join("variant.toml");
    fs::write(
        &path,
        format!("base = {:?}\n{text}", configs("sandbox/base.toml")),
    )
    .unwrap();
    path
}

/// Everything as small as it may be.
pub(crate) const TINY: [&str; 13] = [
    "sandbox.n_demonstrations=32",
    "sandbox.n_reward_prompts=20",
    "sandbox.n_ppo_prompts=8",
    "sandbox.n_eval_prompts=8",
    "sft.epochs=1",
    "reward_model.epochs=1",
    "ppo.steps=1",
    "ppo.rollout_rows=8",
    "ppo.minibatch_rows=4",
    "evaluation.every=0",
    "evaluation.prompts_while_training=4",
    "evaluation.bootstrap_samples=100",
    "alignment.max_changed=1.0",
];

/// The artifacts of a stage.
pub(crate) fn stages(store: &Path, stage: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(store.join(stage)).unwrap();
    let mut stages: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    stages.sort();
    stages
}

/// The folder of CUDA's libraries: the emulator's, or those that the environment names. `None` where there is neither, with
/// the reason printed.
pub(crate) fn cuda_libraries() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("FINEGRAIN_CUDA_LIBRARIES") {
        return Some(folder.into());
    }
    match finegrain_cuda_emulator::libraries() {
        Ok(folder) => Some(folder),
        Err(reason) => {
            eprintln!("skipped: {reason}");
            None
        }
    }
}
