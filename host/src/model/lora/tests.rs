//! Adapters on the small model of the tests.

use std::fs;

use serde_json::{Value, json};

use super::*;
use crate::model::{Llama, Read, fixture};

fn config() -> LoraConfig {
    LoraConfig {
        rank: 2,
        alpha: 6.0,
        ..LoraConfig::default()
    }
}

/// A model on saved weights with an adapter whose B is not 0, and where the weights lie.
fn adapted() -> Result<(Llama, tempfile::TempDir)> {
    let base = tempfile::tempdir().expect("a temporary folder");
    fixture::model(true)?.save(base.path())?;
    let mut model = Llama::load(base.path())?.with_lora(&config(), &Stream::new(3))?;
    let values = model.parameters_mut().host_mut().iter_mut();
    values
        .enumerate()
        .for_each(|(i, value)| *value += 0.1 * (i as f32).sin());
    Ok((model, base))
}

fn close(a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len());
    let pairs = a.iter().zip(b);
    pairs.for_each(|(a, b)| assert!((a - b).abs() < 1e-5, "{a} {b}"));
}

#[test]
fn a_fresh_adapter_changes_nothing_and_is_all_that_is_trained() -> Result<()> {
    let base = fixture::model(true)?;
    let model = base.with_lora(&config(), &Stream::new(3))?;
    let batch = fixture::batch();
    assert_eq!(
        model.hidden(&batch, Read::All)?,
        base.hidden(&batch, Read::All)?
    );
    assert!(model.weights().shares_memory_with(base.weights()));
    // Per layer and target 2 · (I + O): q (24, 12), k and v (12, 12), o (12, 24), gate and up (20, 12), down (12, 20).
    let per_layer = 2 * (36 + 24 + 24 + 36 + 32 + 32 + 32);
    assert_eq!(model.parameters().len(), 2 * per_layer);
    let bound = 1.0 / 12f32.sqrt();
    let a = model
        .parameters()
        .get("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight")?;
    assert!(a.iter().all(|x| x.abs() <= bound) && a.iter().any(|x| x.abs() > bound / 2.0));
    Ok(())
}

#[test]
fn merged_and_apart_say_the_same() -> Result<()> {
    let (model, _base) = adapted()?;
    let merged = model.merged()?;
    assert!(merged.adapter().is_none());
    let batch = fixture::batch();
    let apart = model.hidden(&batch, Read::All)?;
    close(&merged.hidden(&batch, Read::All)?, &apart);
    assert!(!merged.weights().shares_memory_with(model.weights()));
    Ok(())
}

#[test]
fn an_adapter_is_saved_apart_and_says_where_its_base_is() -> Result<()> {
    let (model, base) = adapted()?;
    let dir = tempfile::tempdir().expect("a temporary folder");
    model.save(dir.path())?;
    let text = fs::read(dir.path().join("adapter_config.json")).expect("the configuration");
    let read: Value = serde_json::from_slice(&text).expect("JSON");
    assert_eq!((&read["r"], &read["lora_alpha"]), (&json!(2), &json!(6.0)));
    let path = fs::canonicalize(base.path()).expect("a path");
    assert_eq!(read["base_model_name_or_path"], json!(path));
    assert!(!dir.path().join("model.safetensors").exists());
    let again = Llama::load(dir.path())?;
    assert_eq!(again.parameters().host(), model.parameters().host());
    Ok(())
}

#[test]
fn a_base_beside_the_adapter_is_found_by_its_relative_path() -> Result<()> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut base = fixture::model(true)?;
    let error = base.with_lora(&config(), &Stream::new(1))?.save(dir.path());
    let text = error.expect_err("no weights to name").to_string();
    assert!(text.contains("were not saved themselves"), "{text}");
    base.save(&dir.path().join("base"))?;
    base.set_origin("../base".into());
    let model = base.with_lora(&config(), &Stream::new(1))?;
    model.save(&dir.path().join("model"))?;
    let moved = dir.path().with_extension("moved");
    fs::rename(dir.path(), &moved).expect("a folder that moves");
    let again = Llama::load(&moved.join("model"))?;
    assert_eq!(again.weights().host(), model.weights().host());
    fs::remove_dir_all(moved).expect("a folder that goes");
    Ok(())
}

#[test]
fn weights_that_were_trained_have_no_origin_any_more() -> Result<()> {
    let (model, base) = adapted()?;
    assert!(model.has_origin());
    assert!(!model.merged()?.has_origin());
    let mut plain = Llama::load(base.path())?;
    assert!(plain.has_origin());
    plain.parameters_mut().host_mut()[0] += 1.0;
    assert!(!plain.has_origin());
    Ok(())
}

#[test]
fn what_is_no_plain_lora_is_refused_with_its_key() -> Result<()> {
    let (model, _base) = adapted()?;
    let dir = tempfile::tempdir().expect("a temporary folder");
    model.save(dir.path())?;
    let path = dir.path().join("adapter_config.json");
    let text = fs::read(&path).expect("the configuration");
    let good: Value = serde_json::from_slice(&text).expect("JSON");
    for (key, value, expected) in [
        (
            "peft_type",
            json!("IA3"),
            "peft_type is \"IA3\"; accepted: \"LORA\"",
        ),
        ("use_dora", json!(true), "use_dora is true"),
        ("use_rslora", json!(true), "use_rslora is true"),
        ("rank_pattern", json!({"q": 4}), "rank_pattern is"),
        ("bias", json!("all"), "bias is \"all\"; accepted: \"none\""),
        (
            "modules_to_save",
            json!(["lm_head"]),
            "modules_to_save holds \"lm_head\"",
        ),
        (
            "target_modules",
            json!(["qkv"]),
            "target_modules holds \"qkv\"; accepted: q_proj",
        ),
        (
            "target_modules",
            json!([]),
            "adapter.targets: none is named",
        ),
        ("r", json!("eight"), "r: invalid type"),
        (
            "r",
            json!(4),
            "has the shape [2, 12], the configuration asks for [4, 12]",
        ),
        (
            "target_modules",
            json!(["q_proj"]),
            "belongs to nothing in the model",
        ),
        (
            "base_model_name_or_path",
            json!("/nowhere"),
            "the base model of the adapter in",
        ),
        (
            "base_model_name_or_path",
            Value::Null,
            "base_model_name_or_path is missing",
        ),
    ] {
        let mut changed = good.clone();
        changed[key] = value;
        fs::write(&path, changed.to_string()).expect("a file");
        let error = Llama::load(dir.path()).expect_err(expected);
        let text = error.to_string();
        assert!(text.contains(expected), "{text}");
        assert_eq!(error.exit_code(), 2, "{text}");
    }
    // Keys at what means off, and full module names, are fine.
    let mut changed = good;
    changed["use_dora"] = json!(false);
    changed["alpha_pattern"] = json!({});
    changed["layers_to_transform"] = Value::Null;
    let names = config().targets().map(Target::module).collect::<Vec<_>>();
    changed["target_modules"] = json!(names);
    fs::write(&path, changed.to_string()).expect("a file");
    let again = Llama::load(dir.path())?;
    assert_eq!(again.parameters().host(), model.parameters().host());
    Ok(())
}

#[test]
fn an_adapter_that_is_none_is_refused() {
    for (config, expected) in [
        (
            LoraConfig {
                rank: 0,
                ..config()
            },
            "rank: 0",
        ),
        (
            LoraConfig {
                alpha: f64::NAN,
                ..config()
            },
            "alpha: NaN",
        ),
        (
            LoraConfig {
                targets: Vec::new(),
                ..config()
            },
            "targets: none",
        ),
    ] {
        let error = config.validate("model.lora").expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}");
    }
}
