use super::*;
use crate::data::splits::SplitFractions;
use serde_json::json;

fn load_text(lines: &[Value], config: &Value) -> Result<EditPairs> {
    let dir = tempfile::tempdir().unwrap();
    let text: Vec<String> = lines.iter().map(Value::to_string).collect();
    std::fs::write(dir.path().join("pairs.jsonl"), text.join("\n")).unwrap();
    load_in(dir.path(), config)
}

fn load_in(base: &Path, config: &Value) -> Result<EditPairs> {
    let mut whole = json!({
        "path": "pairs.jsonl",
        "splits": {"sft": 0, "reward": 1, "ppo": 0, "eval": 0, "judge": 0, "held_out": 0},
    });
    for (key, value) in config.as_object().unwrap() {
        whole[key] = value.clone();
    }
    load(&serde_json::from_value(whole).unwrap(), base, false)
}

fn reasons(pairs: &EditPairs) -> Vec<(&str, SetAsideReason)> {
    let set_aside = pairs.set_aside.iter();
    set_aside.map(|row| (&*row.id, row.reason)).collect()
}

#[test]
fn nested_fields_and_lists_are_mapped() {
    let row = json!({"id": "dev-0", "premise": "p q", "original": {"hypothesis": "a b"},
        "edited": [{"hypothesis": "a c"}, {"hypothesis": "a d"}]});
    let fields = json!({"id_field": "id", "prompt_field": "premise",
        "original_field": "original.hypothesis", "edited_field": "edited.1.hypothesis"});
    let pairs = load_text(&[row], &fields).unwrap();
    assert_eq!(
        pairs.of(Split::Reward),
        [EditPair {
            id: "dev-0".into(),
            prompt: "p q".into(),
            original: "a b".into(),
            edited: "a d".into()
        }]
    );
    assert_eq!(pairs.of(Split::Reward)[0].pair().chosen, "a d");

    let row = json!({"toxic": "x y z", "neutral": ["x y", "x z"]});
    let fields = json!({"prompt_words": 1, "original_field": "toxic",
        "edited_field": "neutral", "edits": "all"});
    let pairs = load_text(std::slice::from_ref(&row), &fields).unwrap();
    let edits: Vec<_> = pairs
        .of(Split::Reward)
        .iter()
        .map(|pair| (&*pair.id, &*pair.edited))
        .collect();
    assert_eq!(edits, [("1#0", " y"), ("1#1", " z")]);
}

/// A flag that names the prompt's field goes with a configuration that cuts prompts off by words.
#[test]
fn a_prompt_field_comes_before_prompt_words() {
    let rows = [json!({"p": "q", "o": "a b", "e": "a c"})];
    let fields =
        json!({"prompt_field": "p", "prompt_words": 1, "original_field": "o", "edited_field": "e"});
    let pairs = load_text(&rows, &fields).unwrap();
    let pair = &pairs.of(Split::Reward)[0];
    assert_eq!((pair.prompt.as_str(), pair.original.as_str()), ("q", "a b"));
}

#[test]
fn a_layout_gives_pairs_that_are_split_by_their_prompts() {
    let rows: Vec<Value> = (0..60)
        .map(|row| {
            let told =
                |answer: &str| format!("\n\nHuman: {}?\n\nAssistant: {answer} {row}", row / 3);
            json!({"chosen": told("yes"), "rejected": told("no")})
        })
        .collect();
    // The fields of a configuration below do not count where a layout is named.
    let fields = json!({"layout": "hh-rlhf", "original_field": "x", "edited_field": "y",
        "splits": SplitFractions::default()});
    let pairs = load_text(&rows, &fields).unwrap();
    assert_eq!(pairs.layout, Some(Layout::HhRlhf));
    assert!(pairs.set_aside.is_empty() && pairs.shared_prompts().is_empty());
    let pair = &pairs.of(Split::Reward)[0];
    assert!(pair.prompt.starts_with("\n\nHuman: ") && pair.prompt.ends_with("\n\nAssistant:"));
    assert!(pair.original.starts_with(" no ") && pair.edited.starts_with(" yes "));
    // Without fields and a layout, the keys tell it.
    let detected = load_text(&rows, &json!({})).unwrap();
    assert_eq!(detected.layout, Some(Layout::HhRlhf));
}

#[test]
fn longer_conversations_than_the_fields_take_are_set_aside() {
    let turn = |role: &str, text: &str| json!({"role": role, "content": text});
    let answer = |text: &str| json!([turn("assistant", text)]);
    let long = json!([turn("user", "q"), turn("assistant", "r"), turn("user", "s")]);
    let rows = [
        json!({"p": [turn("user", "q")], "o": answer("a b"), "e": answer("a c")}),
        json!({"p": long, "o": answer("a b"), "e": answer("a c")}),
    ];
    let fields = |prompt: &str| json!({"prompt_field": prompt, "original_field": "o.0.content", "edited_field": "e.0.content"});
    let pairs = load_text(&rows, &fields("p.0.content")).unwrap();
    assert_eq!(reasons(&pairs), [("2", SetAsideReason::MoreTurns)]);
    let pairs = load_text(&rows, &fields("p.-1.content")).unwrap();
    assert_eq!(pairs.of(Split::Reward)[1].prompt, "s");
}

#[test]
fn prompts_of_several_rows_in_training_and_test_splits_are_noticed_and_a_group_ends_it() {
    let rows: Vec<Value> = (0..200)
        .map(
            |row| json!({"p": format!("prompt {}", row % 20), "o": "a b", "e": format!("a {row}")}),
        )
        .collect();
    let mut fields = json!({"prompt_field": "p", "original_field": "o", "edited_field": "e",
        "splits": SplitFractions::default()});
    let shared = load_text(&rows, &fields).unwrap().shared_prompts();
    let splits: Vec<Split> = shared.iter().map(|shared| shared.split).collect();
    assert_eq!(splits, [Split::Eval, Split::HeldOut]);
    assert!(
        shared
            .iter()
            .all(|shared| shared.shared <= shared.prompts && shared.first.len() == 3)
    );
    fields["group_field"] = "p".into();
    assert!(
        load_text(&rows, &fields)
            .unwrap()
            .shared_prompts()
            .is_empty()
    );
}

#[test]
fn rows_that_make_no_pair_are_set_aside_with_their_reason() {
    let rows = [
        json!({"p": "q", "o": "a b", "e": "a c"}),
        json!({"p": " ", "o": "a b", "e": "a c"}),
        json!({"p": "q", "o": "", "e": "a c"}),
        json!({"p": "q", "o": "a", "e": "a"}),
        json!({"p": "q", "o": "a b c d e", "e": "a"}),
        json!({"p": "q", "o": "a"}),
        json!({"p": "q", "o": "a", "e": []}),
    ];
    let fields =
        json!({"prompt_field": "p", "original_field": "o", "edited_field": "e", "max_words": 5});
    let pairs = load_text(&rows, &fields).unwrap();
    assert_eq!(pairs.of(Split::Reward).len(), 1);
    assert_eq!(
        reasons(&pairs),
        [
            ("2", SetAsideReason::EmptyPrompt),
            ("3", SetAsideReason::EmptyResponse),
            ("4", SetAsideReason::Identical),
            ("5", SetAsideReason::TooLong),
            ("6", SetAsideReason::MissingField),
            ("7", SetAsideReason::MissingField),
        ]
    );
    assert_eq!(pairs.set_aside[3].detail, "6 words, limit 5");
}

#[test]
fn groups_stay_together_and_splits_are_disjoint() {
    let rows: Vec<Value> = (0..200)
        .map(|row| json!({"p": format!("prompt {}", row / 4), "o": "a b", "e": format!("a {row}")}))
        .collect();
    let fields = json!({"prompt_field": "p", "original_field": "o", "edited_field": "e",
        "group_field": "p", "splits": SplitFractions::default()});
    let pairs = load_text(&rows, &fields).unwrap();
    let mut split_of = BTreeMap::new();
    for (split, pairs) in &pairs.splits {
        for pair in pairs {
            assert_eq!(split_of.entry(&pair.prompt).or_insert(split), &split);
        }
    }
    assert!(pairs.splits.len() > 3);
    assert_eq!(
        pairs.splits.values().map(Vec::len).sum::<usize>() + pairs.left_over,
        200
    );
    let first = load_text(
        &rows,
        &json!({"prompt_field": "p", "original_field": "o", "edited_field": "e", "max_rows": 7}),
    );
    assert_eq!(first.unwrap().of(Split::Reward).len(), 7);
}

#[test]
fn a_file_without_a_pair_is_wrong_input_with_its_reasons() {
    let rows = [json!({"text": "a b", "edit": "a c"}), json!({"text": "x"})];
    let fields = json!({"prompt_words": 3, "original_field": "texts", "edited_field": "edit"});
    let error = load_text(&rows, &fields).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(
        error
            .to_string()
            .ends_with("none of 2 rows makes an edit pair (2 missing-field)"),
        "{error}"
    );
    assert_eq!(
        error.hint_text(),
        Some("row 1: `texts`: no key `texts`, but `text`")
    );
}

#[test]
fn wrong_files_and_configurations_are_refused() {
    let row = json!({"id": 1, "o": "a b", "e": "a c"});
    let fields = json!({"original_field": "o", "edited_field": "e", "prompt_words": 1});
    let with = |key: &str, value: Value| {
        let mut fields = fields.clone();
        fields[key] = value;
        fields
    };
    for (config, message) in [
        (
            with("edited_field", Value::Null),
            "data.edited_field is not set",
        ),
        (
            with("prompt_words", Value::Null),
            "neither prompt_field nor prompt_words",
        ),
        (with("prompt_words", 0.into()), "prompt_words is 0"),
        (
            with("id_field", "id".into()),
            "pairs.jsonl:1; accepted: every id once",
        ),
        (
            with("id_field", "key".into()),
            "pairs.jsonl:1: no id: `key`: no key `key`",
        ),
        (with("path", "none.jsonl".into()), "cannot read"),
    ] {
        let error = load_text(&[row.clone(), row.clone()], &config).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(message), "{error}");
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("pairs.jsonl"), "{\"o\":1}\n{\n").unwrap();
    let error = load_in(dir.path(), &fields).unwrap_err();
    assert!(
        error.to_string().contains("pairs.jsonl:2: not JSON"),
        "{error}"
    );
}

/// The public data sets that the fields were made for, where they lie beside the workspace.
#[test]
fn paradetox_and_cad_nli_are_mapped() {
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
    let splits = json!(SplitFractions::default());
    let paradetox = json!({"path": "paradetox/paradetox.jsonl", "id_field": "id", "original_field": "toxic",
        "edited_field": "neutral", "prompt_words": 4, "splits": splits});
    let pairs = load_in(&data, &paradetox).unwrap();
    // 3443 of 9580 rows begin with a common word; three in ten of them are for the reward model.
    assert!(pairs.of(Split::Reward).len() > 900);
    let nli = json!({"path": "cad_nli/train.jsonl", "id_field": "id", "prompt_field": "premise",
        "original_field": "original.hypothesis", "edited_field": "edited.0.hypothesis", "splits": splits});
    let pairs = load_in(&data, &nli).unwrap();
    assert!(pairs.of(Split::Reward).len() > 300);
    assert!(pairs.set_aside.len() < 20, "{:?}", reasons(&pairs));
}
