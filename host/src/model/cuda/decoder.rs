//! Sampling responses on a GPU: many rows at once, each with a place (slot) in a KV cache. Prompts go through as a pass does;
//! then every step feeds the newest token of all rows and draws the next on the device. The host looks at what has ended
//! only every [`STEPS`] steps and records a step as a graph, so no token waits for it.
//!
//! A row draws from its own stream, as on the processor. Its bits also depend on how many rows go together, which follows
//! from the call and the GPU's memory alone.
//!
//! Legend: R rows of a step, K key/value heads, D head size, L layers, V vocabulary.

mod cache;
mod state;
mod step;
mod steps;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use finegrain_sdk::rng::Stream;

use self::cache::Cache;
use self::state::State;
use self::step::Step;
use super::network::Network;
use crate::device::Gpu;
use crate::error::{Error, Result};
use crate::model::{CausalLm, Generated, Sampling};

/// Rows at once, at most.
pub(crate) const SLOTS: usize = 512;

/// The cache takes at most this share of the GPU's memory.
const CACHE_SHARE: f64 = 0.25;

/// The least temperature above 0.
const LEAST_TEMPERATURE: f64 = 1e-30;

/// Steps between two looks at which rows have ended.
const STEPS: usize = 16;

/// Rows leave the step once so large a share of its rows has ended; before, those that have ended go along idly.
const ENDED: f64 = 0.25;

/// A model that samples on its GPU.
pub(in crate::model) struct DeviceDecoder {
    model: CausalLm,
    gpu: Arc<Gpu>,
    /// Rows at once, at most.
    most: usize,
}

impl DeviceDecoder {
    pub(in crate::model) fn new(model: &CausalLm, gpu: Arc<Gpu>) -> Self {
        Self {
            model: model.clone(),
            gpu,
            most: SLOTS,
        }
    }

    pub(in crate::model) fn model(&self) -> &CausalLm {
        &self.model
    }

    /// A response to each prompt; `sampling` and the prompts have been checked, and `eos` ends a response.
    ///
    /// # Errors
    /// Logits that are not finite, by row; no memory; an interrupt.
    pub(in crate::model) fn generate(
        &self,
        prompts: &[Vec<u32>],
        (sampling, eos): (&Sampling, &[u32]),
        stream: &Stream,
        cancel: &AtomicBool,
    ) -> Result<Vec<Generated>> {
        // 1/T of less than this is no number in f32.
        if sampling.temperature > 0.0 && sampling.temperature < LEAST_TEMPERATURE {
            return Err(Error::input(format!(
                "sampling.temperature is {}; on a GPU 0 (the likeliest token) or at least {LEAST_TEMPERATURE} is accepted",
                sampling.temperature
            )));
        }
        let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
        let room = longest + sampling.max_new_tokens;
        let network = Network::new(&self.model, &self.gpu, room)?;
        let bytes = Cache::bytes_of_a_slot(&network, room);
        let affordable = (CACHE_SHARE * self.gpu.facts().memory as f64) as usize / bytes.max(1);
        let slots = prompts.len().min(self.most).min(affordable.max(1));
        let mut cache = Cache::new(&network, slots, room)?;
        let mut step = Step::new(&network, slots)?;
        let mut rows = Vec::with_capacity(prompts.len());
        for (group, prompts) in prompts.chunks(slots).enumerate() {
            let first = group * slots;
            let mut state =
                State::new(&self.gpu, prompts, (sampling, eos), stream, (first, slots))?;
            cache.fill(&network, self.model.config(), prompts, |hidden, slots| {
                step.first(&network, hidden, slots, &mut state)
            })?;
            self.go_on(&network, &mut cache, &mut step, &mut state, cancel)
                .map_err(|error| match state.invalid() {
                    Ok(Some(slot)) => error.context(format!("row {}", first + slot)),
                    _ => error,
                })?;
            rows.extend(state.responses()?);
        }
        Ok(rows)
    }

    /// Steps until every row has ended.
    fn go_on(
        &self,
        network: &Network<'_>,
        cache: &mut Cache,
        step: &mut Step,
        state: &mut State,
        cancel: &AtomicBool,
    ) -> Result<()> {
        let mut asked = 0;
        loop {
            if cancel.load(Ordering::Relaxed) {
                return Err(Error::interrupted());
            }
            state.check()?;
            let going = state.going()?;
            if going.is_empty() {
                return Ok(());
            }
            if asked == 0 || (going.len() as f64) <= (1.0 - ENDED) * asked as f64 {
                asked = going.len();
                state.set_active(&going)?;
                // Once as it is: kernels are loaded and sizes of products chosen, which cannot be recorded.
                step.run(network, cache, state)?;
                let graph = self.gpu.record(|| step.run(network, cache, state))?;
                (1..STEPS).try_for_each(|_| graph.launch(&self.gpu))?;
                step.keep(graph);
            } else {
                (0..STEPS).try_for_each(|_| step.again(&self.gpu))?;
            }
        }
    }
}
