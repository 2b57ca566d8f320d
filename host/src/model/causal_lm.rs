//! A causal language model of any family over ragged batches: its configuration, its weights, and an adapter where it is trained
//! by LoRA.
//!
//! ```text
//! x ← E[ids], scaled where the family does so
//! per layer: x ← block(x)                                  (block.rs)
//! hidden = norm(x),  logits = W_head · hidden, scaled and capped where the family does so
//! ```
//! Only the attention knows where a row ends, so there is no padding. How a batch goes through, and back, stands in
//! `pass.rs`.
//!
//! Legend: N tokens of the batch, M tokens that are read, C channels, V vocabulary.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use finegrain_sdk::rng::Stream;

use super::checkpoint::{self, Checkpoint};
use super::config::CausalLmConfig;
#[cfg(feature = "cuda")]
use super::cuda;
use super::lora::{self, Adapter, LoraConfig};
use super::parameters::{self, ParameterSet};
use super::pass::{self, Network, NetworkGradients, Pass, Pool, Read, Way};
use super::sampling::Sampling;
use crate::data::ragged::TokenBatch;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::ops::log_prob;

/// A language model with f32 parameters, and an adapter where it is trained by LoRA. Clones share memory until one of them is
/// trained.
#[derive(Clone, Debug)]
pub struct CausalLm {
    config: CausalLmConfig,
    weights: ParameterSet,
    /// Where the weights can be loaded from, as long as they have not changed since.
    origin: Option<PathBuf>,
    adapter: Option<Adapter>,
    /// What loading it has to say.
    remarks: Vec<String>,
    /// Whether training keeps layer inputs alone and computes the other activations again.
    recompute: bool,
    pub(super) pool: Arc<Pool<f32>>,
}

impl CausalLm {
    /// A fresh model: weights from N(0, 1/inputs) (an embedding that is not the output head from N(0, 1)), the two projections into the residual stream scaled by 1/√(2L), norms 1.
    pub fn new(config: CausalLmConfig, stream: &Stream) -> Result<Self> {
        config.validate()?;
        let mut specs = config.specs().into_iter();
        let weights = ParameterSet::new(config.shapes(), |_, _| {
            let spec = specs.next();
            Ok(spec.map_or_else(Vec::new, |spec| parameters::draw(&spec, stream)))
        })?;
        Ok(Self::from_weights(config, weights))
    }

    /// A model of noise, for timing: weights have the scale of [`CausalLm::new`]'s but are uniform, and all threads draw them
    /// where they will lie, so that seven billion take seconds and are in memory once.
    pub(crate) fn noise(config: CausalLmConfig, seed: u64) -> Result<Self> {
        config.validate()?;
        let weights = parameters::noise(&config, seed);
        Ok(Self::from_weights(config, weights))
    }

    /// Loads a Hugging Face folder, a .gguf file or the folder of an adapter with the model under it; half-precision and
    /// quantised weights become f32. Models with adapters on one base share its weights in memory.
    ///
    /// # Errors
    /// A missing file, a missing tensor, a tensor of the wrong shape or type, an unsupported configuration.
    pub fn load(path: &Path) -> Result<Self> {
        Self::load_on(path, None)
    }

    /// The same; an adapter stands on the model in `base` where one is named, instead of the one that its files name.
    ///
    /// # Errors
    /// Those of [`CausalLm::load`]; a base for what is no adapter.
    pub fn load_on(path: &Path, base: Option<&Path>) -> Result<Self> {
        if lora::base::is_adapter(path) {
            let base = lora::base::open(path, base)?;
            let adapter = Adapter::load(path, base.config())?;
            return base.with_adapter(adapter);
        }
        if let Some(base) = base {
            return Err(Error::input(format!(
                "{} is no adapter; accepted: a base model ({}) under an adapter alone",
                path.display(),
                base.display()
            )));
        }
        let mut model = Self::from_checkpoint(&Checkpoint::open(path)?)?;
        // A model that was loaded has a path that exists; where it cannot be made absolute, adapters name none.
        model.origin = std::fs::canonicalize(path).ok();
        Ok(model)
    }

    /// The model in `path` on weights that were loaded from there before.
    pub(super) fn on(path: &Path, weights: ParameterSet) -> Result<Self> {
        let checkpoint = Checkpoint::open(path)?;
        let config = checkpoint.config().clone();
        let mut model = Self::from_weights(config, weights);
        model.origin = Some(path.to_owned());
        model.remarks = checkpoint.remarks().to_vec();
        Ok(model)
    }

    pub(super) fn from_checkpoint(checkpoint: &Checkpoint) -> Result<Self> {
        let config = checkpoint.config().clone();
        let weights = ParameterSet::new(config.shapes(), |name, shape| {
            checkpoint.values(name, shape)
        })?;
        let mut model = Self::from_weights(config, weights);
        model.remarks = checkpoint.remarks().to_vec();
        Ok(model)
    }

    fn from_weights(config: CausalLmConfig, weights: ParameterSet) -> Self {
        Self {
            config,
            weights,
            origin: None,
            adapter: None,
            remarks: Vec::new(),
            recompute: false,
            pool: Arc::default(),
        }
    }

    /// The same model on a device; what follows from it (clones, adapters) is there too. Adapters on one base, and clones that
    /// are not trained, share the base's copy on the device.
    ///
    /// # Errors
    /// No memory on the device; heads that the device's kernels have no version for.
    pub fn to(&self, device: &Device) -> Result<Self> {
        #[cfg(feature = "cuda")]
        if device.is_cuda() {
            crate::ops::attention::cuda::check_size(self.config.head_dim)?;
        }
        let mut moved = self.clone();
        moved.weights = self.weights.to(device)?;
        if let Some(adapter) = &mut moved.adapter {
            adapter.parameters = adapter.parameters.to(device)?;
        }
        Ok(moved)
    }

    /// Where it is.
    pub fn device(&self) -> Device {
        self.weights.device()
    }

    /// Saves config.json and model.safetensors (above 5 GB: shards and an index) into `dir`; of a model with an adapter the
    /// adapter alone, as PEFT does, with the path of the weights under it ([`CausalLm::merged`] makes one model of both). Each
    /// file is written whole or not at all.
    ///
    /// # Errors
    /// An adapter on weights that lie nowhere ([`CausalLm::set_origin`]); a file that cannot be written.
    pub fn save(&self, dir: &Path) -> Result<()> {
        if let Some(adapter) = &self.adapter {
            adapter.save(self.config.family, dir, self.origin()?, Vec::new())
        } else {
            let config = self.config.to_json("ForCausalLM");
            checkpoint::save(dir, &config, self.weights.tensors()?)
        }
    }

    /// Where the weights under an adapter lie.
    pub(super) fn origin(&self) -> Result<&Path> {
        self.origin.as_deref().ok_or_else(|| {
            Error::internal("an adapter cannot be saved on weights that were not saved themselves")
        })
    }

    /// Whether it is known where the weights lie.
    pub fn has_origin(&self) -> bool {
        self.origin.is_some()
    }

    /// Says where the weights, without an adapter, have been saved: an absolute path, or one seen from where the adapter
    /// will be saved.
    pub fn set_origin(&mut self, path: PathBuf) {
        self.origin = Some(path);
    }

    /// The same model with a fresh adapter: from now on the adapter is trained, and the weights are frozen and shared.
    /// An adapter that it has is merged first.
    pub fn with_lora(&self, config: &LoraConfig, stream: &Stream) -> Result<Self> {
        let mut adapter = Adapter::new(config, &self.config, stream)?;
        adapter.parameters = adapter.parameters.to(&self.device())?;
        Ok(Self {
            adapter: Some(adapter),
            ..self.merged()?
        })
    }

    /// The same weights with this adapter.
    ///
    /// # Errors
    /// An adapter of other sizes.
    pub fn with_adapter(&self, adapter: Adapter) -> Result<Self> {
        let fresh = Adapter::new(adapter.config(), &self.config, &Stream::new(0))?;
        if fresh.parameters().entries() != adapter.parameters().entries() {
            return Err(Error::internal("the adapter belongs to another model"));
        }
        Ok(Self {
            adapter: Some(adapter),
            ..self.clone()
        })
    }

    /// The same model with its adapter added to the weights, where it has one.
    pub fn merged(&self) -> Result<Self> {
        let mut merged = self.clone();
        if let Some(adapter) = merged.adapter.take() {
            merged.origin = None;
            adapter.merge_into(&mut merged.weights, &self.config)?;
        }
        Ok(merged)
    }

    /// The adapter, where it has one.
    pub fn adapter(&self) -> Option<&Adapter> {
        self.adapter.as_ref()
    }

    /// The most elements that passes have had on loan at once.
    #[cfg(test)]
    pub(crate) fn most_lent(&self) -> usize {
        self.pool.most_lent()
    }

    /// Says whether training keeps the layers' inputs alone and computes the other activations again on the way back
    /// (Chen et al. 2016, arXiv:1604.06174): less memory for one more forward pass, and the same gradients to the bit.
    pub fn set_recompute(&mut self, recompute: bool) {
        self.recompute = recompute;
    }

    /// Whether it does.
    pub fn recompute(&self) -> bool {
        self.recompute
    }

    /// What is worth a line to whoever loads the model: what its files say that was not taken word for word.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// Whether what sampling says of its tokens has the bits of [`CausalLm::log_probs`]: on the CPU, with the weights as they are, of
    /// a model whose weights are laid out once a pass for the kernel that sampling has. (The general products of larger ones add
    /// up in another order; an adapter is merged for sampling, which rounds.)
    pub fn samples_exactly(&self, sampling: &Sampling) -> bool {
        let as_they_are = !sampling.weights.rounds() && self.adapter.is_none();
        let config = &self.config;
        let one_kernel = config.matrices_of_layer() <= pass::LAID_OUT
            && log_prob::is_laid_out(config.vocab_size, config.hidden_size);
        let on_cpu = matches!(self.device(), Device::Cpu);
        as_they_are && one_kernel && on_cpu && sampling.temperature > 0.0
    }

    /// The sizes.
    pub fn config(&self) -> &CausalLmConfig {
        &self.config
    }

    /// All weights under their Hugging Face names, without the adapter.
    pub fn weights(&self) -> &ParameterSet {
        &self.weights
    }

    /// What is trained: the adapter's parameters, or all weights where there is no adapter.
    pub fn parameters(&self) -> &ParameterSet {
        self.adapter
            .as_ref()
            .map_or(&self.weights, |adapter| &adapter.parameters)
    }

    /// The same, to be changed. Clones of the model keep what they have.
    pub fn parameters_mut(&mut self) -> &mut ParameterSet {
        if let Some(adapter) = &mut self.adapter {
            &mut adapter.parameters
        } else {
            self.origin = None;
            &mut self.weights
        }
    }

    /// The embedding table, (V, C).
    pub fn embedding_weight(&self) -> &[f32] {
        &self.weights.host()[..self.config.vocab_size * self.config.hidden_size]
    }

    /// The final norm, (C,).
    pub fn norm_weight(&self) -> &[f32] {
        let start =
            self.embedding_weight().len() + self.config.num_hidden_layers * self.config.layer_len();
        &self.weights.host()[start..][..self.config.hidden_size]
    }

    /// The output head, (V, C): the embedding table where the two are tied.
    pub fn output_weight(&self) -> &[f32] {
        let table = self.embedding_weight();
        if self.config.tie_word_embeddings {
            return table;
        }
        let all = self.weights.host();
        &all[all.len() - table.len()..]
    }

    /// The parameters of layer `index` in their order, without the adapter.
    pub(super) fn layer_weights(&self, index: usize) -> &[f32] {
        let len = self.config.layer_len();
        &self.weights.host()[self.embedding_weight().len() + index * len..][..len]
    }

    /// Takes a batch through the model; `keep` says whether there will be a way back.
    pub(super) fn pass(&self, batch: &TokenBatch, read: Read, keep: bool) -> Result<Pass<f32>> {
        let prepared = pass::prepare(batch, read, &self.config)?;
        let network = self.network(prepared.longest()).laid_out(Way::Forwards);
        Ok(Pass::forward(&network, prepared, keep))
    }

    /// Adds the gradients of [`CausalLm::parameters`], given that of the hidden states of a pass through this model.
    pub(super) fn backward(&self, pass: Pass<f32>, d_hidden: &[f32], gradients: &mut [f32]) {
        let gradients = match self.adapter {
            Some(_) => NetworkGradients::Adapter(gradients),
            None => NetworkGradients::Weights(gradients),
        };
        let mut network = self.network(pass.longest()).laid_out(Way::Backwards);
        if self.recompute {
            network = network.laid_out(Way::Forwards);
        }
        pass.backward(&network, d_hidden, gradients);
    }

    /// The parameters as passes over rows of at most `longest` tokens read them.
    fn network(&self, longest: usize) -> Network<'_, f32> {
        let adapter = self.adapter.as_ref();
        let adapter = adapter.map(|adapter| (adapter, adapter.parameters.host()));
        Network::new(
            &self.config,
            (self.weights.host(), adapter),
            longest,
            self.recompute,
            &self.pool,
        )
    }

    /// Hidden states after the final norm at the tokens that are read, row after row, (M, C).
    ///
    /// # Errors
    /// A row longer than [`CausalLmConfig::longest_row`], an id outside the vocabulary; both name the row.
    pub fn hidden(&self, batch: &TokenBatch, read: Read) -> Result<Vec<f32>> {
        match self.device() {
            Device::Cpu => Ok(self.pass(batch, read, false)?.hidden().to_vec()),
            #[cfg(feature = "cuda")]
            Device::Cuda(gpu) => cuda::hidden(self, &gpu, batch, read),
        }
    }
}

/// Refuses a row that the model has no positions or no embeddings for; `length` counts the tokens it will have.
pub(super) fn check_row(
    config: &CausalLmConfig,
    row: usize,
    ids: &[u32],
    length: usize,
) -> Result<()> {
    let limit = config.longest_row();
    if length > limit {
        return Err(Error::input(format!(
            "row {row} has {length} tokens, more than the model's {} of {limit}",
            config.longest_row_key()
        ))
        .hint("shorten the prompts or the responses"));
    }
    if let Some(id) = ids.iter().find(|id| **id as usize >= config.vocab_size) {
        return Err(Error::input(format!(
            "row {row} holds the token id {id}; accepted: below the model's vocab_size of {}",
            config.vocab_size
        ))
        .hint("a token that was added without an embedding: take it out of the text; or the tokenizer is another model's"));
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
            .entries()
            .iter()
            .map(|entry| entry.name.as_str())
            .collect();
        assert_eq!(names[0], "model.embed_tokens.weight");
        assert_eq!(names[2], "model.layers.0.self_attn.q_proj.weight");
        assert_eq!(names[19..], ["model.norm.weight", "lm_head.weight"]);
        let tied = fixture::model(true)?;
        assert_eq!(tied.parameters().entries().len(), names.len() - 1);
        Ok(())
    }

    #[test]
    fn a_clone_stays_when_its_source_is_trained() -> Result<()> {
        let mut model = fixture::model(true)?;
        let (copy, batch) = (model.clone(), fixture::batch());
        assert!(copy.weights().shares_memory_with(model.weights()));
        let before = model.hidden(&batch, Read::All)?;
        let norm = model.parameters_mut().get_mut("model.norm.weight")?;
        for weight in norm {
            *weight *= 2.0;
        }
        let doubled: Vec<f32> = before.iter().map(|h| h * 2.0).collect();
        assert_eq!(model.hidden(&batch, Read::All)?, doubled);
        assert_eq!(copy.hidden(&batch, Read::All)?, before);
        Ok(())
    }

    #[test]
    fn a_row_that_does_not_fit_is_refused_by_name() -> Result<()> {
        let model = fixture::model(true)?;
        let mut batch = fixture::batch();
        let rows = batch.rows();
        batch.push(&[1; 20], &[2; 13]);
        let error = model
            .hidden(&batch, Read::All)
            .expect_err("33 tokens do not fit");
        let text = error.to_string();
        assert!(
            text.contains(&format!("row {rows} has 33 tokens")) && text.contains("32"),
            "{text}"
        );
        let mut batch = TokenBatch::new();
        batch.push(&[1], &[11]);
        let error = model
            .hidden(&batch, Read::All)
            .expect_err("id 11 is outside");
        assert!(
            error.to_string().contains("row 0 holds the token id 11"),
            "{error}"
        );
        assert_eq!(error.exit_code(), 2);
        Ok(())
    }
}
