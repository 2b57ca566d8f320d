use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::data::records::SetAsideReason;

fn write(dir: &Path, name: &str, rows: impl IntoIterator<Item = Value>) {
    let lines: Vec<String> = rows.into_iter().map(|row| row.to_string()).collect();
    fs::write(dir.join(name), lines.join("\n")).unwrap();
}

/// Reads a `[data]` section whose paths are in `dir`.
fn load_in(dir: &Path, mut data: Value) -> Result<Preferences> {
    for table in ["demonstrations", "preferences", "prompts", "evaluation"] {
        if let Some(path) = data.pointer_mut(&format!("/{table}/path")) {
            *path = dir.join(path.as_str().unwrap()).to_str().unwrap().into();
        }
    }
    load(&serde_json::from_value(data).unwrap(), false)
}

/// Pairs, two to a prompt.
fn pairs(n: usize) -> impl Iterator<Item = Value> {
    (0..n).map(|row| json!({"prompt": format!("prompt {}", row / 2), "chosen": format!("good {row}"), "rejected": format!("bad {row}")}))
}

#[test]
fn one_file_is_shared_out_by_its_prompts() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "pairs.jsonl", pairs(400));
    let splits = json!({"sft": 0.25, "reward": 0.25, "ppo": 0.15, "eval": 0.1, "judge": 0.1, "held_out": 0.1});
    let data = json!({"preferences": {"path": "pairs.jsonl"}, "splits": splits});
    let loaded = load_in(dir.path(), data).unwrap();
    assert!(loaded.shared_prompts().is_empty());
    assert!(loaded.references.is_empty() && loaded.set_aside.is_empty());
    let rows = |split| loaded.pairs_of(split).len();
    let of_prompts =
        2 * (loaded.demonstrations.len() + loaded.prompts.len() + loaded.evaluation.len());
    let all = rows(Split::Reward)
        + rows(Split::HeldOut)
        + rows(Split::Judge)
        + of_prompts
        + loaded.left_over;
    assert_eq!(all, 400);
    assert!(loaded.left_over > 0 && rows(Split::Judge) > 0);
    // Both pairs of a prompt are trained on; its samples are judged once.
    assert_eq!(2 * loaded.reward_prompts().len(), rows(Split::Reward));
    assert!(
        loaded
            .demonstrations
            .iter()
            .all(|row| row.response.starts_with("good"))
    );
}

#[test]
fn a_file_of_its_own_leaves_its_share_to_the_reward_model() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "pairs.jsonl", pairs(200));
    write(
        dir.path(),
        "sft.json",
        [json!({"instruction": "i", "input": "x", "output": "o"})],
    );
    write(
        dir.path(),
        "prompts.jsonl",
        [json!({"q": "a"}), json!({"q": "b"})],
    );
    write(
        dir.path(),
        "eval.jsonl",
        [
            json!({"instruction": "e", "output": "theirs"}),
            json!({"instruction": "f"}),
        ],
    );
    let loaded = load_in(
        dir.path(),
        json!({
            "preferences": {"path": "pairs.jsonl"},
            "demonstrations": {"path": "sft.json"},
            "prompts": {"path": "prompts.jsonl", "prompt_field": "q"},
            "evaluation": {"path": "eval.jsonl"},
        }),
    )
    .unwrap();
    assert_eq!(loaded.demonstrations[0].prompt, "i\n\n### Input:\nx");
    assert_eq!(loaded.prompts.len(), 2);
    // A row without an output cannot be compared.
    let [reference] = &loaded.references[..] else {
        panic!("one reference")
    };
    assert_eq!(
        (&*reference.response, loaded.evaluation.len()),
        ("theirs", 1)
    );
    assert_eq!(
        (&*loaded.set_aside[0].id, loaded.set_aside[0].reason),
        ("evaluation:2", SetAsideReason::MissingField)
    );
    assert_eq!(loaded.left_over, 0);
    assert_eq!(
        loaded.pairs_of(Split::Reward).len() + loaded.pairs_of(Split::HeldOut).len(),
        200
    );
    assert!(loaded.pairs_of(Split::Reward).len() > 150);
    assert!(
        loaded
            .said
            .iter()
            .any(|text| text.starts_with("evaluation: 2 of 2 rows of")
                && text.ends_with("layout alpaca-farm"))
    );
}

#[test]
fn an_evaluation_without_outputs_has_no_references_and_a_repeated_prompt_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "pairs.jsonl", pairs(200));
    write(
        dir.path(),
        "eval.jsonl",
        [json!({"prompt": "prompt 1"}), json!({"prompt": "new"})],
    );
    let everything =
        json!({"sft": 0.3, "reward": 0.3, "ppo": 0.3, "eval": 0.0, "judge": 0.0, "held_out": 0.1});
    let data = json!({"preferences": {"path": "pairs.jsonl"}, "evaluation": {"path": "eval.jsonl"}, "splits": everything});
    let loaded = load_in(dir.path(), data).unwrap();
    assert!(loaded.references.is_empty());
    let [shared] = &loaded.shared_prompts()[..] else {
        panic!("one split")
    };
    assert_eq!(
        (shared.split, shared.prompts, shared.shared),
        (Split::Eval, 2, 1)
    );
}

#[test]
fn ties_and_rows_that_cannot_be_read_are_set_aside_with_their_table() {
    let dir = tempfile::tempdir().unwrap();
    let rows: Vec<String> = (0..60)
        .map(|row| json!({"instruction": format!("i {row}"), "output_1": "a", "output_2": "b", "preference": f64::from(row % 3) / 2.0 + 1.0}).to_string())
        .collect();
    fs::write(
        dir.path().join("pairs.jsonl"),
        rows.join("\n") + "\n{\"instruction\": \"\\ud83d\"}\n",
    )
    .unwrap();
    let loaded = load_in(dir.path(), json!({"preferences": {"path": "pairs.jsonl"}})).unwrap();
    assert_eq!(counted(&loaded.set_aside), "20 tie, 1 unreadable");
    assert_eq!(loaded.set_aside[0].id, "preferences:2");
    assert_eq!(loaded.set_aside[20].id, "preferences:61");
    let pair = &loaded.pairs_of(Split::Reward)[0];
    assert!([("a", "b"), ("b", "a")].contains(&(&*pair.chosen, &*pair.rejected)));
}

#[test]
fn what_leaves_a_stage_without_rows_is_refused_with_the_keys_to_look_at() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "pairs.jsonl", pairs(40));
    write(
        dir.path(),
        "bad.jsonl",
        [json!({"prompt": "p", "chosen": "c", "rejected": "c"})],
    );
    for (data, words) in [
        (json!({}), "data.preferences.path: no file"),
        (
            json!({"path": "x", "preferences": {"path": "pairs.jsonl"}}),
            "data.path: task \"preferences\"",
        ),
        (
            json!({"preferences": {"path": "pairs.jsonl", "layout": "trl", "prompt_field": "p"}}),
            "data.preferences.layout: trl has its own keys",
        ),
        (
            json!({"preferences": {"path": "pairs.jsonl"}, "splits": {"held_out": 0.0}}),
            "no rows are left for the reward model's test",
        ),
        (
            json!({"preferences": {"path": "bad.jsonl"}}),
            "bad.jsonl: none of 1 rows can be used as layout trl (1 identical)",
        ),
        (
            json!({"preferences": {"path": "none.jsonl"}}),
            "data.preferences: cannot read",
        ),
    ] {
        let error = load_in(dir.path(), data).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(words), "{words}: {error}");
    }
}

/// The public data sets that the layouts were made for, where they lie beside the workspace.
#[test]
fn public_files_are_read() {
    let shared = std::env::var_os("FINEGRAIN_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        Into::into,
    );
    let data = shared.join("data");
    if !data.is_dir() {
        #[expect(clippy::print_stderr, reason = "says why the test checks nothing")]
        {
            eprintln!("skipped: {} is absent", data.display());
        }
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "pairs.jsonl", pairs(200));
    let path = |name: &str| data.join(name).to_str().unwrap().to_owned();
    let loaded = load_in(
        dir.path(),
        json!({
            "preferences": {"path": "pairs.jsonl"},
            "demonstrations": {"path": path("self_instruct_prompts/seed_tasks.jsonl"), "prompt_field": "instruction",
                "input_field": "instances.0.input", "response_field": "instances.0.output", "id_field": "id"},
            "prompts": {"path": path("halueval_general/general.jsonl"), "prompt_field": "user_query"},
            "evaluation": {"path": path("alpacaeval_davinci003/prompts.jsonl"), "prompt_field": "instruction",
                "response_field": "output_davinci003", "id_field": "id"},
        }),
    )
    .unwrap();
    assert!(
        loaded.demonstrations.len() > 160,
        "{}",
        loaded.demonstrations.len()
    );
    assert!(loaded.prompts.len() > 4000 && loaded.references.len() > 500);
    assert!(
        loaded.set_aside.len() < 30,
        "{}",
        counted(&loaded.set_aside)
    );
}
