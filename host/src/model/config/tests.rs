//! Files as they are found, and files that are refused.

use serde_json::json;

use super::*;

fn minimal() -> Value {
    json!({
        "model_type": "llama", "vocab_size": 32, "hidden_size": 16, "intermediate_size": 24,
        "num_hidden_layers": 2, "num_attention_heads": 4, "unknown_key": {"nested": true}
    })
}

fn parse(change: impl FnOnce(&mut Value)) -> Result<CausalLmConfig> {
    let mut value = minimal();
    change(&mut value);
    CausalLmConfig::from_json(value.to_string().as_bytes())
}

#[test]
fn what_is_left_out_has_the_default_of_transformers() -> Result<()> {
    let config = parse(|_| {})?;
    assert_eq!((config.num_key_value_heads, config.head_dim), (4, 4));
    assert_eq!((config.rms_norm_eps, config.rope_theta), (1e-6, 10_000.0));
    assert_eq!(config.max_position_embeddings, 2048);
    assert!(!config.tie_word_embeddings && config.eos_token_id.is_empty());
    Ok(())
}

#[test]
fn the_end_of_a_response_is_none_one_or_a_list() -> Result<()> {
    assert_eq!(parse(|v| v["eos_token_id"] = json!(2))?.eos_token_id, [2]);
    assert_eq!(
        parse(|v| v["eos_token_id"] = json!([2, 7]))?.eos_token_id,
        [2, 7]
    );
    assert!(
        parse(|v| v["eos_token_id"] = Value::Null)?
            .eos_token_id
            .is_empty()
    );
    Ok(())
}

#[test]
fn the_newer_nested_rope_parameters_are_read() -> Result<()> {
    let nested = json!({"rope_theta": 500_000.0, "rope_type": "default"});
    assert_eq!(
        parse(|v| v["rope_parameters"] = nested)?.rope_theta,
        500_000.0
    );
    Ok(())
}

#[test]
fn what_is_written_is_read_back() -> Result<()> {
    let config = CausalLmConfig {
        eos_token_id: vec![2, 3],
        bos_token_id: Some(1),
        num_key_value_heads: 2,
        rope_theta: 5e5,
        head_dim: 6,
        ..parse(|_| {})?
    };
    for task in ["ForCausalLM", "ForSequenceClassification"] {
        let text = config.to_json(task);
        assert_eq!(CausalLmConfig::from_json(text.as_bytes())?, config);
    }
    Ok(())
}

#[test]
fn an_error_names_the_key_what_was_found_and_what_is_accepted() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 14] = [
        (
            |v| drop(v.as_object_mut().expect("an object").remove("hidden_size")),
            "missing field `hidden_size`",
        ),
        (
            |v| v["vocab_size"] = json!("many"),
            "vocab_size: invalid type: string \"many\"",
        ),
        (
            |v| v["model_type"] = json!("gpt2"),
            "model_type is \"gpt2\"; accepted: \"llama\", \"mistral\", \"qwen2\", \"qwen3\", ",
        ),
        (
            |v| v["num_key_value_heads"] = json!(3),
            "num_key_value_heads is 3",
        ),
        (|v| v["hidden_size"] = json!(18), "hidden_size is 18"),
        (|v| v["head_dim"] = json!(3), "head_dim is 3"),
        (
            |v| v["num_attention_heads"] = json!(0),
            "num_attention_heads is 0",
        ),
        (
            |v| v["rope_scaling"] = json!({"rope_type": "llama3", "factor": 8.0}),
            "rope_scaling.low_freq_factor is missing",
        ),
        (
            |v| v["rope_scaling"] = json!({"type": "dynamic", "factor": 2.0}),
            "rope_scaling is of the type \"dynamic\"; accepted: null or one of the types \"default\", \"linear\"",
        ),
        (
            |v| v["rope_scaling"] = json!({"rope_type": "default", "type": "linear"}),
            "rope_scaling.rope_type is \"default\" and rope_scaling.type is \"linear\"; accepted: the same",
        ),
        (
            |v| v["rope_scaling"] = json!({"type": null, "factor": 4.0}),
            "rope_scaling.factor is 4.0; accepted: no such key in positions of the type \"default\"",
        ),
        (
            |v| {
                v["rope_parameters"] =
                    json!({"rope_type": "default", "partial_rotary_factor": 0.5});
            },
            "rope_parameters.partial_rotary_factor is 0.5",
        ),
        (
            |v| v["eos_token_id"] = json!(32),
            "below vocab_size, which is 32",
        ),
        (|v| v["is_causal"] = json!(false), "is_causal is false"),
    ];
    for (change, expected) in cases {
        let error = parse(change).expect_err(expected);
        assert_eq!(error.exit_code(), 2, "{error}");
        assert!(
            error.to_string().contains(expected),
            "{error} does not say {expected}"
        );
    }
}

#[test]
fn rope_type_and_type_stand_side_by_side_where_they_agree() -> Result<()> {
    let both = json!({"rope_type": "default", "type": "default", "rope_theta": 5e5, "factor": 8.0,
                      "partial_rotary_factor": 1.0});
    for key in ["rope_scaling", "rope_parameters"] {
        assert_eq!(parse(|v| v[key] = both.clone())?.rope_theta, 5e5);
    }
    Ok(())
}

#[test]
fn keys_without_effect_pass_whatever_tool_wrote_them() -> Result<()> {
    let config = parse(|_| {})?;
    for (key, value) in [
        ("unsloth_fixed", json!(true)),
        ("transformers_version", json!("4.44.0")),
        ("pretraining_tp", json!(2)),
        ("attention_dropout", json!(0.1)),
        ("_attn_implementation_autoset", json!(true)),
        ("initializer_range", json!(0.02)),
        ("auto_map", json!({"AutoConfig": "a.B"})),
        ("encoder_no_repeat_ngram_size", json!(0)),
        ("layer_types", json!(["full_attention", "full_attention"])),
        ("rope_interleaved", json!(false)),
        ("sliding_window", Value::Null),
        ("layer_norm_eps", json!(1e-6)),
        ("quantization_config", json!({})),
    ] {
        let read = parse(|v| {
            v["rms_norm_eps"] = json!(1e-6);
            v[key] = value;
        });
        assert_eq!(read.expect(key), config, "{key}");
    }
    Ok(())
}

#[test]
fn keys_that_change_the_arithmetic_are_refused_by_name() {
    for (key, value) in [
        ("embedding_multiplier", json!(12.0)),
        ("attention_multiplier", json!(0.0625)),
        ("logits_scaling", json!(8)),
        ("final_logit_softcapping", json!(30.0)),
        ("sliding_window", json!(4096)),
        ("num_local_experts", json!(8)),
        ("use_qk_norm", json!(true)),
        ("no_rope_layers", json!([1, 1, 0])),
        (
            "layer_types",
            json!(["full_attention", "sliding_attention"]),
        ),
        ("partial_rotary_factor", json!(0.5)),
        ("norm_type", json!("layernorm")),
        ("layer_norm_eps", json!(1e-3)),
        // Of no family that is known here.
        ("cubic_residual_gain", json!(0.3)),
    ] {
        let error = parse(|v| v[key] = value.clone()).expect_err(key);
        let text = error.to_string();
        assert!(
            text.starts_with(&format!("{key} is {value}; accepted:")),
            "{text}"
        );
        assert_eq!(error.exit_code(), 2);
    }
    // A window that is switched off is none.
    let off = parse(|v| {
        v["use_sliding_window"] = json!(false);
        v["sliding_window"] = json!(4096);
        v["max_window_layers"] = json!(28);
    });
    assert!(off.is_ok());
}

#[test]
fn quantised_weights_are_refused_with_their_method() {
    for (config, method) in [
        (json!({"quant_method": "gptq", "bits": 4}), "gptq"),
        (json!({"quant_method": "awq"}), "awq"),
        (json!({"quant_method": "fp8"}), "fp8"),
        (json!({"load_in_4bit": true}), "bitsandbytes"),
    ] {
        let error = parse(|v| v["quantization_config"] = config).expect_err(method);
        let text = error.to_string();
        assert!(
            text.contains(&format!("quantised with {method}; accepted")),
            "{text}"
        );
    }
}

#[test]
fn generation_config_json_names_more_tokens_that_end_a_response() -> Result<()> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (config, beside) = (dir.path().join("config.json"), dir.path().join(GENERATION));
    let mut value = minimal();
    value["eos_token_id"] = json!(2);
    std::fs::write(&config, value.to_string()).expect("written");
    assert_eq!(CausalLmConfig::load(&config)?.eos_token_id, [2]);
    for (eos, expected) in [
        (json!([13, 2]), vec![2, 13]),
        (json!(5), vec![2, 5]),
        (Value::Null, vec![2]),
    ] {
        let text = json!({"eos_token_id": eos, "temperature": 0.6}).to_string();
        std::fs::write(&beside, text).expect("written");
        assert_eq!(CausalLmConfig::load(&config)?.eos_token_id, expected);
    }
    for text in ["{", r#"{"eos_token_id": "two"}"#, r#"{"eos_token_id": 99}"#] {
        std::fs::write(&beside, text).expect("written");
        let error = CausalLmConfig::load(&config).expect_err(text);
        assert!(error.to_string().contains(GENERATION), "{error}");
        assert_eq!(error.exit_code(), 2);
    }
    Ok(())
}

#[test]
fn sizes_that_no_machine_holds_are_refused_before_anything_is_counted() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 3] = [
        (
            |v| v["num_hidden_layers"] = json!(4_000_000_000u32),
            "num_hidden_layers is 4000000000; accepted: 1 to 100000",
        ),
        (
            |v| v["vocab_size"] = json!(4_000_000_000u32),
            "make a model of",
        ),
        (
            |v| {
                for key in ["hidden_size", "intermediate_size", "head_dim"] {
                    v[key] = json!(u32::MAX - 1);
                }
            },
            "accepted: up to",
        ),
    ];
    for (change, expected) in cases {
        let error = parse(|v| {
            v["hidden_size"] = json!(1 << 20);
            v["head_dim"] = json!(64);
            change(v);
        })
        .expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.exit_code(), 2);
    }
}

#[test]
fn what_the_families_classes_pass_over_passes() -> Result<()> {
    let of = |family: &str, change: fn(&mut Value)| {
        parse(|v| {
            v["model_type"] = json!(family);
            v["num_key_value_heads"] = json!(4);
            change(v);
        })
    };
    // An empty way of stretching hides no other.
    let config = of("llama", |v| {
        v["rope_scaling"] = json!({});
        v["rope_parameters"] = json!({"rope_type": "linear", "factor": 4.0});
    })?;
    assert_eq!(
        config.variant.rope_scaling,
        RopeScaling::Linear { factor: 4.0 }
    );
    // No window although one is asked for, and long contexts' chunks.
    let config = of("qwen2", |v| {
        v["use_sliding_window"] = json!(true);
        v["sliding_window"] = Value::Null;
        v["max_window_layers"] = json!(0);
        v["dual_chunk_attention_config"] = json!({"chunk_size": 262_144});
    })?;
    assert_eq!(config.variant.sliding_window, None);
    of("mistral", |v| v["mlp_bias"] = json!(true))?;
    // Left out it is not what null says.
    assert_eq!(of("mistral", |_| {})?.variant.sliding_window, Some(4096));
    let null = of("mistral", |v| v["sliding_window"] = Value::Null)?;
    assert_eq!(null.variant.sliding_window, None);
    let odd = of("llama", |v| {
        v["rope_scaling"] = json!({
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192.5
        });
    });
    let error = odd.expect_err("half a token").to_string();
    assert!(
        error.contains("is 8192.5; accepted: a whole number"),
        "{error}"
    );
    Ok(())
}
