//! The parameters of a LLaMA in their fixed order: names as Hugging Face has them, shapes, and how a fresh model draws them.
//! Legend: C channels, F feed-forward, H heads, K key/value heads, D head size, V vocabulary, L layers.

use std::f64::consts::TAU;

use candle_core::{Device, Tensor};
use finegrain_sdk::rng::Stream;
use rand::RngExt as _;

use super::config::LlamaConfig;
use crate::error::Result;

/// How many parameters a layer has; they follow each other in the order of [`specs`].
pub(super) const PER_LAYER: usize = 9;

/// One parameter: its name, its shape and the standard deviation it is drawn with (`None`: all ones, for norms).
pub(super) struct Spec {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    std: Option<f64>,
}

/// All parameters in order: embedding, layers, final norm, and the output head where it is not the embedding.
///
/// A fresh weight of I inputs is drawn with the standard deviation 1/√I, so that every map keeps the scale of what goes in
/// (`LeCun` et al. 1998, section 4.6), whatever the width. The customary 0.02 is that for C = 2500; in a model of 100
/// channels it leaves attention flat and the feed-forward block linear for most of a short training.
pub(super) fn specs(config: &LlamaConfig) -> Vec<Spec> {
    let (c, f) = (config.hidden_size, config.intermediate_size);
    let queries = config.num_attention_heads * config.head_dim;
    let keys = config.num_key_value_heads * config.head_dim;
    // Each layer adds twice to the residual stream. Scaling what is added by 1/√(2L) keeps the stream's variance
    // independent of the depth (GPT-2, section 2.3); transformers' LLaMA does not scale.
    let depth = (2.0 * config.num_hidden_layers as f64).sqrt();
    let fan_in = |inputs: usize| 1.0 / (inputs as f64).sqrt();
    // A row of the table is read as it is: of scale 1, it weighs in the residual stream what a layer adds. As an output
    // head it has C inputs.
    let embedding = if config.tie_word_embeddings {
        fan_in(c)
    } else {
        1.0
    };
    let spec = |name: String, shape: &[usize], std| Spec {
        name,
        shape: shape.to_vec(),
        std,
    };
    let table = [config.vocab_size, c];
    let mut all = vec![spec(
        "model.embed_tokens.weight".into(),
        &table,
        Some(embedding),
    )];
    for layer in 0..config.num_hidden_layers {
        let of_layer: [(&str, &[usize], Option<f64>); PER_LAYER] = [
            ("input_layernorm", &[c], None),
            ("self_attn.q_proj", &[queries, c], Some(fan_in(c))),
            ("self_attn.k_proj", &[keys, c], Some(fan_in(c))),
            ("self_attn.v_proj", &[keys, c], Some(fan_in(c))),
            (
                "self_attn.o_proj",
                &[c, queries],
                Some(fan_in(queries) / depth),
            ),
            ("post_attention_layernorm", &[c], None),
            ("mlp.gate_proj", &[f, c], Some(fan_in(c))),
            ("mlp.up_proj", &[f, c], Some(fan_in(c))),
            ("mlp.down_proj", &[c, f], Some(fan_in(f) / depth)),
        ];
        for (name, shape, std) in of_layer {
            all.push(spec(
                format!("model.layers.{layer}.{name}.weight"),
                shape,
                std,
            ));
        }
    }
    all.push(spec("model.norm.weight".into(), &[c], None));
    if !config.tie_word_embeddings {
        all.push(spec("lm_head.weight".into(), &table, Some(fan_in(c))));
    }
    all
}

impl Spec {
    /// A fresh value. It depends on the seed and the parameter's name alone, so that a model with one more layer
    /// begins with the same first layers (but for the residual scale).
    pub(super) fn draw(&self, stream: &Stream, device: &Device) -> Result<Tensor> {
        let count = self.shape.iter().product();
        let values = match self.std {
            None => vec![1.0; count],
            Some(std) => normal(&stream.child(&self.name), std, count),
        };
        Ok(Tensor::from_vec(values, self.shape.as_slice(), device)?)
    }
}

/// `count` draws from N(0, std²) by Box and Muller's transform.
pub(super) fn normal(stream: &Stream, std: f64, count: usize) -> Vec<f32> {
    let mut rng = stream.rng();
    let mut values = Vec::with_capacity(count + 1);
    while values.len() < count {
        // 1 − u lies in (0, 1]: the logarithm is finite.
        let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt() * std;
        let angle = TAU * rng.random::<f64>();
        values.push((radius * angle.cos()) as f32);
        values.push((radius * angle.sin()) as f32);
    }
    values.truncate(count);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_normal_and_depend_on_the_stream_alone() {
        let values = normal(&Stream::new(1), 0.02, 100_001);
        assert_eq!(values, normal(&Stream::new(1), 0.02, 100_001));
        assert_ne!(values[..9], normal(&Stream::new(2), 0.02, 9)[..]);
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let moment = |k: i32| values.iter().map(|&v| f64::from(v).powi(k)).sum::<f64>() / n;
        // Four standard errors: σ/√n for the mean, σ²√(2/n) for the variance, σ⁴√(96/n) for the fourth moment.
        assert!(mean.abs() < 4.0 * 0.02 / n.sqrt(), "mean {mean}");
        assert!((moment(2) / 4e-4 - 1.0).abs() < 4.0 * (2.0 / n).sqrt());
        assert!((moment(4) / 1.6e-7 - 3.0).abs() < 4.0 * (96.0 / n).sqrt());
    }
}
