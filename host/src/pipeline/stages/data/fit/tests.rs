use std::path::Path;

use finegrain_sdk::rng::Stream;

use super::*;
use crate::data::records::SetAsideReason;
use crate::sandbox::{ModelShape, save_fresh_model};

/// A model of 64 positions in which every word is a token, and how much is sampled in which stage.
fn config(model: &Path) -> Config {
    let shape = ModelShape {
        hidden_size: 8,
        intermediate_size: 16,
        max_position_embeddings: 64,
        ..ModelShape::default()
    };
    save_fresh_model(&shape, &Stream::new(1), model).unwrap();
    let text = format!(
        r#"
        task = "edit-pairs"
        model = {{ path = {model:?} }}
        data = {{ path = "unread.jsonl", prompt_field = "p", original_field = "o", edited_field = "e" }}
        pairs = {{ sampling = {{ max_new_tokens = 8 }} }}
        evaluation = {{ sampling = {{ max_new_tokens = 4 }} }}
        ppo = {{ sampling = {{ max_new_tokens = 16 }} }}
        [[reward]]
        use = "sequence"
        "#
    );
    Config::from_toml(&text).unwrap()
}

fn words(count: usize) -> String {
    vec!["the"; count].join(" ")
}

/// A pair of so many words; the edit is shorter.
fn pair(id: &str, prompt: usize, original: usize) -> EditPair {
    EditPair {
        id: id.to_owned(),
        prompt: words(prompt),
        original: words(original),
        edited: "sea".to_owned(),
    }
}

fn left(split: Split, rows: Vec<EditPair>) -> Result<(Vec<String>, Vec<SetAside>)> {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let mut pairs = EditPairs::default();
    pairs.splits.insert(split, rows);
    Fit::of(&config)?.edit_pairs(&mut pairs)?;
    let kept = pairs.of(split).iter().map(|pair| pair.id.clone());
    Ok((kept.collect(), pairs.set_aside))
}

#[test]
fn every_split_is_measured_by_what_is_done_with_it() {
    // BOS and EOS take one each; what is sampled has its EOS among its tokens.
    for (split, prompt, original, detail) in [
        (Split::Sft, 40, 22, "of the longest response"),
        (Split::HeldOut, 40, 22, "of the longest response"),
        (Split::Judge, 40, 22, "of the longest response"),
        (Split::Reward, 40, 22, "of the longest response"),
        (Split::Reward, 55, 7, "of pairs.sampling.max_new_tokens"),
        (Split::Ppo, 47, 99, "16 of ppo.sampling.max_new_tokens"),
        (
            Split::Eval,
            59,
            99,
            "4 of evaluation.sampling.max_new_tokens",
        ),
    ] {
        let rows = vec![
            pair("fits", prompt, original),
            pair("long", prompt + 1, original),
        ];
        let (kept, set_aside) = left(split, rows).unwrap();
        assert_eq!(kept, ["fits"], "{split}");
        let [row] = &set_aside[..] else {
            panic!("one row is set aside in {split}")
        };
        assert_eq!((&*row.id, row.reason), ("long", SetAsideReason::TooLong));
        assert!(row.detail.starts_with("65 tokens ("), "{}", row.detail);
        assert!(row.detail.contains(detail), "{}", row.detail);
        assert!(row.detail.ends_with("limit 64 (max_position_embeddings)"));
    }
}

#[test]
fn a_split_of_which_nothing_is_left_is_refused_by_id() {
    let error = left(Split::Ppo, vec![pair("long-7", 60, 1)]).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    let text = error.to_string();
    assert!(
        text.contains("split ppo; row \"long-7\": 77 tokens"),
        "{text}"
    );
    let hint = error.hint_text().unwrap();
    assert!(hint.contains("lower ppo.sampling.max_new_tokens"), "{hint}");
}

#[test]
fn what_the_tokenizer_cannot_read_as_text_is_set_aside_by_name() {
    let named = |id: &str, field: usize| {
        let mut pair = pair(id, 2, 2);
        let fields = [&mut pair.prompt, &mut pair.original, &mut pair.edited];
        fields.into_iter().nth(field).unwrap().push_str(" </s> sea");
        pair
    };
    let rows = || vec![pair("a", 2, 2), named("b", 0), named("c", 1), named("d", 2)];
    let ids = |rows: &[SetAside]| -> Vec<String> {
        assert!(
            rows.iter()
                .all(|row| row.reason == SetAsideReason::SpecialToken)
        );
        rows.iter().map(|row| row.id.clone()).collect()
    };
    let (_, set_aside) = left(Split::Reward, rows()).unwrap();
    assert_eq!(ids(&set_aside), ["b", "c", "d"]);
    assert!(set_aside[0].detail.contains("\"</s>\""));
    // The responses of prompts to be answered are not used.
    let (kept, set_aside) = left(Split::Ppo, rows()).unwrap();
    assert_eq!((kept.len(), ids(&set_aside)), (3, vec!["b".to_owned()]));
}

#[test]
fn the_key_follows_what_is_sampled_and_the_model() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let key = Fit::key(&config).unwrap();
    let mut other = config.clone();
    other.ppo.sampling.max_new_tokens += 1;
    assert_ne!(Fit::key(&other).unwrap(), key);
    other.ppo = config.ppo.clone();
    other.sft.epochs += 1;
    assert_eq!(Fit::key(&other).unwrap(), key);
}
