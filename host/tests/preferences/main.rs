//! The task `preferences`, end to end on small files: every format, all three variants, and what is said of rows that are not used.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should fail where it stands"
)]

#[path = "../common/mod.rs"]
mod common;
mod servers;

use std::fs;
use std::path::Path;

use common::{configs, finegrain, refused, stages};
use finegrain::sandbox::{ModelShape, save_fresh_model};
use finegrain_model_server::testing::{Act, TestServer};
use finegrain_sdk::rng::Stream;
use serde_json::{Value, json};

const SUBJECTS: [&str; 8] = [
    "wave", "cloud", "rose", "oak", "kettle", "barn", "tram", "teacher",
];
const OBJECTS: [&str; 5] = ["star", "tulip", "fern", "spoon", "hen"];

/// A prompt, a good answer and a poor one, in words that the sandbox's tokenizer knows.
fn texts(n: usize) -> [String; 3] {
    let (subject, object) = (SUBJECTS[n % 8], OBJECTS[n / 8 % 5]);
    [
        format!("write one point of care from the kind {subject} to the grand {object}"),
        format!("first the gentle {subject} helps a mighty {object} ."),
        format!("first the gentle {subject} help a mighty {object} ."),
    ]
}

fn lines(rows: impl Iterator<Item = Value>) -> String {
    rows.map(|row| row.to_string() + "\n").collect()
}

/// Writes the model and the files: demonstrations as CSV, pairs as one array, prompts as a folder, the evaluation as JSONL.
fn write(dir: &Path) {
    let shape = ModelShape {
        hidden_size: 16,
        intermediate_size: 32,
        ..ModelShape::default()
    };
    save_fresh_model(&shape, &Stream::new(1), &dir.join("model")).unwrap();
    let demonstrations: Vec<String> = (0..40)
        .map(texts)
        .map(|[prompt, good, _]| format!("\"{prompt}\",\"{good}\"\r\n"))
        .collect();
    let demonstrations = demonstrations.concat();
    fs::write(
        dir.join("sft.csv"),
        format!("\u{feff}prompt,completion\r\n{demonstrations}"),
    )
    .unwrap();
    let pairs: Vec<Value> = (0..40)
        .map(|n| {
            let [prompt, good, poor] = texts(n);
            let preference = if n % 10 == 9 { 1.5 } else { 2.0 };
            json!({"instruction": prompt, "input": "", "output_1": poor, "output_2": good, "preference": preference})
        })
        .collect();
    fs::write(
        dir.join("pairs.json"),
        serde_json::to_string_pretty(&pairs).unwrap(),
    )
    .unwrap();
    fs::create_dir(dir.join("prompts")).unwrap();
    let asked = |from: usize| {
        lines(
            (from..from + 8).map(|n| json!({"prompt": [{"role": "user", "content": texts(n)[0]}]})),
        )
    };
    fs::write(dir.join("prompts/a.jsonl"), asked(0)).unwrap();
    fs::write(dir.join("prompts/b.jsonl"), asked(8)).unwrap();
    // One prompt that is trained on as well.
    let evaluated = (0..8).map(|n| {
        let prompt = if n == 0 {
            texts(0)[0].clone()
        } else {
            format!("{} {}", texts(n)[0], "sea")
        };
        json!({"instruction": prompt, "output": texts(n)[1]})
    });
    fs::write(dir.join("eval.jsonl"), lines(evaluated)).unwrap();
    let edits = (0..40).map(|n| {
        let [prompt, good, poor] = texts(n);
        json!({"prompt": prompt, "response": poor, "edited": good})
    });
    fs::write(dir.join("edits.jsonl"), lines(edits)).unwrap();
}

const SMALL: [&str; 14] = [
    "data.evaluation.title=the other model",
    "data.splits.reward=0.4",
    "data.splits.held_out=0.2",
    "data.splits.judge=0.2",
    "data.splits.sft=0",
    "data.splits.ppo=0",
    "data.splits.eval=0",
    "sft.epochs=1",
    "reward_model.epochs=1",
    "ppo.steps=1",
    "ppo.rollout_rows=8",
    "ppo.minibatch_rows=4",
    "evaluation.every=0",
    "evaluation.bootstrap_samples=100",
];

fn arguments(dir: &Path, verb: &str, out: &str) -> Vec<String> {
    let place = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let mut args = vec![
        verb.to_owned(),
        "--out".into(),
        place(out),
        "--store".into(),
        place("store"),
    ];
    let files = [
        ("model.path", "model"),
        ("data.demonstrations.path", "sft.csv"),
        ("data.preferences.path", "pairs.json"),
        ("data.prompts.path", "prompts"),
        ("data.evaluation.path", "eval.jsonl"),
        ("editor.options.path", "edits.jsonl"),
    ];
    let sets = files.map(|(key, name)| format!("{key}={}", place(name)));
    for set in sets.into_iter().chain(SMALL.map(str::to_owned)) {
        args.extend(["--set".to_owned(), set]);
    }
    args
}

fn call(args: &[String]) -> (Value, String) {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let output = finegrain(&args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    (serde_json::from_slice(&output.stdout).expect(&said), said)
}

#[test]
fn all_three_variants_run_on_files_and_what_was_set_aside_is_told() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    let compare = |out: &str| {
        let mut args = arguments(dir.path(), "compare", out);
        args.push("--json".into());
        for name in ["ppo-rlhf", "fine-ppo", "fine-token-ppo"] {
            args.push(configs(&format!("preferences/{name}.toml")));
        }
        call(&args)
    };
    let (result, said) = compare("a");
    for words in [
        "demonstrations: 40 of 40 rows of",
        "sft.csv, layout trl",
        "preferences: 36 of 40 rows of",
        "pairs.json, layout alpaca-farm",
        "prompts: 16 of 16 rows of",
        "4 rows are set aside: 4 tie (",
        "1 of the 8 prompts of eval (rows 1), ",
    ] {
        assert!(said.contains(words), "no {words:?} in {said}");
    }
    assert_eq!(result["reference"], "the other model");
    assert_eq!(result["set_aside"][0]["reason"], "tie");
    assert_eq!(
        (
            &result["set_aside"][0]["rows"],
            &result["set_aside"][0]["first"]
        ),
        (&json!(4), &json!("preferences:10"))
    );
    assert!(
        result["notes"]
            .to_string()
            .contains("stand in training splits too")
    );
    assert_eq!(result["variants"][0]["trained_on"], "pairs");
    assert_eq!(result["variants"][1]["trained_on"], "edits");
    assert_eq!(
        result["reward_models"]["cells"].as_array().unwrap().len(),
        6
    );
    assert_eq!(
        result["win_rates"][0]["win_rate"]["seeds"][0]["value"]["n"],
        8
    );

    // Editors get the rejected responses alone, and policies meet the outputs of the file.
    let store = dir.path().join("store");
    let [edits] = &stages(&store, "edits")[..] else {
        panic!("one edits stage")
    };
    let [data] = &stages(&store, "data")[..] else {
        panic!("one data stage")
    };
    let count = |path: &Path| fs::read_to_string(path).unwrap().lines().count();
    assert_eq!(
        count(&edits.join("edits.jsonl")),
        count(&data.join("pairs.jsonl"))
    );
    assert!(
        !store.join("pairs").exists(),
        "a file's pairs are not sampled"
    );
    for sample in fs::read_to_string(dir.path().join("a/ppo-rlhf-seed1/samples.jsonl"))
        .unwrap()
        .lines()
    {
        let sample: Value = serde_json::from_str(sample).unwrap();
        assert!(
            sample["reference"]
                .as_str()
                .unwrap()
                .contains(" helps a mighty ")
        );
    }
    let report = fs::read_to_string(dir.path().join("a/report.md")).unwrap();
    assert!(
        report.contains("Rows that were not used")
            && report.contains("| tie | 4 | preferences:10 |"),
        "{report}"
    );

    let (again, _) = compare("b");
    assert_eq!(result, again, "everything is in the store");
    let folders = ["a/ppo-rlhf-seed1", "a/fine-ppo-seed1"]
        .map(|run| dir.path().join(run).to_str().unwrap().to_owned());
    let mut args = vec![
        "compare".to_owned(),
        "--json".into(),
        "--out".into(),
        dir.path().join("c").to_str().unwrap().into(),
    ];
    args.extend(folders);
    let (read_back, _) = call(&args);
    assert_eq!(
        read_back["win_rates"][0]["win_rate"],
        result["win_rates"][0]["win_rate"]
    );

    // Another layout of the same rows is another file.
    fs::rename(
        dir.path().join("prompts/b.jsonl"),
        dir.path().join("prompts/c.jsonl"),
    )
    .unwrap();
    compare("d");
    assert_eq!(stages(&store, "data").len(), 2);
}

/// A call of the small files with an editor and a judge on a server.
fn asking(dir: &Path, url: &str) -> Vec<String> {
    let mut args = arguments(dir, "compare", "out");
    // The human editor's file goes: the options below are all there are.
    let file = |arg: &String| arg.starts_with("editor.options.path=");
    let file = args.iter().position(file).unwrap();
    args.drain(file - 1..=file);
    let editor = format!(
        "editor.options={{ model = \"claude-haiku-5-5\", base_url = \"{url}\", max_tokens = 256, tries = 3, \
         api_key_env = \"FINEGRAIN_NO_SUCH_KEY\", budget_usd = 0.000001 }}"
    );
    let judge = format!("judge.options={{ model = \"my-model\", base_url = \"{url}\" }}");
    let sets = [
        "editor.use=claude",
        &editor,
        "judge.use=openai",
        &judge,
        "evaluation.every=1",
        "ppo.steps=3",
    ];
    for set in sets {
        args.extend(["--set".to_owned(), set.to_owned()]);
    }
    args.extend(["--dry-run", "--seeds", "1,2"].map(str::to_owned));
    for name in ["fine-ppo", "fine-token-ppo"] {
        args.push(configs(&format!("preferences/{name}.toml")));
    }
    args
}

#[test]
fn a_dry_run_tells_requests_tokens_and_money_and_sends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    let server = TestServer::start(|_| Act::reply(500, "nobody should ask")).unwrap();
    let mut args = asking(dir.path(), &server.url());
    let table = {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let output = finegrain(&args);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    for words in [
        "editor claude",
        "judge openai",
        "Servers: unknown, 0.",
        "no price for my-model",
        "budget_usd = 0.000001 does not reach",
    ] {
        assert!(table.contains(words), "no {words:?} in {table}");
    }
    args.push("--json".into());
    let (plan, _) = call(&args);
    let [editor, judge] = &plan["servers"]["plugins"].as_array().unwrap()[..] else {
        panic!("{plan}")
    };
    // Both variants and both seeds ask the editor about the same rows: once, in one call for the pairs to train on and one
    // for those held out.
    let data = plan["stages"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|it| it["stage"] == "edits");
    assert_eq!(data.count(), 2, "an edits stage a seed");
    assert_eq!(editor["calls"], 2);
    let rows = editor["forecast"]["requests"]["from"].as_u64().unwrap();
    assert!((15..30).contains(&rows), "{rows}");
    assert_eq!(editor["forecast"]["requests"]["to"], 3 * rows);
    assert_eq!(editor["forecast"]["output_tokens"]["to"], 3 * 256 * rows);
    let usd = &editor["forecast"]["usd"];
    let (from, to) = (usd["from"].as_f64().unwrap(), usd["to"].as_f64().unwrap());
    assert!(from > 0.0 && to > from, "{usd}");
    // Four policies, each evaluated after 0, 1, 2 and 3 steps and at the end; 8 prompts there, in both orders.
    assert_eq!(judge["calls"], 4 * (4 + 1));
    let asked = judge["forecast"]["requests"]["from"].as_u64().unwrap();
    assert!(asked >= 4 * 8 * 2, "{judge}");
    assert_eq!(judge["forecast"]["usd"], Value::Null);
    assert_eq!(plan["servers"]["usd"], Value::Null);
    assert_eq!(server.count(), 0);
    assert!(!dir.path().join("store").exists());
}

#[test]
fn a_reward_model_is_calibrated_once_a_run_has_trained_it() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    let config = configs("preferences/ppo-rlhf.toml");
    let calibrate = || -> Vec<String> {
        let pairs = dir.path().join("pairs.json").to_str().unwrap().to_owned();
        // The same keys as of the run, without its folder.
        let sets = arguments(dir.path(), "run", "out").split_off(3);
        let mut args = vec!["judge".to_owned(), "calibrate".into(), config.clone()];
        args.extend(["--data".into(), pairs, "--json".into()]);
        args.extend(sets);
        args
    };
    let args = calibrate();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let words = [
        "judge.use",
        "is not in the store",
        "`finegrain run` has trained it",
    ];
    refused(&args, 2, &words);
    let mut run = arguments(dir.path(), "run", "out");
    run.extend([config.clone(), "--json".into()]);
    call(&run);
    let (found, _) = call(&calibrate());
    assert_eq!(
        (&found["judge"], &found["pairs"]),
        (&json!("reward-model"), &json!(36))
    );
    assert_eq!(found["judges"][0]["rates"]["flips"]["value"], 0.0);
}

#[test]
fn what_cannot_be_read_ends_the_run_with_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    let config = configs("preferences/ppo-rlhf.toml");
    let run = |name: &str, content: &[u8], words: &[&str]| {
        let path = dir.path().join(name);
        fs::write(&path, content).unwrap();
        let mut args = arguments(dir.path(), "run", "out");
        args.extend([
            config.clone(),
            "--set".into(),
            format!("data.preferences.path={}", path.display()),
        ]);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        refused(&args, 2, words);
    };
    run(
        "page.jsonl",
        b"<!DOCTYPE html>",
        &["data.preferences", "page.jsonl", "an HTML page"],
    );
    run(
        "other.jsonl",
        b"{\"question\": 1}",
        &[
            "other.jsonl:1",
            "no layout has the keys question",
            "docs/data.md",
        ],
    );
    run(
        "same.jsonl",
        b"{\"prompt\": \"p\", \"chosen\": \"c\", \"rejected\": \"c\"}",
        &[
            "none of 1 rows can be used as layout trl (1 identical)",
            "hint: row preferences:1",
        ],
    );
    let mut args = arguments(dir.path(), "run", "out");
    args.extend([config.clone(), "--set".into(), "editor.use=rubric".into()]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    refused(
        &args,
        2,
        &["editor.use", "knows the sandbox's language alone"],
    );
}
