//! A scalar per token on top of a language model: the reward model and the critic.
//!
//! score = w·h + b, where h is the hidden state after the final norm. The reward model reads the state **at** a response
//! token, the critic the state one **before** it (the state in which the token is chosen).
//!
//! Legend: M response tokens, C channels.

use std::path::Path;

use candle_core::Tensor;
use finegrain_sdk::rng::Stream;

use super::causal_lm::CausalLm;
use super::checkpoint::{self, Checkpoint};
#[cfg(feature = "cuda")]
use super::cuda;
use super::gradients::{Gradients, Trainable};
use super::lora::{self, Adapter};
use super::parameters::{ParameterSet, normal};
use super::pass::{Pass, Read};
use super::policy::check_length;
use crate::data::ragged::TokenBatch;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::ops::product::{Matrix, MatrixMut, Product, multiply};

/// The head's weight under transformers' name for a sequence classifier's head; the bias is ours.
const WEIGHT: &str = "score.weight";
const BIAS: &str = "score.bias";

/// A linear map from C channels to one number.
#[derive(Clone, Debug)]
pub struct ScalarHead {
    /// Weight (1, C), then bias (1,).
    parameters: ParameterSet,
}

impl ScalarHead {
    /// All zeros: how a critic starts, so that its first values do not disturb the advantages (AlpacaFarm).
    pub fn zero(hidden_size: usize) -> Result<Self> {
        Self::from_values(vec![0.0; hidden_size], 0.0)
    }

    /// Weight from N(0, 1/(C + 1)), bias 0: how a reward model starts (Ziegler et al. 2019, arXiv:1909.08593).
    pub fn random(hidden_size: usize, stream: &Stream) -> Result<Self> {
        let std = 1.0 / (hidden_size as f64 + 1.0).sqrt();
        Self::from_values(normal(&stream.child(WEIGHT), std, hidden_size), 0.0)
    }

    fn from_values(weight: Vec<f32>, bias: f32) -> Result<Self> {
        let shapes = [
            (WEIGHT.to_owned(), vec![1, weight.len()]),
            (BIAS.to_owned(), vec![1]),
        ];
        let mut weight = Some(weight);
        let parameters = ParameterSet::new(shapes, |_, _| {
            Ok(weight.take().unwrap_or_else(|| vec![bias]))
        })?;
        Ok(Self { parameters })
    }

    fn weight(&self) -> &[f32] {
        &self.parameters.host()[..self.parameters.len() - 1]
    }

    fn bias(&self) -> f32 {
        self.parameters.host()[self.parameters.len() - 1]
    }

    /// Weight (1, C), then bias (1,).
    pub fn parameters(&self) -> &ParameterSet {
        &self.parameters
    }

    /// The same, to be changed.
    pub fn parameters_mut(&mut self) -> &mut ParameterSet {
        &mut self.parameters
    }

    /// w·h + b of every state: hidden (M, C) → (M,).
    fn forward(&self, hidden: &[f32]) -> Vec<f32> {
        let c = self.weight().len();
        let m = hidden.len() / c;
        let mut scores = vec![self.bias(); m];
        let out = MatrixMut::new(&mut scores, m, 1);
        let weight = Matrix::new(self.weight(), 1, c);
        multiply(out, Matrix::new(hidden, m, c), weight.t(), Product::add(1));
        scores
    }

    /// Writes the gradient of hidden (M, C) and adds that of weight and bias (C + 1,), given that of the scores, (M,).
    fn backward(&self, hidden: &[f32], grad: &[f32], d_hidden: &mut [f32], sums: &mut [f32]) {
        let (m, c) = (grad.len(), self.weight().len());
        let column = Matrix::new(grad, m, 1);
        let weight = Matrix::new(self.weight(), 1, c);
        multiply(
            MatrixMut::new(d_hidden, m, c),
            column,
            weight,
            Product::set(1),
        );
        let (d_weight, d_bias) = sums.split_at_mut(c);
        let (out, hidden) = (MatrixMut::new(d_weight, 1, c), Matrix::new(hidden, m, c));
        multiply(out, column.t(), hidden, Product::add(1));
        d_bias[0] += grad.iter().sum::<f32>();
    }
}

/// A language model with a scalar head: reward model or critic. Clones share memory until one of them is trained.
#[derive(Clone, Debug)]
pub struct ScoredModel {
    /// The model whose hidden states are read.
    pub backbone: CausalLm,
    /// What reads them.
    pub head: ScalarHead,
}

/// A batch that has gone through a scored model, with its way back. It stays valid as long as the model does not change.
pub struct ScorePass {
    way: Way,
    scores: Vec<f32>,
}

/// What the way back needs, where the model is.
enum Way {
    Host(Box<Pass<f32>>),
    #[cfg(feature = "cuda")]
    Cuda(Box<cuda::scores::DeviceScorePass>),
}

impl ScoredModel {
    /// A model from its two parts; the head goes where the backbone is.
    ///
    /// # Errors
    /// No memory on the device.
    pub fn new(backbone: CausalLm, mut head: ScalarHead) -> Result<Self> {
        head.parameters = head.parameters.to(&backbone.device())?;
        Ok(Self { backbone, head })
    }

    /// A score for every response token, read at the token itself, (M,).
    pub fn scores(&self, batch: &TokenBatch) -> Result<Vec<f32>> {
        Ok(self.at(batch, Read::Responses, false)?.scores)
    }

    /// The same, with the way back.
    pub fn scores_pass(&self, batch: &TokenBatch) -> Result<ScorePass> {
        self.at(batch, Read::Responses, true)
    }

    /// The value of the state in which every response token is chosen, read one token before it, (M,).
    pub fn values(&self, batch: &TokenBatch) -> Result<Vec<f32>> {
        Ok(self.at(batch, Read::Predicting, false)?.scores)
    }

    /// The same, with the way back.
    pub fn values_pass(&self, batch: &TokenBatch) -> Result<ScorePass> {
        self.at(batch, Read::Predicting, true)
    }

    fn at(&self, batch: &TokenBatch, read: Read, keep: bool) -> Result<ScorePass> {
        match self.backbone.device() {
            Device::Cpu => {
                let pass = self.backbone.pass(batch, read, keep)?;
                let scores = self.head.forward(pass.hidden());
                let way = Way::Host(Box::new(pass));
                Ok(ScorePass { way, scores })
            }
            #[cfg(feature = "cuda")]
            Device::Cuda(gpu) => {
                let (backbone, head) = (&self.backbone, &self.head.parameters);
                let (scores, way) =
                    cuda::scores::scores(backbone, head, &gpu, (batch, read), keep)?;
                let way = Way::Cuda(Box::new(way));
                Ok(ScorePass { way, scores })
            }
        }
    }

    /// The same model on a device, as [`CausalLm::to`].
    ///
    /// # Errors
    /// Those of [`CausalLm::to`].
    pub fn to(&self, device: &Device) -> Result<Self> {
        Ok(Self {
            backbone: self.backbone.to(device)?,
            head: ScalarHead {
                parameters: self.head.parameters.to(device)?,
            },
        })
    }

    /// Loads a Hugging Face folder of a `a classifier` with one label, or of an adapter with such a head.
    /// A folder without `score.bias` has a bias of 0: transformers' head has none.
    pub fn load(dir: &Path) -> Result<Self> {
        if lora::base::is_adapter(dir) {
            let base = lora::base::open(dir, None)?;
            let (adapter, head) = Adapter::load_with_head(dir, base.config())?;
            let Some((weight, bias)) = head else {
                return Err(Error::input(format!(
                    "{} holds an adapter without a scalar head",
                    dir.display()
                ))
                .hint("name the folder of a reward model"));
            };
            let backbone = base.with_adapter(adapter)?;
            return Self::new(backbone, ScalarHead::from_values(weight, bias)?);
        }
        let checkpoint = Checkpoint::open(dir)?;
        let backbone = CausalLm::from_checkpoint(&checkpoint)?;
        let weight = checkpoint.values(WEIGHT, &[1, backbone.config().hidden_size])?;
        let bias = if checkpoint.contains(BIAS) {
            checkpoint.values(BIAS, &[1])?[0]
        } else {
            0.0
        };
        Self::new(backbone, ScalarHead::from_values(weight, bias)?)
    }

    /// Saves config.json and model.safetensors, or an adapter with the head, into `dir` as [`CausalLm::save`] does.
    /// [`CausalLm::load`] reads the backbone from the same folder.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let head: Vec<(String, Tensor)> = self.head.parameters.tensors()?;
        if let Some(adapter) = self.backbone.adapter() {
            return adapter.save(
                self.backbone.config().family,
                dir,
                self.backbone.origin()?,
                head,
            );
        }
        let config = self.backbone.config();
        let config = config.to_json("ForSequenceClassification");
        let mut tensors = self.backbone.weights().tensors()?;
        tensors.extend(head);
        checkpoint::save(dir, &config, tensors)
    }

    /// The same model with the backbone's adapter added to its weights, where it has one.
    pub fn merged(&self) -> Result<Self> {
        Self::new(self.backbone.merged()?, self.head.clone())
    }
}

impl ScorePass {
    /// The score or value of every response token, (M,).
    pub fn scores(&self) -> &[f32] {
        &self.scores
    }

    /// Adds the gradients of the parameters of the model that the batch went through, given those of a loss by the scores,
    /// (M,).
    ///
    /// # Errors
    /// A gradient of another length.
    pub fn backward(
        self,
        model: &ScoredModel,
        d_scores: &[f32],
        gradients: &mut Gradients,
    ) -> Result<()> {
        check_length(d_scores, self.scores.len())?;
        let ScoredModel { backbone, head } = model;
        match self.way {
            Way::Host(pass) => {
                let hidden = pass.hidden();
                let mut d_hidden = backbone.pool.take(hidden.len());
                head.backward(hidden, d_scores, &mut d_hidden, gradients.part(1));
                backbone.backward(*pass, &d_hidden, gradients.part(0));
                Ok(())
            }
            #[cfg(feature = "cuda")]
            Way::Cuda(way) => {
                let (of_backbone, of_head) = gradients.two_on_gpu();
                way.backward(backbone, &head.parameters, d_scores, of_backbone, of_head)
            }
        }
    }
}

impl Trainable for CausalLm {
    fn parameter_sets(&self) -> Vec<(&ParameterSet, usize)> {
        vec![(self.parameters(), self.parameters().len())]
    }

    fn parameter_sets_mut(&mut self) -> Vec<&mut ParameterSet> {
        vec![self.parameters_mut()]
    }
}

/// The backbone but for an output head of its own, which scores nothing and comes last, and the scalar head.
impl Trainable for ScoredModel {
    fn parameter_sets(&self) -> Vec<(&ParameterSet, usize)> {
        let backbone = self.backbone.parameters();
        let unused = match self.backbone.adapter() {
            None if !self.backbone.config().tie_word_embeddings => {
                let config = self.backbone.config();
                config.vocab_size * config.hidden_size
            }
            _ => 0,
        };
        vec![
            (backbone, backbone.len() - unused),
            (&self.head.parameters, self.head.parameters.len()),
        ]
    }

    fn parameter_sets_mut(&mut self) -> Vec<&mut ParameterSet> {
        vec![self.backbone.parameters_mut(), &mut self.head.parameters]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture;

    fn scored(tied: bool) -> Result<ScoredModel> {
        let head = ScalarHead::random(12, &Stream::new(3))?;
        ScoredModel::new(fixture::model(tied)?, head)
    }

    #[test]
    fn scores_are_read_at_the_token_and_values_one_before() -> Result<()> {
        let model = scored(true)?;
        let batch = fixture::batch();
        let hidden = model.backbone.hidden(&batch, Read::All)?;
        let all = model.head.forward(&hidden);
        // Rows of 3 + 3, 1 + 2 and 3 + 0 tokens.
        let expected = |positions: [usize; 5]| positions.map(|p| all[p]);
        let close = |found: &[f32], expected: [f32; 5]| {
            assert_eq!(found.len(), 5);
            let pairs = found.iter().zip(expected);
            pairs.for_each(|(f, e)| assert!((f - e).abs() < 1e-6, "{f} {e}"));
        };
        close(&model.scores(&batch)?, expected([3, 4, 5, 7, 8]));
        close(&model.values(&batch)?, expected([2, 3, 4, 6, 7]));
        Ok(())
    }

    #[test]
    fn a_zero_head_scores_zero_until_its_bias_moves() -> Result<()> {
        let mut model = ScoredModel::new(fixture::model(true)?, ScalarHead::zero(12)?)?;
        assert_eq!(model.values(&fixture::batch())?, [0.0; 5]);
        model.head.parameters_mut().get_mut(BIAS)?[0] = 0.5;
        assert_eq!(model.values(&fixture::batch())?, [0.5; 5]);
        Ok(())
    }

    #[test]
    fn a_saved_model_scores_the_same_and_its_backbone_loads_alone() -> Result<()> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let batch = fixture::batch();
        for tied in [true, false] {
            let model = scored(tied)?;
            model.save(dir.path())?;
            let again = ScoredModel::load(dir.path())?;
            assert_eq!(again.scores(&batch)?, model.scores(&batch)?);
            let backbone = CausalLm::load(dir.path())?;
            let expected = model.backbone.log_probs(&batch, 1.0)?;
            assert_eq!(backbone.log_probs(&batch, 1.0)?, expected);
        }
        Ok(())
    }

    /// d Σ g·score by the head, and by one weight of the backbone, against differences of the scores.
    #[test]
    fn the_way_back_begins_at_the_scores() -> Result<()> {
        let model = scored(false)?;
        let grad = [1.0, -2.0, 0.5, 0.25, 3.0];
        let mut gradients = Gradients::zeros(&model)?;
        let pass = model.values_pass(&fixture::batch())?;
        pass.backward(&model, &grad, &mut gradients)?;
        let sum = |model: &ScoredModel| -> Result<f64> {
            let values = model.values(&fixture::batch())?;
            Ok(values.iter().zip(grad).map(|(v, g)| f64::from(v * g)).sum())
        };
        let last = model.backbone.weights().get("model.norm.weight")?.len() - 1;
        let norm = model.parameter_sets()[0].1 - 1;
        for (set, at, name) in [
            (1, 4, WEIGHT),
            (1, 12, BIAS),
            (0, norm, "model.norm.weight"),
        ] {
            let moved = |step: f32| -> Result<f64> {
                let mut model = model.clone();
                let place = match name {
                    WEIGHT => 4,
                    BIAS => 0,
                    _ => last,
                };
                let mut sets = model.parameter_sets_mut();
                sets[set].get_mut(name)?[place] += step;
                sum(&model)
            };
            let difference = (moved(0.01)? - moved(-0.01)?) / 0.02;
            let found = f64::from(gradients.part(set)[at]);
            assert!(
                (found - difference).abs() < 2e-3,
                "{name}: {found} {difference}"
            );
        }
        Ok(())
    }
}
