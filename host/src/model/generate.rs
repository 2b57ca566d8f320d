//! Sampling responses from a model, many rows at a time.
//!
//! On the processor each thread keeps a number of rows going: a step feeds the next token of every row that is being answered and as
//! many prompt tokens of new rows as fit, and a row that ends makes room for the next one. A row's tokens depend on its
//! prompt, the weights and its own random stream alone, to the bit; not on the batch, the threads or their timing.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use finegrain_sdk::rng::{ChaCha8Rng, Stream};
use rand::RngExt as _;
use rayon::prelude::*;

use super::config::LlamaConfig;
#[cfg(feature = "cuda")]
use super::cuda::decoder::DeviceDecoder;
use super::decoder::{Entry, HostDecoder, Scratch};
use super::kv_cache::KvCache;
use super::llama::{Llama, check_row};
use super::sampler::Sampler;
use super::sampling::Sampling;
use super::sampling_weights::SamplingWeights;
use crate::device::Device;
use crate::error::{Error, Result};

/// Rows that a thread keeps going at most: enough that a product's weights are read once for many rows.
const MAX_SLOTS: usize = 32;

/// Tokens that one step feeds at most, which bounds its buffers; above `MAX_SLOTS`, so that prompts always move on.
const STEP_TOKENS: usize = 128;

/// Weights above this many bytes leave the caches of a core: threads then share each product of one group of rows
/// instead of reading all weights once each for rows of their own.
const SHARED_BYTES: usize = 32 << 20;

/// One response.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Generated {
    /// The response's tokens, with the EOS that ended it where one did.
    pub ids: Vec<u32>,
    /// Log-probability of each token, nats, under the whole distribution at the sampling temperature (1 where that is 0).
    pub logprobs: Vec<f32>,
    /// Whether it ended by EOS; otherwise it was cut at `max_new_tokens`.
    pub ended: bool,
}

/// A response to each prompt; row `i` draws from `stream.index(i)`, one number a token.
///
/// # Errors
/// Settings out of range, an empty prompt, a prompt that leaves no room for `max_new_tokens`, an id outside the
/// vocabulary, logits that are not finite, an interrupt.
pub fn generate(
    model: &Llama,
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
    pub fn new(model: &Llama, weights: SamplingWeights) -> Result<Self> {
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

    fn config(&self) -> &LlamaConfig {
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
            Kind::Host(decoder) => on_host(decoder, prompts, (sampling, eos), stream, cancel),
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

/// A response to each prompt, by workers that keep rows of their own going or share each product.
fn on_host(
    decoder: &HostDecoder,
    prompts: &[Vec<u32>],
    (sampling, eos): (&Sampling, &[u32]),
    stream: &Stream,
    cancel: &AtomicBool,
) -> Result<Vec<Generated>> {
    let workers = if decoder.bytes() > SHARED_BYTES {
        1
    } else {
        rayon::current_num_threads()
    };
    let workers = workers.min(prompts.len());
    let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
    let work = Work {
        decoder,
        prompts,
        sampling,
        eos,
        stream,
        cancel,
        next: AtomicUsize::new(0),
        slots: prompts.len().div_ceil(workers).min(MAX_SLOTS),
        room: longest + sampling.max_new_tokens,
    };
    let parts: Vec<Vec<(usize, Generated)>> = (0..workers)
        .into_par_iter()
        .map(|_| work.run())
        .collect::<Result<_>>()?;
    let mut rows = vec![Generated::default(); prompts.len()];
    for (row, generated) in parts.into_iter().flatten() {
        rows[row] = generated;
    }
    Ok(rows)
}

/// What the workers of one call share.
struct Work<'a> {
    decoder: &'a HostDecoder,
    prompts: &'a [Vec<u32>],
    sampling: &'a Sampling,
    eos: &'a [u32],
    stream: &'a Stream,
    cancel: &'a AtomicBool,
    /// The next prompt that nobody has taken.
    next: AtomicUsize,
    /// Rows that a worker keeps going.
    slots: usize,
    /// Tokens of the longest row.
    room: usize,
}

/// A row that is being answered.
struct Row<'a> {
    index: usize,
    prompt: &'a [u32],
    /// How many of its tokens the cache has.
    fed: usize,
    rng: ChaCha8Rng,
    out: Generated,
    done: bool,
}

impl Row<'_> {
    fn tokens(&self) -> usize {
        self.prompt.len() + self.out.ids.len()
    }

    fn token(&self, position: usize) -> u32 {
        match self.prompt.get(position) {
            Some(id) => *id,
            None => self.out.ids[position - self.prompt.len()],
        }
    }
}

impl<'a> Work<'a> {
    /// One worker: answers prompts until none is left.
    fn run(&self) -> Result<Vec<(usize, Generated)>> {
        let mut finished = Vec::new();
        let mut rows: Vec<Row<'a>> = Vec::new();
        // The cache of the row in the same place, and behind them those that wait for another row.
        let mut caches: Vec<KvCache> = Vec::new();
        let mut entries = Vec::new();
        let mut sampler = Sampler::default();
        let mut scratch = Scratch::default();
        loop {
            if self.cancel.load(Ordering::Relaxed) {
                return Err(Error::interrupted());
            }
            while rows.len() < self.slots
                && let Some(row) = self.take()
            {
                rows.push(row);
                if caches.len() < rows.len() {
                    caches.push(KvCache::new(self.decoder.config(), self.room));
                }
            }
            if rows.is_empty() {
                return Ok(finished);
            }
            // (row, entry) of the rows that are fed to their end and get a token in this step.
            let ready = Self::fill(&mut rows, &mut entries);
            self.decoder.forward(&entries, &mut caches, &mut scratch);
            let chosen = ready.iter().map(|(_, entry)| *entry);
            let logits = self.decoder.logits(chosen, &mut scratch);
            for ((slot, _), logits) in ready.iter().zip(logits) {
                self.extend(&mut rows[*slot], logits, &mut sampler)?;
            }
            for slot in (0..rows.len()).rev() {
                if rows[slot].done {
                    // The last row takes the place, and its cache with it.
                    caches.swap(slot, rows.len() - 1);
                    let row = rows.swap_remove(slot);
                    finished.push((row.index, row.out));
                }
            }
        }
    }

    fn take(&self) -> Option<Row<'a>> {
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        let prompt = self.prompts.get(index)?;
        Some(Row {
            index,
            prompt,
            fed: 0,
            rng: self.stream.index(index as u64).rng(),
            out: Generated::default(),
            done: false,
        })
    }

    /// Chooses the tokens of the next step, and says which rows it brings to their end: (row, entry).
    fn fill(rows: &mut [Row<'_>], entries: &mut Vec<Entry>) -> Vec<(usize, usize)> {
        let mut ready = Vec::with_capacity(rows.len());
        entries.clear();
        for (slot, row) in rows.iter_mut().enumerate() {
            let tokens = row.tokens();
            let end = tokens.min(row.fed + STEP_TOKENS.saturating_sub(entries.len()));
            entries.extend((row.fed..end).map(|position| Entry {
                slot,
                id: row.token(position),
                position,
            }));
            if end == tokens && end > row.fed {
                ready.push((slot, entries.len() - 1));
            }
            row.fed = end;
        }
        ready
    }

    /// Samples the next token of a row.
    fn extend(&self, row: &mut Row<'_>, logits: &[f32], sampler: &mut Sampler) -> Result<()> {
        let Row { rng, out, .. } = row;
        let (id, logprob) = sampler
            .sample(logits, self.sampling, || rng.random::<f64>())
            .map_err(|error| error.context(format!("row {}", row.index)))?;
        out.ids.push(id);
        out.logprobs.push(logprob);
        out.ended = self.eos.contains(&id);
        row.done = out.ended || out.ids.len() == self.sampling.max_new_tokens;
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
        let config = crate::model::LlamaConfig {
            max_position_embeddings: 512,
            ..fixture::config(true)
        };
        let model = Llama::new(config, &Stream::new(3))?;
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
