//! The command as its users meet it: exit codes, messages on standard error, data on standard output, and a whole run.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should fail where it stands"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn finegrain(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_finegrain"))
        .args(args)
        .env_remove("FINEGRAIN_PLUGIN_PATH")
        .env("HF_HUB_OFFLINE", "1")
        .env("HF_HOME", "no-such-cache")
        .output()
        .unwrap()
}

fn configs(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    root.join(name).to_str().unwrap().to_owned()
}

/// Runs the command, which must fail with `code` and say all of `words` on standard error.
fn refused(args: &[&str], code: i32, words: &[&str]) {
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
fn variant(dir: &Path, text: &str) -> PathBuf {
    let path = dir.join("variant.toml");
    fs::write(
        &path,
        format!("base = {:?}\n{text}", configs("sandbox/base.toml")),
    )
    .unwrap();
    path
}

#[test]
fn wrong_configurations_are_named_by_file_line_and_key() {
    let dir = tempfile::tempdir().unwrap();
    let show = |text: &str, words: &[&str]| {
        let path = variant(dir.path(), text);
        refused(&["config", "show", path.to_str().unwrap()], 2, words);
    };
    show(
        "[ppo]\nkl_coeff = 1.0",
        &["variant.toml:3", "ppo.kl_coeff", "did you mean kl_coef?"],
    );
    show(
        "[ppo]\nsteps = \"many\"",
        &["variant.toml:3", "ppo.steps", "invalid type"],
    );
    show(
        "[ppo]\nclip_range = 2.0",
        &["variant.toml:3", "ppo.clip_range"],
    );
    show("seed = ", &["variant.toml:2"]);
    show("name = \"a/b\"", &["name", "is not a name"]);
    show(
        "[device]\nkind = \"cuda\"",
        &["device.kind", "not available"],
    );
    refused(&["config", "show", "no/such.toml"], 2, &["no/such.toml"]);
    let path = configs("sandbox/ppo-rlhf.toml");
    refused(
        &["config", "show", &path, "--set", "ppo.stepz=1"],
        2,
        &["did you mean ppo.steps?"],
    );
    refused(
        &["config", "show", &path, "--set", "ppo.steps"],
        2,
        &["no `=`"],
    );
    refused(
        &["config", "show", &path, "--set", "ppo.steps=none"],
        2,
        &["--set", "ppo.steps"],
    );
}

#[test]
fn overrides_and_bases_arrive_in_the_resolved_configuration() {
    let path = configs("sandbox/fine-token-ppo.toml");
    let output = finegrain(&[
        "config",
        "show",
        &path,
        "--set",
        "ppo.kl_coef=0.25",
        "--json",
    ]);
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(shown["ppo"]["kl_coef"], 0.25);
    assert_eq!(shown["preferences"], "edits");
    assert_eq!(shown["reward"][0]["use"], "token-average");
    assert_eq!(shown["task"], "sandbox");
}

#[test]
fn a_preset_fills_what_is_not_set() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base.toml");
    fs::write(&base, "[ppo]\nrollout_rows = 256\n").unwrap();
    let path = dir.path().join("variant.toml");
    let text = "base = \"base.toml\"\n[ppo]\npreset = \"trl\"\n[ppo.sampling]\ntop_k = 5\n";
    fs::write(&path, text).unwrap();
    let show = |sets: &[&str]| -> serde_json::Value {
        let mut args = vec!["config", "show", path.to_str().unwrap(), "--json"];
        for set in sets {
            args.extend(["--set", set]);
        }
        let output = finegrain(&args);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        serde_json::from_slice(&output.stdout).expect(&message)
    };
    let ppo = |sets: &[&str]| show(sets)["ppo"].clone();
    let shown = ppo(&["ppo.epochs=3"]);
    for (key, value) in [
        ("/preset", serde_json::json!("trl")),
        // TRL's, docs/ppo.md.
        ("/minibatch_rows", 64.into()),
        ("/learning_rate", 3e-6.into()),
        ("/sampling/temperature", 0.7.into()),
        ("/sampling/max_new_tokens", 53.into()),
        ("/optimizer/max_grad_norm", 0.0.into()),
        ("/critic_head", "reward-model".into()),
        // The base's, the file's and the command line's.
        ("/rollout_rows", 256.into()),
        ("/sampling/top_k", 5.into()),
        ("/epochs", 3.into()),
    ] {
        assert_eq!(shown.pointer(key), Some(&value), "{key}");
    }
    let other = ppo(&["ppo.preset=alpacafarm"]);
    assert_eq!(other["kl_estimator"], "k1-clamped");
    assert_eq!(
        (&other["steps"], &other["rollout_rows"]),
        (&390.into(), &256.into())
    );
    assert_eq!(ppo(&["ppo.preset=finegrain"])["epochs"], 2);
    // The printed configuration has every key set, and resolves to itself.
    let output = finegrain(&["config", "show", path.to_str().unwrap()]);
    let resolved = dir.path().join("resolved.toml");
    fs::write(&resolved, &output.stdout).unwrap();
    let again = finegrain(&["config", "show", resolved.to_str().unwrap()]);
    assert_eq!(again.stdout, output.stdout);

    fs::write(&path, "[ppo]\npreset = \"alpacafram\"\n").unwrap();
    refused(
        &["config", "show", path.to_str().unwrap()],
        2,
        &[
            "variant.toml:2",
            "ppo.preset",
            "alpacafram",
            "did you mean alpacafarm?",
        ],
    );
}

#[test]
fn wrong_plugins_and_options_are_found_before_anything_runs() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let compare = |text: &str, words: &[&str]| {
        let path = variant(dir.path(), text);
        let store = store.to_str().unwrap();
        refused(
            &["compare", path.to_str().unwrap(), "--store", store],
            2,
            words,
        );
    };
    compare(
        "[[reward]]\nuse = \"token-averag\"",
        &["token-averag", "token-average"],
    );
    compare(
        "[advantage]\nuse = \"gae\"\noptions = { lambda = 2.0 }",
        &["lambda"],
    );
    compare(
        "[advantage]\nuse = \"gae\"\noptions = { lambada = 1.0 }",
        &["lambada", "lambda"],
    );
    assert!(!store.join("data").exists(), "a stage has run");
}

#[test]
fn wrong_edit_files_are_named_by_line_and_field() {
    let dir = tempfile::tempdir().unwrap();
    let edits = dir.path().join("edits.jsonl");
    let config = configs("edit-pairs/fine-ppo.toml");
    let store = dir.path().join("store");
    let run = |lines: &str, words: &[&str]| {
        fs::write(&edits, lines).unwrap();
        let path = format!("data.path={}", edits.display());
        let model = format!("model.path={}", dir.path().display());
        let store = store.to_str().unwrap();
        refused(
            &[
                "run", &config, "--set", &path, "--set", &model, "--store", store,
            ],
            2,
            words,
        );
    };
    run(
        "{\"id\": \"1\", \"toxic\": \"a b\", \"neutral\": [\"a c\"]}\n{oops\n",
        &["edits.jsonl:2"],
    );
    run(
        "{\"id\": \"1\", \"toxic\": \"\", \"neutral\": [\"a c\"]}\n",
        &["edits.jsonl", "none of 1 rows", "hint: row 1"],
    );
    run(
        "{\"id\": \"1\", \"toxic\": \"a b\", \"neutral\": [\"a b\"]}\n",
        &["edits.jsonl", "none of 1 rows", "identical"],
    );
    fs::remove_file(&edits).unwrap();
    let gone = format!("data.path={}", edits.display());
    refused(
        &["run", &config, "--set", &gone, "--set", "model.path=."],
        2,
        &["edits.jsonl", "No such file"],
    );
    refused(
        &["run", &config, "--set", "model.path=nowhere"],
        2,
        &["data.path", "--set data.path"],
    );
    refused(
        &["run", &config, "--set", "data.path=x.jsonl"],
        2,
        &["model.path"],
    );
}

#[test]
fn a_new_plugin_is_written_for_each_kind_and_wrong_ones_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for kind in ["editor", "reward", "advantage", "judge"] {
        let folder = dir.path().join(kind);
        let place = folder.to_str().unwrap();
        let args = ["plugin", "new", kind, "half-price", "--dir", place];
        let output = finegrain(&args);
        assert!(output.status.success(), "{kind}");
        let files = String::from_utf8(output.stdout).unwrap();
        assert_eq!(files.lines().count(), 3, "{files}");
        assert!(
            files.lines().all(|file| Path::new(file).is_file()),
            "{files}"
        );
        let next = String::from_utf8(output.stderr).unwrap();
        let library = format!("{place}/target/release/libfinegrain_{kind}_half_price.so");
        let info = format!("plugin info {kind}/half-price");
        for words in [library.as_str(), &info, "use = \"half-price\""] {
            assert!(next.contains(words), "no {words:?} in {next}");
        }
        refused(&args, 2, &[place, "is already there", "hint"]);
    }
    let new = |kind: &str, name: &str, words: &[&str]| {
        let folder = dir.path().join("refused");
        let args = ["plugin", "new", kind, name, "--dir"];
        refused(&[&args[..], &[folder.to_str().unwrap()]].concat(), 2, words);
        assert!(!folder.exists());
    };
    new("rewrad", "x", &["rewrad", "reward"]);
    new("judge", "Fair", &["Fair", "lower-case letters"]);
    new("judge", "2fair", &["2fair", "the first a letter"]);
}

#[test]
fn generate_names_what_is_no_model_and_what_is_accepted() {
    let model = |name: &str, words: &[&str]| {
        refused(&["generate", "--model", name, "--prompt", "x"], 2, words);
    };
    model(
        "nowhere",
        &["no model nowhere", "folder", ".gguf", "org/name@revision"],
    );
    model("./nowhere/at-all", &["no model ./nowhere/at-all"]);
    model("nowhere.gguf", &["no model nowhere.gguf"]);
    model(
        "org/name@v1",
        &[
            "org/name at revision v1",
            "no-such-cache",
            "HF_HUB_OFFLINE",
            "hint:",
        ],
    );
    let file = tempfile::Builder::new().suffix(".gguf").tempfile().unwrap();
    model(file.path().to_str().unwrap(), &[".gguf", "not a GGUF"]);
    let file = tempfile::NamedTempFile::new().unwrap();
    model(file.path().to_str().unwrap(), &["is a file", "accepted"]);
    let args = [
        "generate", "--model", "nowhere", "--prompt", "x", "--system", "y",
    ];
    refused(&args, 2, &["--chat"]);
}

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
    let compare = |out: &str, store: &str| {
        let mut args = vec![
            "compare", "--json", "--quiet", "--out", out, "--store", store,
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
    let first = compare(&place("a"), &place("store"));
    let again = compare(&place("b"), &place("store"));
    // Nothing was computed the second time: even the seconds are the same.
    assert_eq!(first, again);
    let afresh = compare(&place("c"), &place("other-store"));
    for table in ["win_rates", "reward_models"] {
        assert_eq!(
            first[table], afresh[table],
            "{table} differ between two runs with one seed"
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

/// Everything as small as it may be.
const TINY: [&str; 13] = [
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

fn stages(store: &Path, stage: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(store.join(stage)).unwrap();
    let mut stages: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    stages.sort();
    stages
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

#[test]
fn benches_refuse_what_is_no_shape_and_print_what_their_peers_print() {
    for (args, words) in [
        (&["train", "--shape", "tiny"][..], "accepted are small"),
        (&["train", "--shape", "9,8,1,3,1,9"], "do not divide"),
        (&["ppo", "--shape", "9,8,1,2,1,9"], "--batch is needed"),
        (&["train", "--tied"], "--tied"),
        (&["train", "--repetitions", "0"], "--repetitions"),
        (&["generate", "--batch", "3"], "ROWSxLENGTH"),
        (
            &["train", "--shape", "9,8,1,2,0,9", "--batch", "1x4"],
            "num_key_value_heads",
        ),
    ] {
        let mut all = vec!["bench"];
        all.extend(args);
        refused(&all, 2, &[words]);
    }
    let output = finegrain(&[
        "bench",
        "train",
        "--shape",
        "11,8,1,2,1,12",
        "--tied",
        "--batch",
        "2x5",
        "--repetitions",
        "3",
        "--threads",
        "1",
        "--json",
    ]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["seconds"].as_array().unwrap().len(), 3);
    let tokens = ["rows", "length", "tokens", "threads"].map(|key| report[key].as_u64().unwrap());
    assert_eq!(tokens, [2, 5, 10, 1]);
    let sizes = serde_json::json!({
        "vocabulary": 11, "channels": 8, "layers": 1, "heads": 2, "kv_heads": 1,
        "feed_forward": 12, "tied": true,
    });
    assert_eq!(report["shape"], sizes);
    let output = finegrain(&[
        "bench",
        "train",
        "--shape",
        "11,8,1,2,1,12",
        "--batch",
        "2x4",
        "--repetitions",
        "1",
        "--sweep",
        "--json",
    ]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    // 1, 2 and 4 rows by 2, 4, 8 and 16 tokens.
    assert_eq!(report["cells"].as_array().unwrap().len(), 12);
}

#[test]
fn the_reference_page_is_current() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/config.md"))
        .unwrap();
    let output = finegrain(&["config", "reference"]);
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        page,
        "run: cargo run --release -- config reference > docs/config.md"
    );
}

#[test]
fn the_examples_of_every_built_in_plugin_are_configurations() {
    let registry = finegrain::plugins::Registry::built_in().unwrap();
    for listed in registry.list() {
        for example in &listed.descriptor.info.examples {
            let parsed = finegrain::config::Config::from_toml(example);
            assert!(parsed.is_ok(), "{}: {example}", listed.identity);
        }
    }
}
