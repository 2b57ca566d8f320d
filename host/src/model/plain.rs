//! The model as one writes it down, on candle's tensors and candle-nn's layers: what the fast passes must compute, for reading and
//! for tests on tiny sizes. One row at a time, no cache, no chunks, no gradients of its own.
//!
//! Legend: T tokens of the row, C channels, F feed-forward, H heads, K key/value heads, D head size, V vocabulary.

use std::collections::HashMap;

use candle_core::{D, DType, Device, IndexOp as _, Tensor};
use candle_nn::{Activation, Embedding, Linear, Module as _, VarBuilder, ops::softmax_last_dim};

use super::CausalLmConfig;
use super::causal_lm::CausalLm;
use super::family::{Field, Width};
use crate::error::Result;
use crate::ops::gated;

/// Logits of the next token at every token of a row, (T, V).
///
/// # Errors
/// A model on a GPU that cannot be copied; what candle refuses.
pub fn logits(model: &CausalLm, ids: &[u32]) -> Result<Tensor> {
    let model = model.merged()?;
    let tensors: HashMap<String, Tensor> = model.weights().tensors()?.into_iter().collect();
    let weights = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
    Plain {
        config: model.config(),
        weights,
    }
    .logits(ids)
}

struct Plain<'a> {
    config: &'a CausalLmConfig,
    weights: VarBuilder<'a>,
}

impl Plain<'_> {
    fn logits(&self, ids: &[u32]) -> Result<Tensor> {
        let (config, variant) = (self.config, &self.config.variant);
        let table = (config.vocab_size, config.hidden_size);
        let embedding = self.weights.get(table, "model.embed_tokens.weight")?;
        let ids = Tensor::new(ids, &Device::Cpu)?;
        let mut x = Embedding::new(embedding.clone(), config.hidden_size).forward(&ids)?; // (T, C)
        if config.family.architecture().scaled_embedding {
            x = (x * (config.hidden_size as f64).sqrt())?;
        }
        x = (x * variant.embedding_multiplier)?;
        for layer in 0..config.num_hidden_layers {
            x = self.layer(layer, &x)?;
        }
        let x = self.norm(
            &x,
            self.weights.get(config.hidden_size, "model.norm.weight")?,
        )?;
        let head = if config.tie_word_embeddings {
            embedding
        } else {
            self.weights.get(table, "lm_head.weight")?
        };
        let logits = (Linear::new(head, None).forward(&x)? / variant.logits_scaling)?;
        capped(logits, variant.final_logit_softcapping)
    }

    /// x (T, C) through a layer.
    fn layer(&self, layer: usize, x: &Tensor) -> Result<Tensor> {
        let norm = |x: &Tensor, field| self.optional_norm(layer, x, field);
        let r = self.config.variant.residual_multiplier;
        let added = self.attention(layer, &norm(x, Field::InputNorm)?)?;
        let x = (x + (norm(&added, Field::AttentionNorm)? * r)?)?;
        let added = self.feed_forward(layer, &norm(&x, Field::FeedForwardNorm)?)?;
        Ok((&x + (norm(&added, Field::LastNorm)? * r)?)?)
    }

    fn attention(&self, layer: usize, x: &Tensor) -> Result<Tensor> {
        let (config, kind) = (self.config, self.config.variant.layer(layer));
        let (heads, kv_heads, size) = (
            config.num_attention_heads,
            config.num_key_value_heads,
            config.head_dim,
        );
        let [q, k, v] = if self.has(Field::QueryKeyValue) {
            let all = self.linear(layer, Field::QueryKeyValue, x)?;
            let part = |first: usize, count: usize| all.narrow(1, first * size, count * size);
            [
                part(0, heads)?,
                part(heads, kv_heads)?,
                part(heads + kv_heads, kv_heads)?,
            ]
        } else {
            [
                self.linear(layer, Field::Query, x)?,
                self.linear(layer, Field::Key, x)?,
                self.linear(layer, Field::Value, x)?,
            ]
        };
        let tokens = x.dim(0)?;
        // Norms of all queries and keys before they are cut into heads, or of each head behind.
        let q = self.optional_norm(layer, &q, Field::QueryNorm(Width::All))?;
        let k = self.optional_norm(layer, &k, Field::KeyNorm(Width::All))?;
        let cut = |x: &Tensor, heads: usize| x.reshape((tokens, heads, size));
        let (q, k, v) = (cut(&q, heads)?, cut(&k, kv_heads)?, cut(&v, kv_heads)?);
        let q = self.optional_norm(layer, &q, Field::QueryNorm(Width::Head))?;
        let k = self.optional_norm(layer, &k, Field::KeyNorm(Width::Head))?;
        let (q, k) = if kind.rotates {
            (
                self.rotated(&q, kind.sliding)?,
                self.rotated(&k, kind.sliding)?,
            )
        } else {
            (q, k)
        };
        let window = config.variant.sliding_window.filter(|_| kind.sliding);
        let mut mixed = Vec::new();
        for head in 0..heads {
            // Query heads share the key/value heads in order.
            let shared = head * kv_heads / heads;
            let (q, k, v) = (q.i((.., head))?, k.i((.., shared))?, v.i((.., shared))?);
            let scores = q.contiguous()?.matmul(&k.t()?.contiguous()?)?; // (T, T)
            let scores = (scores * config.variant.score_scale(size))?;
            let scores = capped(scores, config.variant.attn_logit_softcapping)?;
            let scores = (scores + mask(tokens, window)?)?;
            mixed.push(softmax_last_dim(&scores)?.matmul(&v.contiguous()?)?);
        }
        self.linear(layer, Field::Output, &Tensor::cat(&mixed, 1)?)
    }

    fn feed_forward(&self, layer: usize, x: &Tensor) -> Result<Tensor> {
        let (gate, up) = if self.has(Field::GateUp) {
            let (all, f) = (
                self.linear(layer, Field::GateUp, x)?,
                self.config.intermediate_size,
            );
            (all.narrow(1, 0, f)?, all.narrow(1, f, f)?)
        } else {
            (
                self.linear(layer, Field::Gate, x)?,
                self.linear(layer, Field::Up, x)?,
            )
        };
        let activation = match self.config.family.architecture().activation {
            gated::Activation::Silu => Activation::Silu,
            gated::Activation::GeluTanh => Activation::GeluPytorchTanh,
        };
        self.linear(layer, Field::Down, &(activation.forward(&gate)? * up)?)
    }

    /// Turns the pairs of channels (i, i + D/2) of every head of x (T, heads, D) by position · frequency.
    fn rotated(&self, x: &Tensor, sliding: bool) -> Result<Tensor> {
        let (tokens, _, size) = x.dims3()?;
        let (half, variant) = (size / 2, &self.config.variant);
        let frequencies = match variant.rope_local_base_freq.filter(|_| sliding) {
            Some(theta) => super::RopeScaling::None.frequencies(theta, half),
            None => variant
                .rope_scaling
                .frequencies(self.config.rope_theta, half),
        };
        let positions = 0..tokens;
        let angles: Vec<f64> = positions
            .flat_map(|position| frequencies.of.iter().map(move |f| position as f64 * f))
            .collect();
        let angles = Tensor::from_vec(angles, (tokens, 1, half), &Device::Cpu)?;
        let [cos, sin] = [angles.cos()?, angles.sin()?]
            .map(|it| (it * frequencies.factor).and_then(|it| it.to_dtype(DType::F32)));
        let (cos, sin) = (cos?, sin?);
        let (low, high) = (x.narrow(2, 0, half)?, x.narrow(2, half, half)?);
        let turned_low = (low.broadcast_mul(&cos)? - high.broadcast_mul(&sin)?)?;
        let turned_high = (high.broadcast_mul(&cos)? + low.broadcast_mul(&sin)?)?;
        Ok(Tensor::cat(&[turned_low, turned_high], D::Minus1)?)
    }

    /// x · w / √(mean(x²) + ε) over the last axis.
    fn norm(&self, x: &Tensor, weight: Tensor) -> Result<Tensor> {
        let mean = x.sqr()?.mean_keepdim(D::Minus1)?;
        let normed = x.broadcast_div(&(mean + self.config.rms_norm_eps)?.sqrt()?)?;
        let offset = self.config.family.architecture().norm_offset;
        Ok(normed.broadcast_mul(&(weight + offset)?)?)
    }

    /// The same with a layer's norm, where the family has it.
    fn optional_norm(&self, layer: usize, x: &Tensor, field: Field) -> Result<Tensor> {
        if !self.has(field) {
            return Ok(x.clone());
        }
        let (width, _) = self.config.shape(field);
        self.norm(x, self.module(layer, field).get(width, "weight")?)
    }

    /// A linear map of a layer.
    fn linear(&self, layer: usize, field: Field, x: &Tensor) -> Result<Tensor> {
        let (shape, module) = (self.config.shape(field), self.module(layer, field));
        let bias = if module.contains_tensor("bias") {
            Some(module.get(shape.0, "bias")?)
        } else {
            None
        };
        Ok(Linear::new(module.get(shape, "weight")?, bias).forward(x)?)
    }

    fn has(&self, field: Field) -> bool {
        self.config.family.architecture().module(field).is_some()
    }

    /// The weights of a layer's module.
    fn module(&self, layer: usize, field: Field) -> VarBuilder<'_> {
        let module = self.config.family.architecture().module(field);
        self.weights.pp(format!(
            "model.layers.{layer}.{}",
            module.unwrap_or_default()
        ))
    }
}

/// c · tanh(x / c).
fn capped(x: Tensor, cap: Option<f64>) -> Result<Tensor> {
    Ok(match cap {
        Some(cap) => ((x / cap)?.tanh()? * cap)?,
        None => x,
    })
}

/// 0 where a token sees another, −∞ where it comes later or lies before its window, (T, T).
fn mask(tokens: usize, window: Option<usize>) -> Result<Tensor> {
    let sees = |i: usize, j: usize| j <= i && window.is_none_or(|window| i - j < window);
    let value = |at: usize| {
        if sees(at / tokens, at % tokens) {
            0.0
        } else {
            f32::NEG_INFINITY
        }
    };
    let values: Vec<f32> = (0..tokens * tokens).map(value).collect();
    Ok(Tensor::from_vec(values, (tokens, tokens), &Device::Cpu)?)
}
