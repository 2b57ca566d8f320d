//! Adapters on the small model of the tests.

use std::fs;

use serde_json::{Value, json};

use super::*;
use crate::model::{CausalLm, Read, fixture};

fn config() -> LoraConfig {
    LoraConfig {
        rank: 2,
        alpha: 6.0,
        ..LoraConfig::default()
    }
}

/// A model on saved weights with an adapter whose B is not 0, and where the weights lie.
fn adapted() -> Result<(CausalLm, tempfile::TempDir)> {
    let base = tempfile::tempdir().expect("a temporary folder");
    fixture::model(true)?.save(base.path())?;
    let mut model = CausalLm::load(base.path())?.with_lora(&config(), &Stream::new(3))?;
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
    let again = CausalLm::load(dir.path())?;
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
    let again = CausalLm::load(&moved.join("model"))?;
    assert_eq!(again.weights().host(), model.weights().host());
    fs::remove_dir_all(moved).expect("a folder that goes");
    Ok(())
}

#[test]
fn weights_that_were_trained_have_no_origin_any_more() -> Result<()> {
    let (model, base) = adapted()?;
    assert!(model.has_origin());
    assert!(!model.merged()?.has_origin());
    let mut plain = CausalLm::load(base.path())?;
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
        ("fan_in_fan_out", json!(true), "fan_in_fan_out is true"),
        (
            "init_lora_weights",
            json!("pissa_niter_4"),
            "init_lora_weights is \"pissa_niter_4\"; accepted: true",
        ),
        (
            "alora_invocation_tokens",
            json!([1, 2]),
            "alora_invocation_tokens is [1,2]; accepted: off",
        ),
        // Of a version of PEFT that nobody here knows.
        (
            "use_cubic_lora",
            json!(true),
            "use_cubic_lora is true; accepted: off",
        ),
        (
            "layers_pattern",
            json!("h"),
            "layers_pattern is \"h\"; accepted: \"layers\"",
        ),
        (
            "layers_to_transform",
            json!("all"),
            "layers_to_transform is \"all\"; accepted",
        ),
        (
            "layers_to_transform",
            json!([0]),
            "belongs to nothing in the model: adapter_config.json does not choose it",
        ),
        (
            "exclude_modules",
            json!(["o_proj"]),
            "belongs to nothing in the model",
        ),
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
        ("target_modules", json!([]), "target_modules: none is named"),
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
        let error = CausalLm::load(dir.path()).expect_err(expected);
        let text = error.to_string();
        assert!(text.contains(expected), "{text}");
        assert_eq!(error.exit_code(), 2, "{text}");
    }
    // Keys at what means off, without effect or unknown to nobody's harm, and longer names of modules, are fine.
    let mut changed = good;
    changed["init_lora_weights"] = json!("gaussian");
    changed["megatron_core"] = json!("megatron.core");
    changed["modules_to_save"] = json!(["classifier", "score"]);
    changed["use_cubic_lora"] = json!(false);
    changed["use_dora"] = json!(false);
    changed["alpha_pattern"] = json!({});
    changed["layers_to_transform"] = Value::Null;
    let names = config()
        .targets
        .iter()
        .map(|target| target.name())
        .collect::<Vec<_>>();
    changed["target_modules"] = json!(names);
    fs::write(&path, changed.to_string()).expect("a file");
    let again = CausalLm::load(dir.path())?;
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

/// The folder of an adapter with `change` made to its tensors and its configuration, and its base.
fn changed(
    change: impl FnOnce(&mut std::collections::HashMap<String, Tensor>, &mut Value),
) -> Result<(CausalLm, [tempfile::TempDir; 2])> {
    let (model, base) = adapted()?;
    let dir = tempfile::tempdir().expect("a temporary folder");
    model.save(dir.path())?;
    let weights = dir.path().join("adapter_model.safetensors");
    let path = dir.path().join("adapter_config.json");
    let text = fs::read(&path).expect("the configuration");
    let mut config: Value = serde_json::from_slice(&text).expect("JSON");
    let mut tensors = candle_core::safetensors::load(&weights, &candle_core::Device::Cpu)?;
    change(&mut tensors, &mut config);
    candle_core::safetensors::save(&tensors, &weights)?;
    fs::write(&path, config.to_string()).expect("written");
    Ok((model, [dir, base]))
}

/// The values of the adapter, those of some modules put to zero.
fn without(model: &CausalLm, left_out: impl Fn(&str) -> bool) -> Vec<f32> {
    let parameters = model.parameters();
    let mut values = parameters.host().to_vec();
    for entry in parameters
        .entries()
        .iter()
        .filter(|entry| left_out(&entry.name))
    {
        values[entry.range.clone()].fill(0.0);
    }
    values
}

#[test]
fn which_maps_have_adapters_is_read_off_the_tensors_where_the_names_are_a_pattern() -> Result<()> {
    let first = |name: &str| name.contains(".layers.0.");
    for chosen in [
        json!("all-linear"),
        json!(r".*\.(self_attn|mlp)\.[a-z]+_proj"),
    ] {
        let (model, [dir, _base]) = changed(|tensors, config| {
            config["target_modules"] = chosen;
            config["exclude_modules"] = json!(r".*\.layers\.0\..*");
            tensors.retain(|name, _| !first(name));
        })?;
        let read = CausalLm::load(dir.path())?;
        assert_eq!(read.parameters().host(), without(&model, first));
    }
    // A pattern leaves no half of an adapter.
    let (_, [dir, _base]) = changed(|tensors, config| {
        config["target_modules"] = json!("all-linear");
        tensors.retain(|name, _| !name.ends_with("layers.1.mlp.up_proj.lora_B.weight"));
    })?;
    let error = CausalLm::load(dir.path()).expect_err("half");
    assert!(
        error
            .to_string()
            .contains("has no tensor \"base_model.model.model.layers.1.mlp.up_proj.lora_B"),
        "{error}"
    );
    Ok(())
}

#[test]
fn modules_are_chosen_by_full_names_by_layers_and_by_exclusion() -> Result<()> {
    type Out = fn(&str) -> bool;
    let second: Out = |name| name.contains(".layers.1.");
    let fields = LoraConfig::default().fields(Family::Llama).into_iter();
    let all_of_first: Vec<_> = fields
        .map(|field| module_name(Family::Llama, 0, field))
        .collect();
    let queries: Out = |name| name.contains("layers.1.self_attn.q_proj");
    for (key, value, left_out) in [
        ("target_modules", json!(all_of_first), second),
        ("layers_to_transform", json!(0), second),
        ("layers_to_transform", json!([0]), second),
        ("exclude_modules", json!(["1.self_attn.q_proj"]), queries),
    ] {
        let (model, [dir, _base]) = changed(|tensors, config| {
            config[key] = value;
            tensors.retain(|name, _| !left_out(name));
        })?;
        let read = CausalLm::load(dir.path()).expect(key);
        assert_eq!(read.parameters().host(), without(&model, left_out), "{key}");
    }
    Ok(())
}

#[test]
fn rslora_divides_by_the_root_of_the_rank() -> Result<()> {
    let (model, [dir, _base]) = changed(|_, config| config["use_rslora"] = json!(true))?;
    let read = CausalLm::load(dir.path())?;
    let scale = read.adapter().map(|adapter| adapter.config().scale());
    // α/√r = 6/√2; what is saved is a plain adapter that does the same.
    assert!((scale.expect("an adapter") - 6.0 / 2f64.sqrt()).abs() < 1e-12);
    assert_eq!(read.parameters().host(), model.parameters().host());
    let again = tempfile::tempdir().expect("a temporary folder");
    read.save(again.path())?;
    let batch = fixture::batch();
    assert_eq!(
        CausalLm::load(again.path())?.hidden(&batch, Read::All)?,
        read.hidden(&batch, Read::All)?
    );
    Ok(())
}

#[test]
fn tensors_beside_the_adapter_are_refused_by_name_and_never_dropped() -> Result<()> {
    for (name, rows, words) in [
        (
            "base_model.model.model.embed_tokens.weight",
            13,
            "its shape is [13, 12], and in the model the table [11, 12]",
        ),
        ("base_model.model.lm_head.weight", 11, "[11, 12]"),
        (
            "base_model.model.model.norm.weight",
            1,
            "nothing of this name has an adapter",
        ),
        (
            "base_model.model.model.layers.2.self_attn.q_proj.lora_A.weight",
            2,
            "belongs to nothing in the model",
        ),
    ] {
        let (_, [dir, _base]) = changed(|tensors, _| {
            let table = Tensor::zeros(
                (rows, 12),
                candle_core::DType::F32,
                &candle_core::Device::Cpu,
            );
            tensors.insert(name.to_owned(), table.expect("zeros"));
        })?;
        let error = CausalLm::load(dir.path()).expect_err(name);
        let text = error.to_string();
        assert!(text.contains(name) && text.contains(words), "{text}");
        assert_eq!(error.exit_code(), 2);
    }
    Ok(())
}

#[test]
fn a_base_is_named_beside_the_adapter_by_hand_or_not_at_all() -> Result<()> {
    let (model, [dir, base]) = changed(|_, config| {
        config["base_model_name_or_path"] = json!("/home/somebody/else/llama");
    })?;
    let error = CausalLm::load(dir.path()).expect_err("elsewhere");
    assert!(
        error.to_string().contains("/home/somebody/else/llama"),
        "{error}"
    );
    assert!(
        error
            .hint_text()
            .is_some_and(|hint| hint.contains("--base")),
        "{error:?}"
    );
    let read = CausalLm::load_on(dir.path(), Some(base.path()))?;
    let batch = fixture::batch();
    assert_eq!(
        read.hidden(&batch, Read::All)?,
        model.hidden(&batch, Read::All)?
    );
    let error = CausalLm::load_on(base.path(), Some(base.path())).expect_err("no adapter");
    assert!(error.to_string().contains("is no adapter"), "{error}");
    // A hub id is looked up as --model looks it up: here there is none of it, and no network is asked.
    let revision = |config: &mut Value| config["revision"] = json!("v2");
    let (_, [dir, _base]) = changed(|_, config| {
        config["base_model_name_or_path"] = json!("some-org/some-model");
        revision(config);
    })?;
    assert_eq!(
        base::named_base(dir.path())?,
        Path::new("some-org/some-model@v2")
    );
    Ok(())
}

#[test]
fn an_adapter_in_the_older_format_is_refused_with_a_way_out() -> Result<()> {
    let (_, [dir, _base]) = changed(|_, _| {})?;
    let weights = dir.path().join("adapter_model.safetensors");
    fs::rename(&weights, dir.path().join("adapter_model.bin")).expect("renamed");
    let error = CausalLm::load(dir.path()).expect_err("pickled");
    assert!(
        error
            .to_string()
            .contains("has no adapter_model.safetensors"),
        "{error}"
    );
    assert!(
        error
            .hint_text()
            .is_some_and(|hint| hint.contains("adapter_model.bin"))
    );
    Ok(())
}
