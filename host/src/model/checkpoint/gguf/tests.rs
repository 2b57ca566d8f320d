//! GGUF files of the small fixture, written with candle and reordered here row by row after the formula.

use std::fs::File;

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};

use super::*;
use crate::model::{CausalLm, fixture};

type Metadata = Vec<(&'static str, Value)>;
type Weights = Vec<(String, Tensor)>;

/// What llama.cpp's converter writes of the fixture.
fn converted(model: &CausalLm) -> Result<(Metadata, Weights)> {
    let config = model.config();
    let number = |size: usize| Value::U32(size as u32);
    let metadata = vec![
        ("general.architecture", Value::String("llama".into())),
        ("llama.block_count", number(config.num_hidden_layers)),
        (
            "llama.context_length",
            number(config.max_position_embeddings),
        ),
        ("llama.embedding_length", number(config.hidden_size)),
        (
            "llama.feed_forward_length",
            number(config.intermediate_size),
        ),
        (
            "llama.attention.head_count",
            number(config.num_attention_heads),
        ),
        (
            "llama.attention.head_count_kv",
            number(config.num_key_value_heads),
        ),
        ("llama.attention.key_length", number(config.head_dim)),
        ("llama.attention.value_length", number(config.head_dim)),
        ("llama.rope.dimension_count", number(config.head_dim)),
        (
            "llama.attention.layer_norm_rms_epsilon",
            Value::F32(config.rms_norm_eps as f32),
        ),
        ("llama.rope.freq_base", Value::F32(config.rope_theta as f32)),
        ("tokenizer.ggml.bos_token_id", Value::U32(1)),
        ("tokenizer.ggml.eos_token_id", Value::U32(2)),
    ];
    let weights = model
        .weights()
        .tensors()?
        .into_iter()
        .map(|(name, tensor)| {
            let name = stored(config)[&name].name.clone();
            let heads = match name.rsplit_once('.').map(|(start, _)| start) {
                Some(start) if start.ends_with("attn_q") => config.num_attention_heads,
                Some(start) if start.ends_with("attn_k") => config.num_key_value_heads,
                _ => return Ok((name, tensor.detach())),
            };
            let (rows, half) = (tensor.to_vec2::<f32>()?, config.head_dim / 2);
            let mut there = vec![Vec::new(); rows.len()];
            for h in 0..heads {
                for j in 0..half {
                    for s in 0..2 {
                        there[h * config.head_dim + 2 * j + s]
                            .clone_from(&rows[h * config.head_dim + s * half + j]);
                    }
                }
            }
            Ok((name, Tensor::new(there, &Device::Cpu)?))
        });
    Ok((metadata, weights.collect::<Result<_>>()?))
}

fn written(metadata: &Metadata, weights: &Weights) -> Result<tempfile::NamedTempFile> {
    let file = tempfile::Builder::new()
        .suffix(".gguf")
        .tempfile()
        .expect("a file");
    let stored = weights
        .iter()
        .map(|(name, tensor)| Ok((name.as_str(), QTensor::quantize(tensor, GgmlDType::F32)?)))
        .collect::<Result<Vec<_>>>()?;
    let tensors: Vec<_> = stored
        .iter()
        .map(|(name, tensor)| (*name, tensor))
        .collect();
    let metadata: Vec<_> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let mut out = File::create(file.path()).expect("created");
    gguf_file::write(&mut out, &metadata, &tensors)?;
    Ok(file)
}

#[test]
fn what_a_converter_writes_reads_back_to_the_bit() -> Result<()> {
    for tied in [false, true] {
        let model = fixture::model(tied)?;
        let (metadata, weights) = converted(&model)?;
        let file = written(&metadata, &weights)?;
        let again = CausalLm::load(file.path())?;
        assert_eq!(again.config(), model.config());
        for ((name, read), (_, kept)) in again
            .weights()
            .tensors()?
            .iter()
            .zip(model.weights().tensors()?)
        {
            let values = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<f32>();
            assert_eq!(values(read)?, values(&kept)?, "{name}");
        }
    }
    Ok(())
}

#[test]
fn left_out_metadata_have_llama_cpps_defaults_and_all_ends_are_kept() -> Result<()> {
    let model = fixture::model(true)?;
    let (mut metadata, weights) = converted(&model)?;
    metadata.retain(|(key, _)| !key.ends_with("freq_base"));
    metadata.push(("tokenizer.ggml.eot_token_id", Value::U32(5)));
    let more = vec![Value::I32(7), Value::I32(2)];
    metadata.push(("tokenizer.ggml.eos_token_ids", Value::Array(more)));
    metadata.push(("llama.rope.scaling.type", Value::String("none".into())));
    let mut weights_and_factors = weights;
    let ones = Tensor::ones(3, candle_core::DType::F32, &Device::Cpu)?;
    weights_and_factors.push((ROPE_FACTORS[0].to_owned(), ones));
    let file = written(&metadata, &weights_and_factors)?;
    let config = CausalLm::load(file.path())?.config().clone();
    assert_eq!(
        (config.rope_theta, config.eos_token_id),
        (10_000.0, vec![2, 5, 7])
    );
    Ok(())
}

#[test]
fn what_is_no_plain_llama_is_refused_by_key() -> Result<()> {
    let model = fixture::model(false)?;
    let (metadata, weights) = converted(&model)?;
    let refused = |key: &'static str, value: Option<Value>, words: &[&str]| -> Result<()> {
        let mut metadata = metadata.clone();
        metadata.retain(|(known, _)| *known != key);
        metadata.extend(value.map(|value| (key, value)));
        let file = written(&metadata, &weights)?;
        let error = CausalLm::load(file.path()).expect_err(key);
        let text = error.to_string();
        assert_eq!(error.exit_code(), 2, "{text}");
        for word in words.iter().chain(&[".gguf"]) {
            assert!(text.contains(word), "{key}: no {word:?} in {text}");
        }
        Ok(())
    };
    let text = |text: &str| Some(Value::String(text.into()));
    refused(
        "general.architecture",
        text("mamba"),
        &["\"mamba\"", "accepted: \"llama\", \"qwen2\", \"qwen3\""],
    )?;
    refused(
        "general.type",
        text("adapter"),
        &[
            "general.type is \"adapter\"",
            "holds an adapter and no model",
        ],
    )?;
    refused("llama.block_count", None, &["no llama.block_count"])?;
    refused(
        "llama.block_count",
        Some(Value::I32(-1)),
        &["llama.block_count", "at least 0"],
    )?;
    refused(
        "llama.rope.scaling.type",
        text("yarn"),
        &["\"yarn\"", "accepted: \"none\", \"linear\""],
    )?;
    refused("llama.attention.scale", Some(Value::F32(4.0)), &["is 4"])?;
    refused(
        "llama.expert_count",
        Some(Value::U32(8)),
        &["llama.expert_count is 8"],
    )?;
    refused(
        "llama.rope.dimension_count",
        Some(Value::U32(4)),
        &["is 4", "head size, which is 6"],
    )?;
    refused(
        "llama.attention.head_count",
        Some(Value::U32(0)),
        &["num_attention_heads is 0"],
    )?;
    refused(
        "llama.embedding_length",
        Some(Value::U32(16)),
        &["[11, 12]", "[11, 16]"],
    )?;
    let layers = Value::Array(vec![Value::U32(2), Value::U32(1)]);
    refused(
        "llama.attention.head_count_kv",
        Some(layers),
        &["[2, 1]", "the same for all layers"],
    )?;
    refused(
        "llama.attention.sliding_window",
        Some(Value::U32(16)),
        &["sliding_window is 16"],
    )?;
    Ok(())
}

#[test]
fn tensors_that_a_plain_llama_lacks_or_needs_are_named() -> Result<()> {
    let model = fixture::model(false)?;
    let (metadata, weights) = converted(&model)?;
    let load = |weights: &Weights| -> Result<String> {
        let file = written(&metadata, weights)?;
        let error = CausalLm::load(file.path()).err();
        Ok(error.expect("refused").to_string())
    };
    let with = |name: &str, values: &[f32]| -> Result<String> {
        let mut weights = weights.clone();
        weights.push((name.to_owned(), Tensor::new(values, &Device::Cpu)?));
        load(&weights)
    };
    let text = with("blk.0.attn_q_norm.weight", &[0.0; 6])?;
    assert!(
        text.contains("blk.0.attn_q_norm.weight") && text.contains("family llama"),
        "{text}"
    );
    let text = with(ROPE_FACTORS[0], &[1.0, 8.0])?;
    assert!(text.contains("has 2 numbers; accepted: 3"), "{text}");
    let mut fewer = weights.clone();
    fewer.retain(|(name, _)| name != "blk.1.ffn_up.weight");
    let text = load(&fewer)?;
    assert!(text.contains("model.layers.1.mlp.up_proj.weight"), "{text}");
    fewer.retain(|(name, _)| name != "token_embd.weight");
    let text = load(&fewer)?;
    assert!(text.contains("token_embd.weight"), "{text}");
    Ok(())
}

#[test]
fn a_file_that_is_not_gguf_or_ends_early_is_wrong_input() -> Result<()> {
    let model = fixture::model(true)?;
    let (metadata, weights) = converted(&model)?;
    let file = written(&metadata, &weights)?;
    let bytes = std::fs::read(file.path()).expect("read");
    for short in [0, 3, 40, bytes.len() / 2, bytes.len() - 40] {
        std::fs::write(file.path(), &bytes[..short]).expect("written");
        let error = CausalLm::load(file.path()).expect_err("refused");
        assert_eq!(error.exit_code(), 2, "{short}: {error}");
    }
    std::fs::write(file.path(), &bytes[..bytes.len() - 40]).expect("written");
    let error = CausalLm::load(file.path()).expect_err("refused");
    let words = format!(
        "has {} bytes, and its tensors reach to byte",
        bytes.len() - 40
    );
    assert!(error.to_string().contains(&words), "{error}");
    std::fs::write(file.path(), b"not a model at all, but long enough").expect("written");
    let error = CausalLm::load(file.path()).expect_err("refused");
    assert!(error.to_string().contains("not a GGUF"), "{error}");
    Ok(())
}
