//! config.json as it is written by transformers 4 and 5, and which of its values a family may have.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::keys;
use super::rope::{self, Beside, Rope};
use super::{CausalLmConfig, LayerKind, MOST_LAYERS, Variant};
use crate::error::{Error, Result};
use crate::model::family::{Architecture, Biases, Family};
use crate::ops::gated::Activation;

/// The keys that are read. What is left out has the default of transformers' class for the family; that is not what null says,
/// which is why null is told apart where the two differ.
#[derive(Deserialize)]
struct ConfigFile {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    max_position_embeddings: Option<usize>,
    rms_norm_eps: Option<f64>,
    rope_theta: Option<f64>,
    rope_parameters: Option<Map<String, Value>>,
    rope_scaling: Option<Map<String, Value>>,
    tie_word_embeddings: Option<bool>,
    bos_token_id: Option<u32>,
    #[serde(default)]
    eos_token_id: Value,
    hidden_act: Option<String>,
    hidden_activation: Option<String>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    sliding_window: Option<usize>,
    use_sliding_window: Option<bool>,
    max_window_layers: Option<usize>,
    sliding_window_pattern: Option<usize>,
    layer_types: Option<Vec<String>>,
    no_rope_layers: Option<Vec<u8>>,
    no_rope_layer_interval: Option<usize>,
    original_max_position_embeddings: Option<usize>,
    rope_local_base_freq: Option<f64>,
    query_pre_attn_scalar: Option<f64>,
    attn_logit_softcapping: Option<f64>,
    final_logit_softcapping: Option<f64>,
    embedding_multiplier: Option<f64>,
    attention_multiplier: Option<f64>,
    residual_multiplier: Option<f64>,
    logits_scaling: Option<f64>,
}

/// Parses and validates a config.json.
pub(super) fn read(text: &[u8]) -> Result<CausalLmConfig> {
    // As in Python, the last of two equal keys counts.
    let all: Map<String, Value> =
        serde_json::from_slice(text).map_err(|error| Error::input(error.to_string()))?;
    let model_type = all.get("model_type").unwrap_or(&Value::Null);
    let family = model_type.as_str().and_then(Family::of_model_type);
    let Some(family) = family else {
        let error = Error::input(format!(
            "model_type is {model_type}; accepted: {}",
            Family::accepted()
        ));
        return Err(if *model_type == "gemma3" {
            error.hint(
                "Gemma 3 with pictures is not read; its language model alone (gemma3_text) is",
            )
        } else {
            error
        });
    };
    keys::check(&all, family)?;
    // Some writers say null for what they leave out.
    let keys: Map<String, Value> = all
        .iter()
        .filter(|(_, it)| !it.is_null())
        .map(|(key, it)| (key.clone(), it.clone()))
        .collect();
    let file: ConfigFile =
        serde_path_to_error::deserialize(Value::Object(keys)).map_err(|error| {
            let place = error.path().to_string();
            match place.as_str() {
                "." => Error::input(error.inner().to_string()),
                key => Error::input(format!("{key}: {}", error.inner())),
            }
        })?;
    let says = |key: &str| all.contains_key(key);
    Reading {
        file,
        family,
        of: family.architecture(),
        says: &says,
    }
    .config()
}

/// A file on its way to a configuration.
struct Reading<'a> {
    file: ConfigFile,
    family: Family,
    of: &'static Architecture,
    /// Whether the file has a key, null or not.
    says: &'a dyn Fn(&str) -> bool,
}

impl Reading<'_> {
    fn config(&self) -> Result<CausalLmConfig> {
        let (file, defaults) = (&self.file, &self.of.defaults);
        self.check_activation()?;
        self.check_biases()?;
        let max_position_embeddings = file
            .max_position_embeddings
            .unwrap_or(defaults.max_position_embeddings);
        let (full, local) = self.positions(max_position_embeddings)?;
        let layers = self.layers()?;
        let config = CausalLmConfig {
            family: self.family,
            vocab_size: file.vocab_size,
            hidden_size: file.hidden_size,
            intermediate_size: file.intermediate_size,
            num_hidden_layers: file.num_hidden_layers,
            num_attention_heads: file.num_attention_heads,
            num_key_value_heads: match file.num_key_value_heads {
                Some(heads) => heads,
                None if (self.says)("num_key_value_heads") => file.num_attention_heads,
                None => defaults
                    .num_key_value_heads
                    .unwrap_or(file.num_attention_heads),
            },
            head_dim: self.head_dim()?,
            max_position_embeddings,
            rms_norm_eps: file.rms_norm_eps.unwrap_or(defaults.rms_norm_eps),
            rope_theta: full.theta.unwrap_or(defaults.rope_theta),
            tie_word_embeddings: file
                .tie_word_embeddings
                .unwrap_or(defaults.tie_word_embeddings),
            bos_token_id: file.bos_token_id,
            eos_token_id: eos_ids(&file.eos_token_id)?,
            variant: Variant {
                attention_bias: file.attention_bias,
                mlp_bias: file.mlp_bias,
                rope_scaling: full.scaling,
                rope_local_base_freq: local,
                // A window that no layer has says nothing.
                sliding_window: self.window().filter(|_| layers.iter().any(|it| it.sliding)),
                layers,
                query_pre_attn_scalar: self.scalar(),
                ..self.numbers()
            },
        };
        config.validate()?;
        Ok(config)
    }

    /// transformers has two names for `SiLU`, and two for Gemma's GELU; of Gemma, `hidden_act` says nothing.
    fn check_activation(&self) -> Result<()> {
        let (key, found, accepted): (_, _, &[&str]) = match self.of.activation {
            Activation::Silu => ("hidden_act", &self.file.hidden_act, &["silu", "swish"]),
            Activation::GeluTanh => (
                "hidden_activation",
                &self.file.hidden_activation,
                &["gelu_pytorch_tanh", "gelu_new"],
            ),
        };
        match found {
            Some(found) if !accepted.contains(&found.as_str()) => Err(Error::input(format!(
                "{key} is {found:?}; accepted: {:?}",
                accepted[0]
            ))),
            _ => Ok(()),
        }
    }

    /// Biases that the family has no place for.
    fn check_biases(&self) -> Result<()> {
        let biases = self.of.biases;
        let attention = matches!(biases, Biases::Asked | Biases::AskedOfAttention);
        for (key, set, accepted) in [
            ("attention_bias", self.file.attention_bias, attention),
            ("mlp_bias", self.file.mlp_bias, biases == Biases::Asked),
        ] {
            let accepted = accepted || keys::of_no_effect(self.family).contains(&key);
            if set && !accepted {
                return Err(Error::input(format!("{key} is true; accepted: false")));
            }
        }
        Ok(())
    }

    fn head_dim(&self) -> Result<usize> {
        let file = &self.file;
        if let Some(size) = file.head_dim.or(self.of.defaults.head_dim) {
            return Ok(size);
        }
        if file.num_attention_heads == 0
            || !file.hidden_size.is_multiple_of(file.num_attention_heads)
        {
            return Err(Error::input(format!(
                "hidden_size is {} and num_attention_heads is {}; accepted: a multiple, or head_dim beside them",
                file.hidden_size, file.num_attention_heads
            )));
        }
        Ok(file.hidden_size / file.num_attention_heads)
    }

    /// The rotation of layers that see everything, and the base of those with a window where they have their own.
    fn positions(&self, max_position_embeddings: usize) -> Result<(Rope, Option<f64>)> {
        let file = &self.file;
        let phi = self.family == Family::Phi3;
        let beside = Beside {
            max_position_embeddings,
            original: file
                .original_max_position_embeddings
                .or(phi.then_some(4096)),
            long: phi,
        };
        let read = |name: &str, keys: Option<&Map<String, Value>>| match keys {
            // An empty one says nothing, and hides nothing.
            Some(keys) if keys.is_empty() => Ok(None),
            Some(keys) => rope::read(name, keys, beside).map(Some),
            None => Ok(None),
        };
        let scaling = read("rope_scaling", file.rope_scaling.as_ref())?;
        if self.family == Family::Gemma3 {
            let part = |name: &str| -> Result<Option<Rope>> {
                let of = file.rope_parameters.as_ref().and_then(|all| all.get(name));
                let full = format!("rope_parameters.{name}");
                read(&full, of.and_then(Value::as_object))
            };
            let flat = file.rope_parameters.as_ref().and_then(|all| {
                all.keys()
                    .find(|key| !["full_attention", "sliding_attention"].contains(&key.as_str()))
            });
            if let Some(key) = flat {
                return Err(Error::input(format!(
                    "rope_parameters.{key}: accepted: full_attention and sliding_attention, each with keys of its own"
                )));
            }
            let (full, local) = (part("full_attention")?, part("sliding_attention")?);
            if let Some(Rope { scaling, .. }) = &local
                && *scaling != super::RopeScaling::None
            {
                return Err(Error::input(
                    "rope_parameters.sliding_attention stretches positions; accepted: the type \"default\"",
                ));
            }
            let theta = full
                .as_ref()
                .and_then(|rope| rope.theta)
                .or(file.rope_theta);
            let base = local.and_then(|rope| rope.theta);
            let base = base.or(file.rope_local_base_freq).unwrap_or(10_000.0);
            let scaling = scaling.or(full).unwrap_or_default().scaling;
            return Ok((Rope { theta, scaling }, Some(base)));
        }
        let parameters = read("rope_parameters", file.rope_parameters.as_ref())?;
        // transformers 5 reads no `rope_parameters` beside a `rope_scaling` but for the base.
        let theta = [&scaling, &parameters]
            .into_iter()
            .find_map(|rope| rope.as_ref().and_then(|rope| rope.theta));
        let scaling = scaling.or(parameters).unwrap_or_default().scaling;
        Ok((
            Rope {
                theta: theta.or(file.rope_theta),
                scaling,
            },
            None,
        ))
    }

    /// The window of the layers that have one.
    fn window(&self) -> Option<usize> {
        let file = &self.file;
        if !self.of.keys.contains(&"sliding_window") || file.sliding_window == Some(0) {
            return None;
        }
        match file.sliding_window {
            None if (self.says)("sliding_window") => None,
            None => self.of.defaults.sliding_window,
            window => window,
        }
    }

    fn slides(&self) -> bool {
        self.file.use_sliding_window.unwrap_or(false)
    }

    /// What each layer does; empty where all see everything and rotate.
    fn layers(&self) -> Result<Vec<LayerKind>> {
        let (file, window) = (&self.file, self.window());
        let pattern = match file.sliding_window_pattern {
            Some(0) => {
                return Err(Error::input(
                    "sliding_window_pattern is 0; accepted: at least 1",
                ));
            }
            pattern => pattern.unwrap_or(6),
        };
        let interval = match file.no_rope_layer_interval {
            Some(0) => {
                return Err(Error::input(
                    "no_rope_layer_interval is 0; accepted: at least 1",
                ));
            }
            interval => interval.unwrap_or(4),
        };
        let rotates = |index: usize| match (self.family, &file.no_rope_layers) {
            // The name notwithstanding, 1 says that the layer does rotate.
            (Family::SmolLm3, Some(rotates)) => rotates.get(index).is_none_or(|&it| it != 0),
            (Family::SmolLm3, None) => !(index + 1).is_multiple_of(interval),
            _ => true,
        };
        let named = self.named_layers()?;
        let sliding = |index: usize| match (&named, self.family) {
            (Some(kinds), _) => kinds.get(index).copied().unwrap_or(false),
            (None, Family::Mistral | Family::Phi3) => window.is_some(),
            (None, Family::Qwen2 | Family::Qwen3) => {
                self.slides() && window.is_some() && index >= file.max_window_layers.unwrap_or(28)
            }
            (None, Family::SmolLm3) => self.slides() && window.is_some() && !rotates(index),
            (None, Family::Gemma2) => !(index + 1).is_multiple_of(2),
            (None, Family::Gemma3) => !(index + 1).is_multiple_of(pattern),
            _ => false,
        };
        if let (Family::SmolLm3, Some(listed)) = (self.family, &file.no_rope_layers)
            && listed.len() < file.num_hidden_layers
        {
            return Err(Error::input(format!(
                "no_rope_layers has {} numbers and num_hidden_layers is {}; accepted: one for each layer, or no such key",
                listed.len(),
                file.num_hidden_layers
            )));
        }
        // Those are refused by their number, when the sizes are checked.
        if file.num_hidden_layers > MOST_LAYERS {
            return Ok(Vec::new());
        }
        let kinds: Vec<_> = (0..file.num_hidden_layers)
            .map(|index| LayerKind {
                sliding: sliding(index),
                rotates: rotates(index),
            })
            .collect();
        let plain = kinds.iter().all(|kind| *kind == LayerKind::default());
        Ok(if plain { Vec::new() } else { kinds })
    }

    /// Which layers have the window, where `layer_types` says so.
    fn named_layers(&self) -> Result<Option<Vec<bool>>> {
        let named = self.file.layer_types.as_ref();
        let Some(named) = named.filter(|_| self.of.keys.contains(&"layer_types")) else {
            return Ok(None);
        };
        // All layers of a Mistral are alike.
        if self.family == Family::Mistral {
            return Ok(None);
        }
        if named.len() != self.file.num_hidden_layers {
            return Err(Error::input(format!(
                "layer_types names {} layers and num_hidden_layers is {}; accepted: the same",
                named.len(),
                self.file.num_hidden_layers
            )));
        }
        let kinds = named.iter().map(|kind| match kind.as_str() {
            "full_attention" => Ok(false),
            "sliding_attention" => Ok(true),
            other => Err(Error::input(format!(
                "layer_types holds {other:?}; accepted: \"full_attention\", \"sliding_attention\""
            ))),
        });
        kinds.collect::<Result<_>>().map(Some)
    }

    fn scalar(&self) -> Option<f64> {
        let read = self.of.keys.contains(&"query_pre_attn_scalar");
        read.then(|| self.file.query_pre_attn_scalar.unwrap_or(256.0))
    }

    /// Multipliers and caps, of the families that have them.
    fn numbers(&self) -> Variant {
        let file = &self.file;
        let cap = |key: &str, found: Option<f64>, usual: f64| match found {
            Some(cap) => Some(cap),
            None if self.family == Family::Gemma2 && !(self.says)(key) => Some(usual),
            None => None,
        };
        let granite = self.family == Family::Granite;
        // transformers' Gemma 3 has the key and does not look at it.
        let attention = self.family == Family::Gemma2;
        let scores = cap("attn_logit_softcapping", file.attn_logit_softcapping, 50.0);
        let logits = cap(
            "final_logit_softcapping",
            file.final_logit_softcapping,
            30.0,
        );
        let caps = self.of.keys.contains(&"final_logit_softcapping");
        let or_1 = |value: Option<f64>| value.filter(|_| granite).unwrap_or(1.0);
        Variant {
            attention_multiplier: granite.then(|| or_1(file.attention_multiplier)),
            attn_logit_softcapping: scores.filter(|_| attention),
            final_logit_softcapping: logits.filter(|_| caps),
            embedding_multiplier: or_1(file.embedding_multiplier),
            residual_multiplier: or_1(file.residual_multiplier),
            logits_scaling: or_1(file.logits_scaling),
            ..Variant::default()
        }
    }
}

/// None, one id or a list of ids.
pub(super) fn eos_ids(value: &Value) -> Result<Vec<u32>> {
    let items = match value {
        Value::Null => &[],
        Value::Array(items) => items.as_slice(),
        single => std::slice::from_ref(single),
    };
    items
        .iter()
        .map(|item| item.as_u64().and_then(|id| u32::try_from(id).ok()))
        .collect::<Option<Vec<u32>>>()
        .ok_or_else(|| {
            Error::input(format!(
                "eos_token_id is {value}; accepted: a token id, a list of token ids, or null"
            ))
        })
}
