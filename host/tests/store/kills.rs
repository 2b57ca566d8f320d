//! Runs that are killed or interrupted anywhere end with the weights and metrics of one that was not.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use finegrain_sdk::rng::Stream;
use rand::RngExt as _;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{Place, folders};

/// Enough steps of each kind to be interrupted in, with everything that a checkpoint has to hold: a schedule, gains of the
/// first rollout, an adaptive β, minibatches, evaluations.
const SETS: [&str; 15] = [
    "sft.epochs=6",
    "sft.batch_rows=8",
    "reward_model.epochs=4",
    "reward_model.batch_pairs=4",
    "ppo.steps=6",
    "ppo.epochs=2",
    "ppo.schedule.decay=linear",
    "ppo.reward_scale=reference",
    "ppo.kl_placement=reward",
    "ppo.kl_adaptation=horizon",
    "ppo.kl_target=0.5",
    "ppo.kl_horizon=40",
    "evaluation.every=2",
    "checkpoints.every=1",
    "checkpoints.keep=2",
];

/// Kills by default; `FINEGRAIN_KILLS=50` asks for more.
const KILLS: usize = 8;

fn start(place: &Place) -> Child {
    let mut command = place.command("run", &["fine-token-ppo"], "run", &SETS);
    finish(&mut command)
}

fn finish(command: &mut Command) -> Child {
    let command = command.stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Every file of every artifact, without what a clock decides.
fn results(place: &Place) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for stage in folders(&place.store(), "") {
        let name = stage.file_name().unwrap().to_str().unwrap().to_owned();
        if ["locks", "runs", "answers", "checkpoints"].contains(&name.as_str()) || !stage.is_dir() {
            continue;
        }
        gather(&stage, &name, &mut all);
    }
    assert!(all.len() > 20, "{:?}", all.keys());
    all
}

fn gather(dir: &Path, name: &str, all: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let inner = path.file_name().unwrap().to_str().unwrap();
        let name = format!("{name}/{inner}");
        if path.is_dir() {
            gather(&path, &name, all);
        } else if ["stage.json", "stage.sha256"].contains(&inner) {
            // Times, and hashes of files that hold times.
        } else if path
            .extension()
            .is_some_and(|extension| extension == "json" || extension == "jsonl")
        {
            all.insert(name, timeless(&fs::read_to_string(&path).unwrap()));
        } else {
            all.insert(name, fs::read(&path).unwrap());
        }
    }
}

/// JSON documents, one after the other, without keys that hold seconds.
fn timeless(text: &str) -> Vec<u8> {
    let documents = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let mut bytes = Vec::new();
    for document in documents {
        let mut document = document.unwrap();
        strip(&mut document);
        bytes.extend(document.to_string().bytes());
        bytes.push(b'\n');
    }
    bytes
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, _| !key.contains("second"));
            map.values_mut().for_each(strip);
        }
        Value::Array(values) => values.iter_mut().for_each(strip),
        _ => {}
    }
}

fn equal(place: &Place, undisturbed: &BTreeMap<String, Vec<u8>>) {
    let results = results(place);
    let names = |all: &BTreeMap<String, Vec<u8>>| all.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&results), names(undisturbed));
    for (name, bytes) in undisturbed {
        assert!(results[name] == *bytes, "{name} differs");
    }
    let left = folders(&place.store().join("checkpoints"), "");
    assert!(
        left.is_empty(),
        "finished stages keep no checkpoints: {left:?}"
    );
}

#[test]
#[expect(
    clippy::print_stderr,
    reason = "where the kills fell is what a longer run is for"
)]
fn killed_anywhere_it_ends_with_the_bits_of_an_undisturbed_run() {
    let asked = std::env::var("FINEGRAIN_KILLS").ok();
    let asked: usize = asked.map_or(KILLS, |count| count.parse().unwrap());
    let place = Place::new();
    let began = Instant::now();
    assert!(start(&place).wait().unwrap().success());
    let whole = began.elapsed();
    let undisturbed = results(&place);

    let mut random = Stream::new(1).rng();
    let (mut kills, mut ends) = (0, 0);
    let mut under_way = BTreeMap::<String, usize>::new();
    while kills < asked {
        let place = Place::new();
        loop {
            let mut process = start(&place);
            // The start alone takes a while; below half of the whole, no run gets through without a kill.
            let patience = whole.mul_f64(random.random_range(0.02..0.5));
            let began = Instant::now();
            while process.try_wait().unwrap().is_none() && began.elapsed() < patience {
                thread::sleep(Duration::from_millis(1));
            }
            if let Some(status) = process.try_wait().unwrap() {
                let output = process.wait_with_output().unwrap();
                let message = String::from_utf8_lossy(&output.stderr);
                assert!(status.success(), "{message}");
                ends += 1;
                break;
            }
            process.kill().unwrap();
            process.wait().unwrap();
            kills += 1;
            for stage in folders(&place.store(), "") {
                if !folders(&stage, ".").is_empty() {
                    let name = stage.file_name().unwrap().to_str().unwrap().to_owned();
                    *under_way.entry(name).or_default() += 1;
                }
            }
        }
        equal(&place, &undisturbed);
    }
    eprintln!("{kills} kills, {ends} runs to the end; killed in {under_way:?}");
}

/// Runs until a stage has saved a checkpoint of at least `step`, then sends `signal`.
fn interrupt(place: &Place, stage: &str, step: &str, signal: Signal) -> String {
    let process = start(place);
    let folder = place.store().join("checkpoints");
    loop {
        let saved = folders(&folder, stage)
            .first()
            .is_some_and(|folder| !folders(folder, step).is_empty());
        if saved {
            break;
        }
        thread::sleep(Duration::from_millis(1));
    }
    kill_process(Pid::from_child(&process), signal).unwrap();
    let output = process.wait_with_output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{message}");
    message
}

#[test]
fn ctrl_c_and_sigterm_leave_a_checkpoint_and_a_damaged_one_is_set_aside() {
    let place = Place::new();
    assert!(start(&place).wait().unwrap().success());
    let undisturbed = results(&place);

    let place = Place::new();
    for (stage, step, signal) in [
        ("sft-", "step-000000003", Signal::INT),
        ("ppo-", "step-000000002", Signal::TERM),
    ] {
        let message = interrupt(&place, stage, step, signal);
        assert!(message.contains("interrupted"), "{message}");
        assert!(
            message.contains("the same command goes on after step"),
            "{message}"
        );
    }
    // The newest is damaged; the one before it serves.
    let folder = folders(&place.store().join("checkpoints"), "ppo-").remove(0);
    let mut saved = folders(&folder, "step-");
    saved.sort();
    assert_eq!(saved.len(), 2);
    let newest = saved.pop().unwrap();
    let mut bytes = fs::read(&newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&newest, bytes).unwrap();
    let output = start(&place).wait_with_output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{message}");
    assert!(
        message.contains("is damaged: its name says SHA-256"),
        "{message}"
    );
    equal(&place, &undisturbed);
}
