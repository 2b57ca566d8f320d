//! What a policy says of a batch's responses, and the way back from gradients by it.
//!
//! Every loss of a policy depends on the model through the log-probabilities and entropies of the response tokens alone, so
//! a rule or a plugin computes its gradient by them on slices, and the way back begins there.
//!
//! Legend: M response tokens, C channels, V vocabulary.

use super::causal_lm::CausalLm;
#[cfg(feature = "cuda")]
use super::cuda;
use super::gradients::Gradients;
use super::pass::{Pass, Pooled, Read};
use crate::data::ragged::TokenBatch;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::ops::log_prob::{Head, Said};
use crate::ops::product::{Matrix, MatrixMut, Product, multiply};

/// What a policy says of the response tokens of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct LogProbs {
    /// Log-probability of every response token given what stands before it, (M,), nats.
    pub logprobs: Vec<f32>,
    /// Entropy of the distribution it came from, (M,), nats.
    pub entropy: Vec<f32>,
}

/// A batch that has gone through a policy, with its way back. It stays valid as long as the policy does not change.
pub struct PolicyPass {
    said: LogProbs,
    way: Way,
}

/// What the way back needs, where the policy is.
enum Way {
    Host(Box<HostWay>),
    #[cfg(feature = "cuda")]
    Cuda(Box<cuda::policy::DevicePolicyPass>),
}

struct HostWay {
    pass: Pass<f32>,
    targets: Vec<u32>,
    temperature: f64,
    logits: Pooled<f32>,
    said: Said<f32>,
}

impl CausalLm {
    /// Log-probabilities and entropies of the response tokens at a temperature above 0.
    ///
    /// # Errors
    /// A row that does not fit the model, by name; a temperature that is not above 0.
    pub fn log_probs(&self, batch: &TokenBatch, temperature: f64) -> Result<LogProbs> {
        Ok(PolicyPass::new(self, batch, temperature, false)?.said)
    }

    /// The same, with the way back.
    ///
    /// # Errors
    /// Those of [`CausalLm::log_probs`].
    pub fn log_probs_pass(&self, batch: &TokenBatch, temperature: f64) -> Result<PolicyPass> {
        PolicyPass::new(self, batch, temperature, true)
    }

    /// Logits of the next token at the tokens that are read, a row of V for each. Holds (M, V): for looking at few tokens.
    ///
    /// # Errors
    /// A row that does not fit the model, by name.
    pub fn logits(&self, batch: &TokenBatch, read: Read) -> Result<Vec<Vec<f32>>> {
        let v = self.config().vocab_size;
        let logits = match self.device() {
            Device::Cpu => self.host_logits(batch, read)?,
            #[cfg(feature = "cuda")]
            Device::Cuda(gpu) => cuda::policy::all_logits(self, &gpu, batch, read)?,
        };
        Ok(logits.chunks_exact(v).map(<[f32]>::to_vec).collect())
    }

    fn host_logits(&self, batch: &TokenBatch, read: Read) -> Result<Vec<f32>> {
        let pass = self.pass(batch, read, false)?;
        let (v, c) = (self.config().vocab_size, self.config().hidden_size);
        let m = pass.hidden().len() / c;
        let mut logits = vec![0.0; m * v];
        multiply(
            MatrixMut::new(&mut logits, m, v),
            Matrix::new(pass.hidden(), m, c),
            Matrix::new(self.output_weight(), v, c).t(),
            Product::set(rayon::current_num_threads()),
        );
        self.config().logits().finish(&mut logits);
        Ok(logits)
    }

    fn head<'a>(&'a self, targets: &'a [u32], temperature: f64) -> Head<'a, f32> {
        let (v, c) = (self.config().vocab_size, self.config().hidden_size);
        Head {
            weight: Matrix::new(self.output_weight(), v, c),
            targets,
            temperature,
            form: self.config().logits(),
            threads: rayon::current_num_threads(),
        }
    }
}

impl PolicyPass {
    fn new(model: &CausalLm, batch: &TokenBatch, temperature: f64, keep: bool) -> Result<Self> {
        if !(temperature.is_finite() && temperature > 0.0) {
            return Err(Error::internal(format!(
                "log-probabilities: the temperature is {temperature}; a number above 0 is accepted"
            )));
        }
        match model.device() {
            Device::Cpu => HostWay::pass(model, batch, temperature, keep),
            #[cfg(feature = "cuda")]
            Device::Cuda(gpu) => {
                let (said, way) = cuda::policy::log_probs(model, &gpu, batch, temperature, keep)?;
                let way = Way::Cuda(Box::new(way));
                Ok(Self { said, way })
            }
        }
    }

    /// Log-probability of every response token, (M,), nats.
    pub fn logprobs(&self) -> &[f32] {
        &self.said.logprobs
    }

    /// Entropy of the distribution that every response token came from, (M,), nats.
    pub fn entropy(&self) -> &[f32] {
        &self.said.entropy
    }

    /// Adds the gradients of the parameters of the policy that the batch went through, given those of a loss by the
    /// log-probabilities and, where it depends on them, by the entropies, (M,) each.
    ///
    /// # Errors
    /// Gradients of another length.
    pub fn backward(
        self,
        model: &CausalLm,
        d_logprobs: &[f32],
        d_entropy: Option<&[f32]>,
        gradients: &mut Gradients,
    ) -> Result<()> {
        for given in [Some(d_logprobs), d_entropy].into_iter().flatten() {
            check_length(given, self.said.logprobs.len())?;
        }
        match self.way {
            Way::Host(way) => {
                way.backward(model, d_logprobs, d_entropy, gradients.part(0));
                Ok(())
            }
            #[cfg(feature = "cuda")]
            Way::Cuda(way) => way.backward(model, d_logprobs, d_entropy, gradients.on_gpu(0)),
        }
    }
}

impl HostWay {
    fn pass(
        model: &CausalLm,
        batch: &TokenBatch,
        temperature: f64,
        keep: bool,
    ) -> Result<PolicyPass> {
        let pass = model.pass(batch, Read::Predicting, keep)?;
        let targets = batch.responses().values().to_vec();
        let head = model.head(&targets, temperature);
        let mut logits = model.pool.take(head.logits_len());
        let mut room = model.pool.take(head.room_len());
        let said = head.forward(pass.hidden(), &mut logits, &mut room);
        drop(room);
        Ok(PolicyPass {
            said: LogProbs {
                logprobs: said.logprobs.clone(),
                entropy: said.entropy.clone(),
            },
            way: Way::Host(Box::new(Self {
                pass,
                targets,
                temperature,
                logits,
                said,
            })),
        })
    }

    fn backward(
        mut self,
        model: &CausalLm,
        d_logprobs: &[f32],
        d_entropy: Option<&[f32]>,
        gradients: &mut [f32],
    ) {
        let head = model.head(&self.targets, self.temperature);
        let d_weight = match model.adapter() {
            Some(_) => None,
            None if model.config().tie_word_embeddings => {
                Some(&mut gradients[..head.weight.rows() * head.weight.columns()])
            }
            None => {
                let first = gradients.len() - head.weight.rows() * head.weight.columns();
                Some(&mut gradients[first..])
            }
        };
        let mut room = model.pool.take(head.room_len());
        let mut d_hidden = model.pool.take(self.pass.hidden().len());
        head.backward(
            &self.said,
            self.pass.hidden(),
            (d_logprobs, d_entropy),
            (&mut self.logits, &mut room),
            &mut d_hidden,
            d_weight,
        );
        // Large for a large vocabulary, and done with.
        drop((self.logits, room));
        model.backward(self.pass, &d_hidden, gradients);
    }
}

/// Refuses a gradient that is not one value for each of the model's outputs.
pub(super) fn check_length(gradient: &[f32], outputs: usize) -> Result<()> {
    if gradient.len() == outputs {
        return Ok(());
    }
    Err(Error::internal(format!(
        "a gradient of {} elements does not fit {outputs} outputs of the model",
        gradient.len()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture;

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
            alone.extend(model.log_probs(&batch, 0.7)?.logprobs);
        }
        let together = model.log_probs(&together, 0.7)?.logprobs;
        assert_eq!(together.len(), 7);
        for (a, b) in together.iter().zip(&alone) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
        Ok(())
    }

    #[test]
    fn every_parameter_gets_a_gradient() -> Result<()> {
        for tied in [false, true] {
            let model = fixture::model(tied)?;
            let mut gradients = Gradients::zeros(&model)?;
            let pass = model.log_probs_pass(&fixture::batch(), 1.0)?;
            pass.backward(&model, &[1.0; 5], None, &mut gradients)?;
            for entry in model.parameters().entries() {
                let gradient = &gradients.part(0)[entry.range.clone()];
                assert!(
                    gradient.iter().any(|&g| g != 0.0),
                    "{} has a gradient of zero",
                    entry.name
                );
            }
        }
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_refused() -> Result<()> {
        let model = fixture::model(true)?;
        let pass = model.log_probs_pass(&fixture::batch(), 1.0)?;
        let error = pass.backward(&model, &[1.0], None, &mut Gradients::zeros(&model)?);
        let text = error.expect_err("five response tokens").to_string();
        assert!(text.contains("1 elements does not fit 5 outputs"), "{text}");
        for temperature in [0.0, f64::NAN] {
            let error = model.log_probs(&fixture::batch(), temperature);
            let text = error.expect_err("no temperature").to_string();
            assert!(text.contains("the temperature is"), "{text}");
        }
        Ok(())
    }
}
