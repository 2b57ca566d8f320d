//! Sampling responses from a model, many rows at a time.
//! How is said where it is done: `generate/workers.rs` on the processor, `cuda/decoder.rs` on a GPU.

mod workers;

use std::sync::atomic::AtomicBool;

use finegrain_sdk::rng::Stream;

use super::causal_lm::{CausalLm, check_row};
use super::config::CausalLmConfig;
#[cfg(feature = "cuda")]
use super::cuda::decoder::DeviceDecoder;
use super::decoder::HostDecoder;
use super::sampling::Sampling;
use super::sampling_weights::SamplingWeights;
use crate::device::Device;
use crate::error::{Error, Result};

/// One response.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Generated {
    /// The response's tokens, with the EOS that ended it where one did.
    pub ids: Vec<u32>,
    /// Log-probability of each token, nats, under the whole distribution at the sampling temperature (1 where that is 0).
    pub logprobs: Vec<f32>,
    /// Entropy of the distribution that each token was drawn from, nats, over the whole vocabulary at that temperature; of a GPU,
    /// which does not say, empty.
    pub entropy: Vec<f32>,
    /// Whether it ended by EOS; otherwise it was cut at `max_new_tokens`.
    pub ended: bool,
}

/// A response to each prompt; row `i` draws from `stream.index(i)`, one number a token.
///
/// # Errors
/// Settings out of range, an empty prompt, a prompt that leaves no room for `max_new_tokens`, an id outside the
/// vocabulary, logits that are not finite, an interrupt.
pub fn generate(
    model: &CausalLm,
    prompts: &[Vec<u32>],
    sampling: &Sampling,
    stream: &Stream,
    cancel: &AtomicBool,
) -> Result<Vec<Generated>> {
    Decoder::new(model, sampling.weights)?.generate(prompts, sampling, stream, cancel)
}

/// A model laid out for sampling, for several calls. Later updates of the model do not reach it.
pub struct Decoder(Kind);

enum Kind {
    Host(HostDecoder),
    #[cfg(feature = "cuda")]
    Cuda(DeviceDecoder),
}

impl Decoder {
    /// Lays a model out where it is. On the processor its weights are copied into the format `weights`, an adapter merged into
    /// them; on a GPU they are read as they are, in `device.dtype`.
    ///
    /// # Errors
    /// Another format than f32 on a GPU.
    pub fn new(model: &CausalLm, weights: SamplingWeights) -> Result<Self> {
        match model.device() {
            Device::Cpu => Ok(Self(Kind::Host(HostDecoder::new(model, weights)?))),
            #[cfg(feature = "cuda")]
            Device::Cuda(_) if weights.rounds() => Err(Error::input(format!(
                "sampling.weights = \"{weights}\" is for the processor; on a GPU weights are kept as device.dtype says"
            ))
            .hint("leave out sampling.weights")),
            #[cfg(feature = "cuda")]
            Device::Cuda(gpu) => Ok(Self(Kind::Cuda(DeviceDecoder::new(model, gpu)))),
        }
    }

    fn config(&self) -> &CausalLmConfig {
        match &self.0 {
            Kind::Host(decoder) => decoder.config(),
            #[cfg(feature = "cuda")]
            Kind::Cuda(decoder) => decoder.model().config(),
        }
    }

    fn weights(&self) -> SamplingWeights {
        match &self.0 {
            Kind::Host(decoder) => decoder.weights(),
            #[cfg(feature = "cuda")]
            Kind::Cuda(_) => SamplingWeights::F32,
        }
    }

    /// [`generate`] with weights that are laid out already, for several calls with the same model. `sampling.weights` is
    /// their format.
    pub fn generate(
        &self,
        prompts: &[Vec<u32>],
        sampling: &Sampling,
        stream: &Stream,
        cancel: &AtomicBool,
    ) -> Result<Vec<Generated>> {
        self.check(prompts, sampling)?;
        if sampling.max_new_tokens == 0 || prompts.is_empty() {
            return Ok(vec![Generated::default(); prompts.len()]);
        }
        let eos = match sampling.eos.as_slice() {
            [] => &self.config().eos_token_id,
            eos => eos,
        };
        match &self.0 {
            Kind::Host(decoder) => {
                workers::on_host(decoder, prompts, (sampling, eos), stream, cancel)
            }
            #[cfg(feature = "cuda")]
            Kind::Cuda(decoder) => decoder.generate(prompts, (sampling, eos), stream, cancel),
        }
    }

    fn check(&self, prompts: &[Vec<u32>], sampling: &Sampling) -> Result<()> {
        sampling.validate("sampling")?;
        if sampling.weights != self.weights() {
            return Err(Error::input(format!(
                "sampling.weights is {}, but these weights are laid out as {}",
                sampling.weights,
                self.weights()
            )));
        }
        for (row, prompt) in prompts.iter().enumerate() {
            if prompt.is_empty() {
                return Err(
                    Error::input(format!("the prompt of row {row} has no token"))
                        .hint("a prompt begins with the BOS token"),
                );
            }
            let length = prompt.len().saturating_add(sampling.max_new_tokens);
            check_row(self.config(), row, prompt, length).map_err(|error| {
                error.context(format!(
                    "a prompt of {} tokens with max_new_tokens of {}",
                    prompt.len(),
                    sampling.max_new_tokens
                ))
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::ragged::TokenBatch;
    use crate::model::{SamplingWeights, fixture};

    static GO: AtomicBool = AtomicBool::new(false);

    fn prompts() -> Vec<Vec<u32>> {
        (0..70u32)
            .map(|row| (0..=row % 9).map(|i| (row * 3 + i * i) % 11).collect())
            .collect()
    }

    fn sampling(temperature: f64) -> Sampling {
        Sampling::at_temperature(temperature, 20, vec![2])
    }

    #[test]
    fn log_probabilities_are_those_of_the_model() -> Result<()> {
        let (model, prompts) = (fixture::model(true)?, prompts());
        for temperature in [1.0, 0.6] {
            let rows = generate(
                &model,
                &prompts,
                &sampling(temperature),
                &Stream::new(1),
                &GO,
            )?;
            let mut batch = TokenBatch::new();
            prompts
                .iter()
                .zip(&rows)
                .for_each(|(prompt, row)| batch.push(prompt, &row.ids));
            let expected = model.log_probs(&batch, temperature)?.logprobs;
            let found: Vec<f32> = rows.iter().flat_map(|row| row.logprobs.clone()).collect();
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(&expected) {
                assert!((found - expected).abs() < 1e-4, "{found} {expected}");
            }
            assert!(rows.iter().any(|row| row.ended) && rows.iter().any(|row| !row.ended));
            for row in &rows {
                let ends = row.ids.iter().filter(|id| **id == 2).count();
                assert_eq!(
                    (row.ended, ends),
                    (row.ids.last() == Some(&2), usize::from(row.ended))
                );
                assert!(row.ended || row.ids.len() == 20);
            }
        }
        Ok(())
    }

    /// Of models whose weights are laid out for that kernel, in rows of any length beside any others.
    #[test]
    fn in_f32_what_sampling_says_has_the_bits_of_the_training_pass() -> Result<()> {
        let large = crate::model::CausalLmConfig {
            hidden_size: 264,
            intermediate_size: 1100,
            vocab_size: 3001,
            max_position_embeddings: 64,
            ..fixture::config(false)
        };
        let models = [
            fixture::model(true)?,
            fixture::model(false)?,
            CausalLm::new(large, &Stream::new(3))?,
        ];
        let prompts = prompts();
        let too_large = crate::model::CausalLmConfig {
            intermediate_size: 1500,
            ..models[2].config().clone()
        };
        let too_large = CausalLm::new(too_large, &Stream::new(3))?;
        assert!(!too_large.samples_exactly(&sampling(1.0)));
        for model in models {
            for temperature in [1.0, 0.6] {
                let sampling = sampling(temperature);
                assert!(model.samples_exactly(&sampling));
                let rows = generate(&model, &prompts[..20], &sampling, &Stream::new(1), &GO)?;
                let mut batch = TokenBatch::new();
                prompts
                    .iter()
                    .zip(&rows)
                    .for_each(|(prompt, row)| batch.push(prompt, &row.ids));
                let expected = model.log_probs(&batch, temperature)?;
                let logprobs = rows.iter().flat_map(|row| row.logprobs.clone());
                let entropy = rows.iter().flat_map(|row| row.entropy.clone());
                assert!(logprobs.eq(expected.logprobs.iter().copied()));
                assert!(entropy.eq(expected.entropy.iter().copied()));
            }
        }
        Ok(())
    }

    #[test]
    fn a_row_has_the_same_bits_in_every_batch_and_at_every_number_of_threads() -> Result<()> {
        let (model, prompts) = (fixture::model(false)?, prompts());
        let stream = Stream::new(9);
        let run = |threads: usize, prompts: &[Vec<u32>], weights| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let sampling = Sampling {
                weights,
                ..sampling(1.0)
            };
            pool.expect("a thread pool")
                .install(|| generate(&model, prompts, &sampling, &stream, &GO))
        };
        for weights in [
            SamplingWeights::F32,
            SamplingWeights::Bf16,
            SamplingWeights::Q8,
        ] {
            let all = run(1, &prompts, weights)?;
            assert_eq!(run(3, &prompts, weights)?, all);
            assert_eq!(run(2, &prompts[..5], weights)?, all[..5]);
            assert_ne!(
                generate(&model, &prompts, &sampling(1.0), &Stream::new(10), &GO)?,
                all
            );
        }
        Ok(())
    }

    #[test]
    fn greedy_is_the_likeliest_token_of_a_full_recomputation() -> Result<()> {
        let model = fixture::model(true)?;
        let (prompt, length) = (vec![1, 7], 12);
        // No token of the vocabulary ends this one.
        let greedy = Sampling::greedy(length, vec![u32::MAX]);
        let rows = generate(
            &model,
            std::slice::from_ref(&prompt),
            &greedy,
            &Stream::new(0),
            &GO,
        )?;
        let mut ids = prompt;
        for (step, expected) in rows[0].ids.iter().enumerate() {
            let mut batch = TokenBatch::new();
            // Every token of the vocabulary as the next one: the likeliest is the one with the highest log-probability.
            (0..11).for_each(|next| batch.push(&ids, &[next]));
            let logprobs = model.log_probs(&batch, 1.0)?.logprobs;
            let best = (0..11)
                .max_by(|a, b| logprobs[*a].total_cmp(&logprobs[*b]))
                .expect("a token");
            assert_eq!(best as u32, *expected, "step {step}");
            assert!((logprobs[best] - rows[0].logprobs[step]).abs() < 1e-5);
            ids.push(*expected);
        }
        assert_eq!(ids.len(), 2 + length);
        Ok(())
    }

    #[test]
    fn long_prompts_are_fed_over_several_steps() -> Result<()> {
        let config = crate::model::CausalLmConfig {
            max_position_embeddings: 512,
            ..fixture::config(true)
        };
        let model = CausalLm::new(config, &Stream::new(3))?;
        let prompts: Vec<Vec<u32>> = (0..3)
            .map(|row| (0..300).map(|i| (i * i + row) % 11).collect())
            .collect();
        let all = generate(&model, &prompts, &sampling(1.0), &Stream::new(4), &GO)?;
        let alone = generate(&model, &prompts[..1], &sampling(1.0), &Stream::new(4), &GO)?;
        assert_eq!(all[..1], alone);
        let mut batch = TokenBatch::new();
        batch.push(&prompts[0], &alone[0].ids);
        let expected = model.log_probs(&batch, 1.0)?.logprobs;
        for (found, expected) in alone[0].logprobs.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-4, "{found} {expected}");
        }
        Ok(())
    }

    #[test]
    fn what_cannot_be_answered_is_refused() -> Result<()> {
        let model = fixture::model(true)?;
        let run = |prompt: Vec<u32>, sampling: &Sampling, cancel: bool| {
            generate(
                &model,
                &[vec![1], prompt],
                sampling,
                &Stream::new(0),
                &AtomicBool::new(cancel),
            )
            .expect_err("refused")
        };
        let error = run(vec![], &sampling(1.0), false);
        assert!(error.to_string().contains("row 1 has no token"), "{error}");
        let error = run(vec![1; 13], &sampling(1.0), false);
        assert!(error.to_string().contains("row 1 has 33 tokens"), "{error}");
        let error = run(vec![11], &sampling(1.0), false);
        assert!(error.to_string().contains("token id 11"), "{error}");
        for (temperature, top_p) in [(-1.0, 1.0), (f64::NAN, 1.0), (1.0, 0.0), (1.0, 1.5)] {
            let wrong = Sampling {
                top_p,
                ..sampling(temperature)
            };
            assert_eq!(run(vec![1], &wrong, false).exit_code(), 2);
        }
        assert_eq!(run(vec![1], &sampling(1.0), true).exit_code(), 130);
        let q8 = Sampling {
            weights: SamplingWeights::Q8,
            ..sampling(1.0)
        };
        let error = Decoder::new(&model, SamplingWeights::Bf16)?
            .generate(&[vec![1]], &q8, &Stream::new(0), &GO)
            .expect_err("refused");
        assert!(
            error.to_string().contains("sampling.weights is q8") && error.exit_code() == 2,
            "{error}"
        );
        let nothing = Sampling {
            max_new_tokens: 0,
            ..sampling(1.0)
        };
        assert_eq!(
            generate(&model, &[vec![1]], &nothing, &Stream::new(0), &GO)?,
            [Generated::default()]
        );
        Ok(())
    }
}
