//! What is found and what is computed again: after a change, and after damage.

use std::fs;

use super::{Place, folders, succeeds};

#[test]
fn a_second_comparison_computes_nothing_and_another_learning_rate_only_ppo_and_evaluation() {
    let place = Place::new();
    let variants = ["ppo-rlhf", "fine-token-ppo"];
    succeeds(&mut place.command("compare", &variants, "a", &[]));
    succeeds(&mut place.command("compare", &variants, "b", &[]));
    for variant in variants {
        let (computed, found) = place.stages(&format!("b/{variant}-seed1"));
        assert!(computed.is_empty(), "{computed:?}");
        assert_eq!(found.len(), 9);
    }
    let same = |name: &str| fs::read(place.path(name).join("result.json")).unwrap();
    assert_eq!(same("a"), same("b"));

    succeeds(&mut place.command("compare", &variants, "c", &["ppo.learning_rate=0.002"]));
    for variant in variants {
        let (computed, _) = place.stages(&format!("c/{variant}-seed1"));
        assert_eq!(computed, ["ppo", "evaluate", "token_views"], "{variant}");
    }
    // Of the first variant's stages, the second has found what does not depend on edits.
    let (_, shared) = place.stages("a/fine-token-ppo-seed1");
    assert_eq!(shared, ["data", "sft", "pairs", "edits"]);
}

#[test]
fn a_flipped_byte_is_named_and_set_aside_and_only_its_stage_is_computed_again() {
    let place = Place::new();
    place.run("a", &[]);
    let before = place.tables("a");
    let dir = place.artifact("reward_model");
    let weights = dir.join("model/model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&weights, bytes).unwrap();

    let said = place.run("b", &[]);
    let hash = dir.file_name().unwrap().to_str().unwrap();
    let aside = format!("damaged-{hash}-1");
    for words in [
        "warning: ",
        &format!("artifact reward_model/{hash} is damaged"),
        "model/model.safetensors has the SHA-256 ",
        " instead of ",
        &aside,
        "computed again",
    ] {
        assert!(said.contains(words), "no {words:?} in {said}");
    }
    assert!(dir.with_file_name(aside).join("model").is_dir());
    assert_eq!(place.stages("b").0, ["reward_model"]);
    assert_eq!(place.tables("b"), before);
    assert_eq!(place.run("c", &[]), "", "what was repaired is sound");
}

#[test]
fn a_file_that_is_gone_and_a_record_that_is_cut_are_computed_again_in_the_same_run() {
    let place = Place::new();
    place.run("a", &[]);
    let before = place.tables("a");
    fs::remove_file(place.artifact("pairs").join("pairs.jsonl")).unwrap();
    let record = place.artifact("sft").join("stage.json");
    let text = fs::read(&record).unwrap();
    fs::write(&record, &text[..text.len() / 3]).unwrap();
    let said = place.run("a", &[]);
    for words in ["pairs.jsonl is missing", "stage.json has the SHA-256"] {
        assert!(said.contains(words), "no {words:?} in {said}");
    }
    assert_eq!(place.stages("a").0, ["sft", "pairs"]);
    assert_eq!(place.tables("a"), before);
    assert_eq!(folders(&place.store().join("sft"), "damaged-").len(), 1);
}
