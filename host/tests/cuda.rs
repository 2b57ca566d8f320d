//! The whole loop with its models on a GPU: the emulator of `tests/emulator`, or the machine's own where
//! `FINEGRAIN_CUDA_LIBRARIES` says where its libraries are.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should fail where it stands"
)]
#![expect(clippy::print_stderr, reason = "tests say why they skip")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::{TINY, configs, cuda_libraries, stages};

/// A run of one variant into `dir/NAME`, with a store of its own.
fn command(libraries: &Path, dir: &Path, name: &str, sets: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_finegrain"));
    command
        .args(["run", "--quiet", &configs("sandbox/fine-token-ppo.toml")])
        .arg("--out")
        .arg(dir.join(name))
        .arg("--store")
        .arg(dir.join(name).with_extension("store"))
        .env("FINEGRAIN_CUDA_LIBRARIES", libraries)
        .env_remove("FINEGRAIN_PLUGIN_PATH")
        .stdin(Stdio::null());
    for set in TINY.iter().chain(sets) {
        command.args(["--set", set]);
    }
    command
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{message}");
}

/// The one artifact of a stage.
fn artifact(dir: &Path, name: &str, stage: &str) -> PathBuf {
    let found = stages(&dir.join(name).with_extension("store"), stage);
    let [stage] = &found[..] else {
        panic!("one {stage} stage, not {found:?}")
    };
    stage.clone()
}

/// Every value of a metric of a stage.
fn metric(dir: &Path, name: &str, stage: &str, key: &str) -> Vec<f64> {
    let text = fs::read_to_string(artifact(dir, name, stage).join("metrics.jsonl")).unwrap();
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.filter_map(|line| line.get(key)?.as_f64()).collect()
}

fn policy(dir: &Path, name: &str) -> Vec<u8> {
    fs::read(artifact(dir, name, "ppo").join("policy/model.safetensors")).unwrap()
}

#[test]
fn a_run_in_f32_has_the_processors_figures_and_the_same_bits_twice() {
    let Some(libraries) = cuda_libraries() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let gpu = ["device.kind=cuda", "device.dtype=f32"];
    run(&mut command(&libraries, dir.path(), "cpu", &[]));
    run(&mut command(&libraries, dir.path(), "gpu", &gpu));
    run(&mut command(&libraries, dir.path(), "again", &gpu));
    for (stage, key) in [
        ("sft", "sft/loss"),
        ("sft", "sft/grad_norm"),
        ("reward_model", "reward_model/loss"),
        ("ppo", "policy/entropy"),
    ] {
        let [cpu, gpu] = ["cpu", "gpu"].map(|name| metric(dir.path(), name, stage, key));
        assert!(!cpu.is_empty(), "{stage} has {key}");
        assert_eq!(cpu.len(), gpu.len());
        for (cpu, gpu) in cpu.iter().zip(&gpu) {
            let off = (cpu - gpu).abs() / cpu.abs().max(1e-3);
            assert!(off < 1e-3, "{key}: {cpu} {gpu}");
        }
    }
    assert!(policy(dir.path(), "gpu") == policy(dir.path(), "again"));
}

#[test]
fn a_killed_run_in_bf16_goes_on_with_the_same_bits() {
    let Some(libraries) = cuda_libraries() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let sets = [
        "device.kind=cuda",
        "ppo.steps=4",
        "ppo.epochs=2",
        "checkpoints.every=1",
    ];
    run(&mut command(&libraries, dir.path(), "straight", &sets));
    let mut child = command(&libraries, dir.path(), "killed", &sets)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let saved = dir.path().join("killed.store/checkpoints");
    let begun = || {
        let stages = fs::read_dir(&saved).into_iter().flatten().flatten();
        let mut ppo = stages.filter(|entry| entry.file_name().to_string_lossy().starts_with("ppo"));
        ppo.any(|entry| fs::read_dir(entry.path()).is_ok_and(|files| files.count() > 0))
    };
    let start = Instant::now();
    while !begun() {
        assert!(
            start.elapsed() < Duration::from_mins(10),
            "no checkpoint of PPO"
        );
        assert!(
            child.try_wait().unwrap().is_none(),
            "ended before it could be killed"
        );
        thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    run(&mut command(&libraries, dir.path(), "killed", &sets));
    assert!(policy(dir.path(), "straight") == policy(dir.path(), "killed"));
}

/// Four roles on one frozen backbone, their activations computed again, in pieces of a few rows.
#[test]
fn adapters_on_one_backbone_run_to_the_end() {
    let Some(libraries) = cuda_libraries() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let sets = [
        "device.kind=cuda",
        "model.lora={ rank = 4 }",
        "model.recompute=true",
        "ppo.micro_batch_tokens=100",
    ];
    run(&mut command(&libraries, dir.path(), "lora", &sets));
    let policy = artifact(dir.path(), "lora", "ppo").join("policy");
    assert!(policy.join("adapter_model.safetensors").is_file());
    assert!(!policy.join("model.safetensors").exists());
}

fn refused(command: &mut Command, words: &[&str]) {
    let output = command.output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{message}");
    for word in words {
        assert!(message.contains(word), "no {word:?} in {message}");
    }
    assert!(!message.contains("panicked"), "{message}");
}

#[test]
fn a_gpu_that_is_not_there_is_wrong_input() {
    let Some(libraries) = cuda_libraries() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let sets = ["device.kind=cuda", "device.ordinal=99"];
    refused(
        &mut command(&libraries, dir.path(), "other", &sets),
        &["there is no GPU 99", "counted from 0"],
    );
    // What a run would do can be asked on a machine without a GPU.
    run(command(&libraries, dir.path(), "other", &sets).arg("--dry-run"));
    if Path::new("/proc/driver/nvidia").exists() {
        eprintln!("skipped the rest: this machine has NVIDIA's driver");
        return;
    }
    // An empty folder: no libraries but the system's, which has no driver.
    refused(
        &mut command(dir.path(), dir.path(), "none", &["device.kind=cuda"]),
        &["libcuda.so.1 was not found", "install NVIDIA's driver"],
    );
}

#[test]
fn memory_that_is_not_there_is_wrong_input_with_what_to_do() {
    let Some(libraries) = cuda_libraries() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    if !libraries.to_string_lossy().contains("emulator") {
        eprintln!("skipped: only the emulator's memory can be made small");
        return;
    }
    // Two workspaces of 32 MiB and hardly more.
    refused(
        command(&libraries, dir.path(), "small", &["device.kind=cuda"])
            .env("FINEGRAIN_EMULATOR_MEMORY", (66 << 20).to_string()),
        &["out of memory", "finegrain plan"],
    );
}
