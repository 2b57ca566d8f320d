//! A scalar per token on top of a LLaMA: the reward model and the critic.
//!
//! score = w·h + b, where h is the hidden state after the final norm. The reward model reads the state **at** a response
//! token, the critic the state one **before** it (the state in which the token is chosen).
//!
//! Legend: N tokens of the batch, M response tokens, C channels.

use std::path::Path;

use candle_core::{DType, Device, Tensor, Var};
use finegrain_sdk::rng::Stream;

use super::checkpoint::{self, Checkpoint};
use super::llama::Llama;
use super::parameters::normal;
use crate::data::ragged::TokenBatch;
use crate::error::Result;
use crate::ops;

/// The head's weight under transformers' name for a sequence classifier's head; the bias is ours.
const WEIGHT: &str = "score.weight";
const BIAS: &str = "score.bias";

/// A linear map from C channels to one number.
pub struct ScalarHead {
    weight: Tensor,
    bias: Tensor,
    /// Weight and bias; empty in a frozen head.
    variables: Vec<Var>,
}

impl ScalarHead {
    /// All zeros: how a critic starts, so that its first values do not disturb the advantages (AlpacaFarm).
    pub fn zero(hidden_size: usize, device: &Device) -> Result<Self> {
        let weight = Tensor::zeros((1, hidden_size), DType::F32, device)?;
        Self::trainable(&weight, &Tensor::zeros(1, DType::F32, device)?)
    }

    /// Weight from N(0, 1/(C + 1)), bias 0: how a reward model starts (Ziegler et al. 2019, arXiv:1909.08593).
    pub fn random(hidden_size: usize, stream: &Stream, device: &Device) -> Result<Self> {
        let std = 1.0 / (hidden_size as f64 + 1.0).sqrt();
        let values = normal(&stream.child(WEIGHT), std, hidden_size);
        let weight = Tensor::from_vec(values, (1, hidden_size), device)?;
        Self::trainable(&weight, &Tensor::zeros(1, DType::F32, device)?)
    }

    fn trainable(weight: &Tensor, bias: &Tensor) -> Result<Self> {
        let weight = Var::from_tensor(&weight.detach())?;
        let bias = Var::from_tensor(&bias.detach())?;
        Ok(Self {
            weight: weight.as_tensor().clone(),
            bias: bias.as_tensor().clone(),
            variables: vec![weight, bias],
        })
    }

    /// A trainable copy with parameters of its own.
    pub fn deep_clone(&self) -> Result<Self> {
        Self::trainable(&self.weight, &self.bias)
    }

    /// The same head without gradients, sharing memory; see [`Llama::frozen`].
    #[must_use]
    pub fn frozen(&self) -> Self {
        Self {
            weight: self.weight.detach(),
            bias: self.bias.detach(),
            variables: Vec::new(),
        }
    }

    /// The head at M hidden states, (M, C) → (M,).
    pub fn forward(&self, hidden: &Tensor) -> Result<Tensor> {
        let scores = ops::linear(hidden, &self.weight)?; // (M, 1)
        Ok(scores.squeeze(1)?.broadcast_add(&self.bias)?)
    }

    /// The trainable parameters, weight (1, C) then bias (1,).
    pub fn parameters(&self) -> Vec<(String, Var)> {
        let names = [WEIGHT, BIAS].map(String::from);
        names
            .into_iter()
            .zip(self.variables.iter().cloned())
            .collect()
    }
}

/// A LLaMA with a scalar head: reward model or critic.
pub struct ScoredModel {
    /// The model whose hidden states are read.
    pub backbone: Llama,
    /// What reads them.
    pub head: ScalarHead,
}

impl ScoredModel {
    /// A model from its two parts.
    pub fn new(backbone: Llama, head: ScalarHead) -> Self {
        Self { backbone, head }
    }

    /// A score for every response token, read at the token itself, (M,).
    pub fn scores(&self, batch: &TokenBatch) -> Result<Tensor> {
        self.at(batch, &batch.response_positions())
    }

    /// The value of the state in which every response token is chosen, read one token before it, (M,).
    pub fn values(&self, batch: &TokenBatch) -> Result<Tensor> {
        self.at(batch, &batch.prediction_positions())
    }

    fn at(&self, batch: &TokenBatch, positions: &[u32]) -> Result<Tensor> {
        let hidden = self.backbone.hidden(batch)?;
        self.head.forward(&ops::gather(&hidden, positions)?)
    }

    /// The trainable parameters: the backbone's but for an output head of its own, which scores nothing, then the head's.
    pub fn parameters(&self) -> Vec<(String, Var)> {
        let mut all = self.backbone.parameters();
        all.retain(|(name, _)| name != "lm_head.weight");
        all.extend(self.head.parameters());
        all
    }

    /// A trainable copy with parameters of its own.
    pub fn deep_clone(&self) -> Result<Self> {
        Ok(Self::new(
            self.backbone.deep_clone()?,
            self.head.deep_clone()?,
        ))
    }

    /// The same model without gradients, sharing memory; see [`Llama::frozen`].
    #[must_use]
    pub fn frozen(&self) -> Self {
        Self::new(self.backbone.frozen(), self.head.frozen())
    }

    /// Loads a Hugging Face folder of a `LlamaForSequenceClassification` with one label. A folder without `score.bias`
    /// has a bias of 0: transformers' head has none.
    pub fn load(dir: &Path, device: &Device) -> Result<Self> {
        let checkpoint = Checkpoint::open(dir)?;
        let backbone = Llama::from_checkpoint(&checkpoint, device)?;
        let weight = checkpoint.tensor(WEIGHT, &[1, backbone.config().hidden_size], device)?;
        let bias = if checkpoint.contains(BIAS) {
            checkpoint.tensor(BIAS, &[1], device)?
        } else {
            Tensor::zeros(1, DType::F32, device)?
        };
        Ok(Self::new(backbone, ScalarHead::trainable(&weight, &bias)?))
    }

    /// Saves config.json and model.safetensors into `dir`, each written whole or not at all. [`Llama::load`] reads the
    /// backbone from the same folder.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let config = self
            .backbone
            .config()
            .to_json("LlamaForSequenceClassification");
        let mut tensors = self.backbone.named_tensors();
        tensors.push((WEIGHT.to_owned(), self.head.weight.clone()));
        tensors.push((BIAS.to_owned(), self.head.bias.clone()));
        checkpoint::save(dir, &config, tensors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture;

    fn scored(tied: bool) -> Result<ScoredModel> {
        let head = ScalarHead::random(12, &Stream::new(3), &Device::Cpu)?;
        Ok(ScoredModel::new(fixture::model(tied)?, head))
    }

    #[test]
    fn scores_are_read_at_the_token_and_values_one_before() -> Result<()> {
        let model = scored(true)?;
        let batch = fixture::batch();
        let hidden = model.backbone.hidden(&batch)?;
        let all = model.head.forward(&hidden)?.to_vec1::<f32>()?;
        // Rows of 3 + 3, 1 + 2 and 3 + 0 tokens.
        let expected = |positions: [usize; 5]| positions.map(|p| all[p]).to_vec();
        assert_eq!(
            model.scores(&batch)?.to_vec1::<f32>()?,
            expected([3, 4, 5, 7, 8])
        );
        assert_eq!(
            model.values(&batch)?.to_vec1::<f32>()?,
            expected([2, 3, 4, 6, 7])
        );
        Ok(())
    }

    #[test]
    fn a_zero_head_scores_zero_until_its_bias_moves() -> Result<()> {
        let head = ScalarHead::zero(12, &Device::Cpu)?;
        let model = ScoredModel::new(fixture::model(true)?, head);
        assert_eq!(model.values(&fixture::batch())?.to_vec1::<f32>()?, [0.0; 5]);
        let (name, bias) = model.parameters().pop().expect("parameters");
        assert_eq!(name, "score.bias");
        bias.set(&Tensor::new(&[0.5f32], &Device::Cpu)?)?;
        assert_eq!(
            model.frozen().values(&fixture::batch())?.to_vec1::<f32>()?,
            [0.5; 5]
        );
        Ok(())
    }

    #[test]
    fn a_saved_model_scores_the_same_and_its_backbone_loads_alone() -> Result<()> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let batch = fixture::batch();
        for tied in [true, false] {
            let model = scored(tied)?;
            model.save(dir.path())?;
            let again = ScoredModel::load(dir.path(), &Device::Cpu)?;
            let scores = |model: &ScoredModel| {
                model
                    .scores(&batch)?
                    .to_vec1::<f32>()
                    .map_err(crate::Error::from)
            };
            assert_eq!(scores(&again)?, scores(&model)?);
            let backbone = Llama::load(dir.path(), &Device::Cpu)?;
            let logprobs = |model: &Llama| {
                let out = model.log_probs(&batch, 1.0)?.logprobs;
                out.to_vec1::<f32>().map_err(crate::Error::from)
            };
            assert_eq!(logprobs(&backbone)?, logprobs(&model.backbone)?);
        }
        Ok(())
    }

    #[test]
    fn every_trainable_parameter_gets_a_gradient() -> Result<()> {
        let model = scored(false)?;
        let gradients = model.scores(&fixture::batch())?.sum_all()?.backward()?;
        for (name, var) in model.parameters() {
            assert!(gradients.get(&var).is_some(), "{name}");
        }
        Ok(())
    }
}
