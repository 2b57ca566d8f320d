//! GGUF's metadata as a configuration. Keys begin with the architecture's name; what is left out has llama.cpp's default.

use candle_core::Device;

use crate::data::gguf::Gguf;
use crate::error::Result;
use crate::model::config::{CausalLmConfig, LayerKind, MOST_LAYERS, RopeScaling, Variant};
use crate::model::family::{Biases, Family};

/// The embedding table and the output head there.
const TABLE_THERE: &str = "token_embd.weight";
const HEAD_THERE: &str = "output.weight";

/// A file's metadata below the name of its architecture.
struct Keys<'a> {
    gguf: &'a Gguf,
    architecture: &'a str,
}

impl Keys<'_> {
    fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    fn count(&self, key: &str) -> Result<Option<usize>> {
        self.gguf.count(&self.name(key))
    }

    fn real(&self, key: &str) -> Result<Option<f64>> {
        self.gguf.real(&self.name(key))
    }

    fn needed<T>(&self, key: &str, value: Option<T>) -> Result<T> {
        self.gguf.required(&self.name(key), value)
    }

    fn size(&self, key: &str) -> Result<usize> {
        self.needed(key, self.count(key)?)
    }

    /// A number that may be given layer by layer, where all layers agree.
    fn uniform(&self, key: &str) -> Result<Option<usize>> {
        let key = self.name(key);
        let Some(values) = self.gguf.counts(&key)? else {
            return Ok(None);
        };
        match values.as_slice() {
            [first, rest @ ..] if rest.iter().all(|value| value == first) => Ok(Some(*first)),
            _ => Err(self.gguf.refused(format!(
                "{key} is {values:?}; accepted: the same for all layers"
            ))),
        }
    }
}

/// Reads a file's metadata.
pub(super) fn read(gguf: &Gguf) -> Result<CausalLmConfig> {
    check_kind(gguf)?;
    let key = "general.architecture";
    let architecture = gguf.required(key, gguf.text(key)?)?;
    // Mistral's files say llama, and have no window.
    let mut families = Family::ALL.into_iter();
    let family = families.find(|family| family.architecture().gguf.architecture == architecture);
    let Some(family) = family else {
        let names = Family::ALL.map(|family| family.architecture().gguf.architecture);
        let mut names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
        names.dedup();
        return Err(gguf.refused(format!(
            "{key} is {architecture:?}; accepted: {}",
            names.join(", ")
        )));
    };
    let keys = Keys { gguf, architecture };
    check_variant(&keys, family)?;
    let hidden_size = keys.size("embedding_length")?;
    let num_hidden_layers = keys.size("block_count")?;
    let heads = keys.uniform("attention.head_count")?;
    let num_attention_heads = keys.needed("attention.head_count", heads)?;
    let feed_forward = keys.uniform("feed_forward_length")?;
    let head_dim = head_dim(&keys, hidden_size, num_attention_heads)?;
    let table = gguf
        .shape(TABLE_THERE)
        .ok_or_else(|| gguf.refused(format!("there is no tensor {TABLE_THERE:?}")))?;
    let max_position_embeddings = keys.size("context_length")?;
    let mut config = CausalLmConfig {
        family,
        vocab_size: *table
            .first()
            .ok_or_else(|| gguf.refused(format!("tensor {TABLE_THERE:?} has no dimensions")))?,
        hidden_size,
        intermediate_size: keys.needed("feed_forward_length", feed_forward)?,
        num_hidden_layers,
        num_attention_heads,
        num_key_value_heads: keys
            .uniform("attention.head_count_kv")?
            .unwrap_or(num_attention_heads),
        head_dim,
        max_position_embeddings,
        rms_norm_eps: {
            let key = "attention.layer_norm_rms_epsilon";
            keys.needed(key, keys.real(key)?)?
        },
        rope_theta: keys.real("rope.freq_base")?.unwrap_or(10_000.0),
        tie_word_embeddings: gguf.shape(HEAD_THERE).is_none(),
        bos_token_id: token_id(gguf, "bos")?,
        eos_token_id: ends(gguf)?,
        variant: Variant::default(),
    };
    config.variant = variant(&keys, &config)?;
    Ok(config)
}

fn check_kind(gguf: &Gguf) -> Result<()> {
    let key = "general.type";
    if let Some(kind) = gguf.text(key)?.filter(|kind| *kind != "model") {
        return Err(gguf
            .refused(format!(
                "{key} is {kind:?}: the file holds {} and no model; accepted: \"model\"",
                if kind == "adapter" { "an adapter" } else { "something else" }
            ))
            .hint(
                "adapters are read as PEFT writes them (adapter_config.json and adapter_model.safetensors); llama-export-lora merges \
                 one of this kind into its model",
            ));
    }
    let key = "split.count";
    if let Some(count) = gguf.count(key)?.filter(|count| *count > 1) {
        return Err(gguf
            .refused(format!("{key} is {count}; accepted: 1"))
            .hint("join the parts with llama-gguf-split --merge"));
    }
    Ok(())
}

fn head_dim(keys: &Keys<'_>, hidden_size: usize, heads: usize) -> Result<usize> {
    let found = match keys.count("attention.key_length")? {
        Some(size) => size,
        None if heads > 0 && hidden_size.is_multiple_of(heads) => hidden_size / heads,
        None => {
            let [embedding, count, length] = [
                "embedding_length",
                "attention.head_count",
                "attention.key_length",
            ]
            .map(|key| keys.name(key));
            return Err(keys.gguf.refused(format!(
                "{embedding} is {hidden_size} and {count} is {heads}; accepted: a multiple, or {length} beside them"
            )));
        }
    };
    for key in ["attention.value_length", "rope.dimension_count"] {
        if let Some(other) = keys.count(key)?.filter(|other| *other != found) {
            let key = keys.name(key);
            return Err(keys.gguf.refused(format!(
                "{key} is {other}; accepted: the head size, which is {found}"
            )));
        }
    }
    Ok(found)
}

/// What the model does beyond its sizes. Much of it llama.cpp takes for granted and stores nowhere.
fn variant(keys: &Keys<'_>, config: &CausalLmConfig) -> Result<Variant> {
    let (gguf, family, layers) = (keys.gguf, config.family, config.num_hidden_layers);
    let there = |name: &str| gguf.shape(name).is_some();
    let biases = family.architecture().biases;
    let asked = matches!(biases, Biases::Asked | Biases::AskedOfAttention);
    let window = keys
        .count("attention.sliding_window")?
        .filter(|window| *window > 0);
    // gemma.cpp of llama.cpp: the 27B models divide by another number.
    let scalar = |of_27b: usize| {
        if layers == of_27b {
            config.hidden_size as f64 / config.num_attention_heads as f64
        } else {
            config.head_dim as f64
        }
    };
    let kinds =
        |kind: &dyn Fn(usize) -> LayerKind| (0..layers.min(MOST_LAYERS)).map(kind).collect();
    let sliding = |sliding: bool| LayerKind {
        sliding,
        ..LayerKind::default()
    };
    let one =
        |key: &str| -> Result<f64> { Ok(keys.real(key)?.filter(|it| *it != 0.0).unwrap_or(1.0)) };
    let plain = Variant {
        attention_bias: asked && there("blk.0.attn_q.bias"),
        mlp_bias: biases == Biases::Asked && there("blk.0.ffn_up.bias"),
        rope_scaling: scaling(keys, config)?,
        ..Variant::default()
    };
    Ok(match family {
        Family::SmolLm3 => Variant {
            layers: kinds(&|layer| LayerKind {
                rotates: (layer + 1) % 4 != 0,
                ..LayerKind::default()
            }),
            ..plain
        },
        // llama.cpp switches the window off, with a warning; the model was trained with it.
        Family::Phi3 => Variant {
            layers: window.map_or_else(Vec::new, |_| kinds(&|_| sliding(true))),
            sliding_window: window,
            ..plain
        },
        Family::Gemma2 => Variant {
            layers: kinds(&|layer| sliding(layer % 2 == 0)),
            sliding_window: window.or(Some(4096)),
            query_pre_attn_scalar: Some(scalar(46)),
            attn_logit_softcapping: keys.real("attn_logit_softcapping")?.or(Some(50.0)),
            final_logit_softcapping: keys.real("final_logit_softcapping")?.or(Some(30.0)),
            ..plain
        },
        Family::Gemma3 => {
            let pattern = keys
                .count("attention.sliding_window_pattern")?
                .filter(|pattern| *pattern > 0)
                .unwrap_or(6);
            let caps = keys.real("final_logit_softcapping")?;
            Variant {
                layers: match window {
                    Some(_) => kinds(&|layer| sliding((layer + 1) % pattern != 0)),
                    None => Vec::new(),
                },
                sliding_window: window,
                rope_local_base_freq: Some(keys.real("rope.freq_base_swa")?.unwrap_or(10_000.0)),
                query_pre_attn_scalar: Some(scalar(62)),
                final_logit_softcapping: caps.filter(|cap| *cap > 0.0),
                ..plain
            }
        }
        Family::Granite => Variant {
            attention_multiplier: keys.real("attention.scale")?.filter(|scale| *scale != 0.0),
            embedding_multiplier: one("embedding_scale")?,
            residual_multiplier: one("residual_scale")?,
            // llama.cpp does not load a file without it either.
            logits_scaling: keys.needed("logit_scale", keys.real("logit_scale")?)?,
            ..plain
        },
        _ => plain,
    })
}

/// How positions are stretched: by a factor in the metadata, or by a tensor of divisors.
fn scaling(keys: &Keys<'_>, config: &CausalLmConfig) -> Result<RopeScaling> {
    let (gguf, half) = (keys.gguf, config.head_dim / 2);
    let divisors = |name: &str| -> Result<Option<Vec<f64>>> {
        if gguf.shape(name).is_none() {
            return Ok(None);
        }
        let values = gguf.tensor(name, &Device::Cpu)?.flatten_all()?;
        let values: Vec<f32> = values.to_vec1()?;
        if values.len() != half {
            return Err(gguf.refused(format!(
                "tensor {name:?} has {} numbers; accepted: {half}, half of the head size",
                values.len()
            )));
        }
        Ok(Some(values.into_iter().map(f64::from).collect()))
    };
    let original = keys
        .count("rope.scaling.original_context_length")?
        .unwrap_or(config.max_position_embeddings);
    let short = divisors("rope_factors_short.weight")?;
    let long = divisors("rope_factors_long.weight")?;
    if let (Some(short_factor), Some(long_factor)) = (short, long) {
        return Ok(RopeScaling::LongRope {
            short_factor,
            long_factor,
            attention_factor: keys.real("rope.scaling.attn_factor")?.unwrap_or(1.0),
            original,
        });
    }
    // llama.cpp does not look at these in models with layers that do not rotate.
    let factors = divisors("rope_freqs.weight")?
        .filter(|_| config.family != Family::SmolLm3)
        .filter(|factors| factors.iter().any(|factor| *factor != 1.0));
    if let Some(factors) = factors {
        return Ok(RopeScaling::LongRope {
            short_factor: factors.clone(),
            long_factor: factors,
            attention_factor: 1.0,
            original: config.max_position_embeddings,
        });
    }
    let kind = gguf.text(&keys.name("rope.scaling.type"))?;
    let factor = match keys.real("rope.scaling.factor")? {
        Some(factor) => Some(factor),
        None => keys.real("rope.scale_linear")?,
    };
    let factor = factor.filter(|factor| *factor != 0.0 && *factor != 1.0);
    match (kind, factor) {
        (Some("none"), _) | (None | Some("linear"), None) => Ok(RopeScaling::None),
        (None | Some("linear"), Some(factor)) => Ok(RopeScaling::Linear { factor }),
        (Some(kind), _) => Err(gguf
            .refused(format!(
                "{} is {kind:?}; accepted: \"none\", \"linear\"",
                keys.name("rope.scaling.type")
            ))
            .hint(
                "other ways of stretching positions are not supported; use a model without them",
            )),
    }
}

/// The id of the token that begins a text (`bos`), ends it (`eos`) or ends a turn (`eot`).
fn token_id(gguf: &Gguf, kind: &str) -> Result<Option<u32>> {
    let id = gguf.count(&format!("tokenizer.ggml.{kind}_token_id"))?;
    Ok(id.and_then(|id| u32::try_from(id).ok()))
}

/// All tokens that end a response, each once.
fn ends(gguf: &Gguf) -> Result<Vec<u32>> {
    let named = [token_id(gguf, "eos")?, token_id(gguf, "eot")?];
    // Some writers list further ones.
    let listed = gguf.counts("tokenizer.ggml.eos_token_ids")?;
    let listed = listed.unwrap_or_default().into_iter();
    let listed = listed.filter_map(|id| u32::try_from(id).ok());
    let mut ids = Vec::new();
    for id in named.into_iter().flatten().chain(listed) {
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// Refuses models that use the name of an architecture for more than it is here.
fn check_variant(keys: &Keys<'_>, family: Family) -> Result<()> {
    let gguf = keys.gguf;
    let windows = matches!(family, Family::Gemma2 | Family::Gemma3 | Family::Phi3);
    let counts = [
        (
            "expert_count",
            "mixtures of experts are not supported",
            true,
        ),
        (
            "attention.sliding_window",
            "llama.cpp gives this architecture no window, or another model has the name; take the Hugging Face folder",
            !windows,
        ),
    ];
    for (key, hint, refused) in counts {
        if let Some(found) = keys.count(key)?.filter(|found| refused && *found > 0) {
            return Err(gguf
                .refused(format!(
                    "{} is {found}; accepted: 0, or none",
                    keys.name(key)
                ))
                .hint(hint));
        }
    }
    if family == Family::Granite {
        // There, and there alone, it says that positions are not rotated at all.
        let key = keys.name("rope.scaling.finetuned");
        if gguf.flag(&key)? == Some(false) {
            return Err(gguf.refused(format!(
                "{key} is false; accepted: true, or no such key, because the models of the family rotate"
            )));
        }
        return Ok(());
    }
    for key in [
        "attention.scale",
        "logit_scale",
        "residual_scale",
        "embedding_scale",
    ] {
        if let Some(found) = keys.real(key)? {
            let key = keys.name(key);
            return Err(gguf.refused(format!("{key} is {found}; accepted: no such key")));
        }
    }
    Ok(())
}
