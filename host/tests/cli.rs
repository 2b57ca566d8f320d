//! The command as its users meet it: exit codes, messages on standard error, data on standard output.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should fail where it stands"
)]

mod common;

use std::fs;
use std::path::Path;

use common::{configs, finegrain, refused, variant};

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
        "[device]\nkind = \"tpu\"",
        &["variant.toml:3", "device.kind", "cuda"],
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
    let runs = dir.path().join("runs");
    let run = |lines: &str, words: &[&str]| {
        fs::write(&edits, lines).unwrap();
        let path = format!("data.path={}", edits.display());
        let model = format!("model.path={}", dir.path().display());
        let (store, out) = (store.to_str().unwrap(), runs.to_str().unwrap());
        refused(
            &[
                "run", &config, "--set", &path, "--set", &model, "--store", store, "--out", out,
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
    let out = dir.path().join("out");
    let without = |sets: &[&str], words: &[&str]| {
        let mut args = vec!["run", &config, "--store", store.to_str().unwrap()];
        args.extend(["--out", out.to_str().unwrap()]);
        for set in sets {
            args.extend(["--set", set]);
        }
        refused(&args, 2, words);
        assert!(!out.exists(), "wrong input leaves no run directory");
    };
    without(&[&gone, "model.path=."], &["edits.jsonl", "No such file"]);
    without(&["model.path=nowhere"], &["data.path", "--set data.path"]);
    without(&["data.path=x.jsonl"], &["model.path"]);
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

/// What `plan` says of a configuration, as JSON, and its exit code.
fn planned(args: &[&str]) -> (serde_json::Value, Option<i32>) {
    let output = finegrain(&[&["plan"], args, &["--json"]].concat());
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    let plan = serde_json::from_slice(&output.stdout);
    (
        plan.unwrap_or_else(|_| panic!("{args:?}: {message}")),
        output.status.code(),
    )
}

#[test]
fn a_run_is_planned_from_its_sizes_alone() {
    let sandbox = configs("sandbox/fine-token-ppo.toml");
    let output = finegrain(&["plan", &sandbox]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    for words in [
        "ppo: update",
        "reward model (token-average)",
        "it fits",
        "Assumed:",
    ] {
        assert!(text.contains(words), "no {words:?} in\n{text}");
    }
    assert!(
        text.lines().all(|line| line.chars().count() <= 100),
        "{text}"
    );
    // A folder with config.json and nothing else, and data that are not there.
    let large = configs("examples/llama-7b-lora.toml");
    let rows = ["--prompt-tokens", "192", "--response-tokens", "300"];
    let gpu = ["--device", "cuda", "--device-memory", "80GB"];
    let (plan, code) = planned(&[&[large.as_str()][..], &rows, &gpu].concat());
    assert_eq!((code, plan["fits"].as_bool()), (Some(0), Some(true)));
    assert_eq!(plan["model_parameters"], 6_738_415_616_u64);
    for phase in plan["phases"].as_array().unwrap() {
        let parts = [
            "parameters",
            "optimizer",
            "gradients",
            "activations",
            "kv_cache",
            "logits",
            "other",
        ];
        let sum: u64 = parts.iter().map(|part| phase[part].as_u64().unwrap()).sum();
        assert_eq!(phase["peak"], sum, "{phase}");
    }
}

#[test]
fn what_would_make_a_run_fit_can_be_typed_and_leaves_the_peak_it_says() {
    let large = configs("examples/llama-7b-lora.toml");
    let asked = [
        large.as_str(),
        "--device",
        "cuda",
        "--device-memory",
        "24GB",
        "--prompt-tokens",
        "192",
        "--response-tokens",
        "300",
        "--set",
        "device.dtype=f32",
    ];
    let (plan, code) = planned(&asked);
    assert_eq!((code, plan["fits"].as_bool()), (Some(1), Some(false)));
    let remedies = plan["remedies"].as_array().unwrap();
    assert!(
        remedies.iter().any(|remedy| remedy["fits"] == true),
        "{remedies:?}"
    );
    for remedy in remedies {
        let mut args = asked.to_vec();
        for set in remedy["set"].as_array().unwrap() {
            args.extend(["--set", set.as_str().unwrap()]);
        }
        let (then, code) = planned(&args);
        assert_eq!(
            (&then["peak"], &then["peak_at"]),
            (&remedy["peak"], &remedy["peak_at"])
        );
        assert_eq!(code == Some(0), remedy["fits"] == true);
    }
}

#[test]
fn a_model_that_cannot_be_planned_is_refused_with_what_is_enough() {
    let dir = tempfile::tempdir().unwrap();
    let sandbox = configs("sandbox/ppo-rlhf.toml");
    let refused_with = |model: &str, words: &[&str]| {
        let set = format!("model.path={model}");
        refused(&["plan", &sandbox, "--set", &set], 2, words);
    };
    let enough = "config.json is enough";
    refused_with(
        dir.path().to_str().unwrap(),
        &["model.path", "has no config.json", enough],
    );
    refused_with(
        "no-such/model-7b",
        &["model.path", "no-such/model-7b", "nothing is downloaded"],
    );
    refused_with("no-such-model", &["there is no model", enough]);
    refused(
        &["plan", &sandbox, "--device-memory", "80"],
        2,
        &["a number and its unit"],
    );
}
