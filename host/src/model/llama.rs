//! LLaMA (Touvron et al. 2023, arXiv:2302.13971) over ragged batches.
//!
//! ```text
//! x ← E[ids]
//! per layer, with x̂ the RMS norm of x:
//!   x ← x + W_o · attention(rope(W_q x̂), rope(W_k x̂), W_v x̂)
//!   x ← x + W_down · swiglu(W_gate x̂, W_up x̂)
//! hidden = RMS norm of x
//! ```
//! Only the attention knows where a row ends, so there is no padding.
//!
//! Legend: N tokens of the batch, M response tokens, C channels, H heads, K key/value heads, D head size, V vocabulary.

use std::path::Path;

use candle_core::{Device, Tensor, Var};
use finegrain_sdk::rng::Stream;

use super::checkpoint::{self, Checkpoint};
use super::config::LlamaConfig;
use super::parameters::{self, PER_LAYER};
use crate::data::ragged::TokenBatch;
use crate::error::{Error, Result};
use crate::ops::{self, LogProbs};

/// A LLaMA model with f32 parameters.
pub struct Llama {
    config: LlamaConfig,
    /// In the order of `parameters::specs`; the variables' own tensors, or detached ones in a frozen model.
    tensors: Vec<Tensor>,
    /// Empty in a frozen model.
    variables: Vec<Var>,
}

/// The parameters of one layer.
struct Layer<'a> {
    input_norm: &'a Tensor,
    query: &'a Tensor,
    key: &'a Tensor,
    value: &'a Tensor,
    output: &'a Tensor,
    post_norm: &'a Tensor,
    gate: &'a Tensor,
    up: &'a Tensor,
    down: &'a Tensor,
}

impl Llama {
    /// A fresh model: weights from N(0, 1/inputs) (an embedding that is not the output head from N(0, 1)), the two projections into the residual stream scaled by 1/√(2L), norms 1.
    pub fn new(config: LlamaConfig, stream: &Stream, device: &Device) -> Result<Self> {
        config.validate()?;
        let tensors = parameters::specs(&config)
            .iter()
            .map(|spec| spec.draw(stream, device))
            .collect::<Result<Vec<_>>>()?;
        Self::trainable(config, &tensors)
    }

    /// Loads a Hugging Face folder or a .gguf file; half-precision and quantised weights become f32.
    ///
    /// # Errors
    /// A missing file, a missing tensor, a tensor of the wrong shape or type, an unsupported configuration.
    pub fn load(dir: &Path, device: &Device) -> Result<Self> {
        Self::from_checkpoint(&Checkpoint::open(dir)?, device)
    }

    pub(super) fn from_checkpoint(checkpoint: &Checkpoint, device: &Device) -> Result<Self> {
        let config = checkpoint.config().clone();
        let tensors = parameters::specs(&config)
            .iter()
            .map(|spec| checkpoint.tensor(&spec.name, &spec.shape, device))
            .collect::<Result<Vec<_>>>()?;
        Self::trainable(config, &tensors)
    }

    /// Saves config.json and model.safetensors (above 5 GB: shards and an index) into `dir`, each whole or not at all.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let config = self.config.to_json("LlamaForCausalLM");
        checkpoint::save(dir, &config, self.named_tensors())
    }

    fn trainable(config: LlamaConfig, tensors: &[Tensor]) -> Result<Self> {
        // Detached first: a variable's own tensor would come back as the same variable, not as a copy.
        let variables = tensors
            .iter()
            .map(|tensor| Ok(Var::from_tensor(&tensor.detach())?))
            .collect::<Result<Vec<_>>>()?;
        let tensors = variables
            .iter()
            .map(|var| var.as_tensor().clone())
            .collect();
        Ok(Self {
            config,
            tensors,
            variables,
        })
    }

    /// A trainable copy with parameters of its own.
    pub fn deep_clone(&self) -> Result<Self> {
        Self::trainable(self.config.clone(), &self.tensors)
    }

    /// The same model without gradients: its passes build no graph and keep no activations. It shares the parameters'
    /// memory, so it follows later updates of the model it came from; a reference that must stay is
    /// `model.deep_clone()?.frozen()`. [`Llama::parameters`] of a frozen model is empty.
    #[must_use]
    pub fn frozen(&self) -> Self {
        Self {
            config: self.config.clone(),
            tensors: self.tensors.iter().map(Tensor::detach).collect(),
            variables: Vec::new(),
        }
    }

    /// The sizes.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// Where the parameters lie.
    pub fn device(&self) -> &Device {
        self.tensors[0].device()
    }

    /// The trainable parameters under their Hugging Face names, in an order that depends on the sizes alone.
    pub fn parameters(&self) -> Vec<(String, Var)> {
        let names = parameters::specs(&self.config)
            .into_iter()
            .map(|spec| spec.name);
        names.zip(self.variables.iter().cloned()).collect()
    }

    /// All weights under their Hugging Face names in the same order, for saving.
    pub(super) fn named_tensors(&self) -> Vec<(String, Tensor)> {
        let names = parameters::specs(&self.config)
            .into_iter()
            .map(|spec| spec.name);
        names.zip(self.tensors.iter().cloned()).collect()
    }

    /// The embedding table, (V, C).
    pub fn embedding_weight(&self) -> &Tensor {
        &self.tensors[0]
    }

    /// The final norm, (C,).
    pub fn norm_weight(&self) -> &Tensor {
        &self.tensors[1 + PER_LAYER * self.config.num_hidden_layers]
    }

    /// The output head, (V, C): the embedding table where the two are tied.
    pub fn output_weight(&self) -> &Tensor {
        if self.config.tie_word_embeddings {
            self.embedding_weight()
        } else {
            &self.tensors[2 + PER_LAYER * self.config.num_hidden_layers]
        }
    }

    /// The nine parameters of layer `index` in the order of `parameters::specs`.
    pub(super) fn layer_tensors(&self, index: usize) -> &[Tensor; PER_LAYER] {
        let start = 1 + PER_LAYER * index;
        self.tensors[start..start + PER_LAYER]
            .try_into()
            .expect("invariant: the slice is PER_LAYER long")
    }

    fn layer(&self, index: usize) -> Layer<'_> {
        let [
            input_norm,
            query,
            key,
            value,
            output,
            post_norm,
            gate,
            up,
            down,
        ] = self.layer_tensors(index);
        Layer {
            input_norm,
            query,
            key,
            value,
            output,
            post_norm,
            gate,
            up,
            down,
        }
    }

    /// Hidden states after the final norm at every token, (N, C).
    ///
    /// # Errors
    /// A row longer than `max_position_embeddings`, an id outside the vocabulary; both name the row.
    pub fn hidden(&self, batch: &TokenBatch) -> Result<Tensor> {
        let positions = self.positions(batch)?;
        let mut x = ops::embedding(self.embedding_weight(), batch.ids())?; // (N, C)
        for index in 0..self.config.num_hidden_layers {
            let layer = self.layer(index);
            x = (&x + self.attention(&layer, &x, &positions, batch.offsets())?)?;
            x = (&x + self.feed_forward(&layer, &x)?)?;
        }
        ops::rms_norm(&x, self.norm_weight(), self.config.rms_norm_eps)
    }

    fn attention(
        &self,
        layer: &Layer<'_>,
        x: &Tensor,
        positions: &[u32],
        offsets: &[u64],
    ) -> Result<Tensor> {
        let (n, d) = (x.dim(0)?, self.config.head_dim);
        let (h, k) = (
            self.config.num_attention_heads,
            self.config.num_key_value_heads,
        );
        let x = ops::rms_norm(x, layer.input_norm, self.config.rms_norm_eps)?;
        let queries = ops::linear(&x, layer.query)?.reshape((n, h, d))?;
        let keys = ops::linear(&x, layer.key)?.reshape((n, k, d))?;
        let values = ops::linear(&x, layer.value)?.reshape((n, k, d))?;
        let queries = ops::rope(&queries, positions, self.config.rope_theta)?;
        let keys = ops::rope(&keys, positions, self.config.rope_theta)?;
        let mixed = ops::attention(&queries, &keys, &values, offsets)?; // (N, H, D)
        ops::linear(&mixed.reshape((n, h * d))?, layer.output)
    }

    fn feed_forward(&self, layer: &Layer<'_>, x: &Tensor) -> Result<Tensor> {
        let x = ops::rms_norm(x, layer.post_norm, self.config.rms_norm_eps)?;
        let gate = ops::linear(&x, layer.gate)?; // (N, F)
        let up = ops::linear(&x, layer.up)?;
        ops::linear(&ops::swiglu(&gate, &up)?, layer.down)
    }

    /// Log-probability of every response token given what stands before it, and the entropy of the distribution it came
    /// from, both (M,) in nats, at a temperature above 0.
    pub fn log_probs(&self, batch: &TokenBatch, temperature: f64) -> Result<LogProbs> {
        let hidden = self.hidden(batch)?;
        let predicting = ops::gather(&hidden, &batch.prediction_positions())?; // (M, C)
        let responses = batch.responses();
        ops::log_probs(
            &predicting,
            self.output_weight(),
            responses.values(),
            temperature,
        )
    }

    /// Where in its row each token stands, (N,), after the checks of [`Llama::hidden`].
    fn positions(&self, batch: &TokenBatch) -> Result<Vec<u32>> {
        let mut positions = Vec::with_capacity(batch.tokens());
        for (row, bounds) in batch.offsets().windows(2).enumerate() {
            let ids = &batch.ids()[bounds[0] as usize..bounds[1] as usize];
            check_row(&self.config, row, ids, ids.len())?;
            positions.extend(0..ids.len() as u32);
        }
        Ok(positions)
    }
}

/// Refuses a row that the model has no positions or no embeddings for; `length` counts the tokens it will have.
pub(super) fn check_row(
    config: &LlamaConfig,
    row: usize,
    ids: &[u32],
    length: usize,
) -> Result<()> {
    let limit = config.max_position_embeddings;
    if length > limit {
        return Err(Error::input(format!(
            "row {row} has {length} tokens, more than the model's max_position_embeddings of {limit}"
        ))
        .hint("shorten the prompts or the responses"));
    }
    if let Some(id) = ids.iter().find(|id| **id as usize >= config.vocab_size) {
        return Err(Error::input(format!(
            "row {row} holds the token id {id}; accepted: below the model's vocab_size of {}",
            config.vocab_size
        ))
        .hint("the tokenizer does not belong to this model"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture;

    #[test]
    fn parameters_have_their_names_and_a_fixed_order() -> Result<()> {
        let model = fixture::model(false)?;
        let names: Vec<_> = model
            .parameters()
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(names[0], "model.embed_tokens.weight");
        assert_eq!(names[2], "model.layers.0.self_attn.q_proj.weight");
        assert_eq!(names[19..], ["model.norm.weight", "lm_head.weight"]);
        assert_eq!(fixture::model(true)?.parameters().len(), names.len() - 1);
        Ok(())
    }

    #[test]
    fn log_probs_do_not_depend_on_the_other_rows() -> Result<()> {
        let model = fixture::model(true)?;
        let rows: [(&[u32], &[u32]); 3] = [
            (&[1, 4, 5], &[6, 7]),
            (&[1], &[9, 8, 3, 2]),
            (&[1, 2], &[3]),
        ];
        let mut together = TokenBatch::new();
        let mut alone = Vec::new();
        for (prompt, response) in rows {
            together.push(prompt, response);
            let mut batch = TokenBatch::new();
            batch.push(prompt, response);
            alone.extend(model.log_probs(&batch, 0.7)?.logprobs.to_vec1::<f32>()?);
        }
        let together = model.log_probs(&together, 0.7)?.logprobs.to_vec1::<f32>()?;
        assert_eq!(together.len(), 7);
        for (a, b) in together.iter().zip(&alone) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
        Ok(())
    }

    #[test]
    fn a_frozen_model_says_the_same_without_a_graph_and_follows_its_source() -> Result<()> {
        let model = fixture::model(true)?;
        let (frozen, copy) = (model.frozen(), model.deep_clone()?);
        let batch = fixture::batch();
        let before = model.hidden(&batch)?;
        assert!(before.track_op() && !frozen.hidden(&batch)?.track_op());
        assert!(frozen.parameters().is_empty());
        let (_, norm) = model.parameters().pop().expect("parameters");
        norm.set(&norm.as_detached_tensor().affine(2.0, 0.0)?)?;
        let doubled = (before.detach() * 2.0)?.to_vec2::<f32>()?;
        assert_eq!(frozen.hidden(&batch)?.to_vec2::<f32>()?, doubled);
        let kept = copy.hidden(&batch)?.detach().to_vec2::<f32>()?;
        assert_eq!(kept, before.detach().to_vec2::<f32>()?);
        Ok(())
    }

    #[test]
    fn every_parameter_gets_a_gradient() -> Result<()> {
        for tied in [false, true] {
            let model = fixture::model(tied)?;
            let loss = model
                .log_probs(&fixture::batch(), 1.0)?
                .logprobs
                .sum_all()?;
            let gradients = loss.backward()?;
            for (name, var) in model.parameters() {
                let gradient = gradients.get(&var).expect(&name);
                let size = gradient.sqr()?.sum_all()?.to_scalar::<f32>()?;
                assert!(size > 0.0, "{name} has a gradient of zero");
            }
        }
        Ok(())
    }

    #[test]
    fn a_row_that_does_not_fit_is_refused_by_name() -> Result<()> {
        let model = fixture::model(true)?;
        let mut batch = fixture::batch();
        let rows = batch.rows();
        batch.push(&[1; 20], &[2; 13]);
        let error = model.hidden(&batch).expect_err("33 tokens do not fit");
        let text = error.to_string();
        assert!(
            text.contains(&format!("row {rows} has 33 tokens")) && text.contains("32"),
            "{text}"
        );
        let mut batch = TokenBatch::new();
        batch.push(&[1], &[11]);
        let error = model.hidden(&batch).expect_err("id 11 is outside");
        assert!(
            error.to_string().contains("row 0 holds the token id 11"),
            "{error}"
        );
        assert_eq!(error.exit_code(), 2);
        Ok(())
    }
}
