//! What sampling holds beside the models: keys and values of the rows that are answered, logits of their next tokens, and on
//! the CPU a copy of the weights laid out for it.

use super::activations::Passes;
use super::machine::Machine;
use super::parts::Parts;
use super::rows::{MicroBatch, Row};
use super::sizes::Sizes;
use crate::model::SamplingWeights;
use crate::model::block::{Activations, Scratch, Width};

/// A GPU: rows at once, the cache's share of the memory (one part of so many), tokens of prompts that go through together
/// (`model/cuda/decoder`).
pub(super) const GPU_ROWS: u64 = 512;
const GPU_SHARE: u64 = 4;
const GPU_PROMPTS: u64 = 1 << 14;

/// The CPU: rows of a worker, tokens of a step, the bytes of weights above which there is one worker, and what room for
/// tokens is rounded up to (`model/generate.rs`, `model/kv_cache.rs`).
const CPU_ROWS: u64 = 32;
const CPU_STEP: u64 = 128;
const CPU_SHARED: u64 = 32 << 20;
const CPU_ROOM: u64 = 32;

const F32: u64 = 4;

/// Rows that are sampled in one call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sampling {
    pub(super) rows: u64,
    pub(super) row: Row,
    pub(super) weights: SamplingWeights,
}

impl Sampling {
    /// Rows whose keys and values are held at a time.
    pub(super) fn at_once(&self, sizes: &Sizes, machine: &Machine) -> u64 {
        if machine.is_gpu() {
            let slot = self.row.tokens() * sizes.layers * sizes.key_value_width * machine.real();
            let share = machine.memory.map(|memory| memory / GPU_SHARE);
            let affordable = share.map_or(u64::MAX, |share| (share / slot.max(1)).max(1));
            self.rows.min(GPU_ROWS).min(affordable)
        } else {
            let (workers, slots) = self.workers(sizes, machine);
            workers * slots
        }
    }

    /// The CPU's workers, and the rows that each keeps going.
    fn workers(&self, sizes: &Sizes, machine: &Machine) -> (u64, u64) {
        let workers = if self.laid_out(sizes) > CPU_SHARED {
            1
        } else {
            machine.threads.min(self.rows).max(1)
        };
        (workers, self.rows.div_ceil(workers).min(CPU_ROWS))
    }

    /// Bytes of the matrices that the CPU's decoder multiplies with.
    fn laid_out(&self, sizes: &Sizes) -> u64 {
        (sizes.matrices() + sizes.table()) * self.weights.bits() as u64 / 8
    }

    /// The CPU's copy of the weights: matrices and head in the format of sampling, norms and a table that is not the head f32.
    pub(super) fn decoder(&self, sizes: &Sizes) -> Parts {
        let table = if sizes.tied { 0 } else { sizes.table() };
        Parts {
            parameters: self.laid_out(sizes) + F32 * (sizes.vectors() + table),
            ..Parts::default()
        }
    }

    /// Everything that is held while rows are sampled, beside the models.
    pub(super) fn parts(&self, passes: Passes<'_>) -> Parts {
        let (sizes, machine) = (passes.sizes, passes.machine);
        let of_token = sizes.layers * sizes.key_value_width;
        let rows = self.at_once(sizes, machine);
        if machine.is_gpu() {
            // Buffers of a step, beside those of the prompts that go through before.
            // The newest tokens' stream after the final norm, and a layer's buffers.
            let rank = sizes
                .slots()
                .iter()
                .map(|slot| slot.rank)
                .max()
                .unwrap_or(0);
            let step = sizes.channels + buffers(sizes, rank);
            let prompt = self.row.prompt;
            let prompts = MicroBatch {
                tokens: (rows * prompt).min(GPU_PROMPTS.max(prompt)),
                read: rows.min(GPU_PROMPTS),
                longest: prompt,
            };
            return Parts {
                activations: rows * step * machine.real() + passes.forward(prompts),
                kv_cache: rows * self.row.tokens() * of_token * machine.real(),
                logits: rows * sizes.vocabulary * F32,
                ..Parts::default()
            };
        }
        let (workers, _) = self.workers(sizes, machine);
        let room = self.row.tokens().next_multiple_of(CPU_ROOM);
        // Two residual streams, a sum that is added, and a layer's buffers.
        let step = CPU_STEP * (3 * sizes.channels + buffers(sizes, 0));
        // Scores of the query heads that share a key head.
        let scores = 2 * sizes.query_width / sizes.key_value_width;
        // The sampler has weights and (weight, id) of one row.
        let logits = rows * sizes.vocabulary + 3 * workers * sizes.vocabulary;
        self.decoder(sizes)
            + Parts {
                activations: workers * step * F32,
                kv_cache: rows * (room * (of_token + scores) + CPU_ROOM) * F32,
                logits: logits * F32,
                ..Parts::default()
            }
    }
}

/// Elements a token of the buffers that a layer has while it samples.
fn buffers(sizes: &Sizes, rank: usize) -> u64 {
    let kept = Activations::<Width>::widths(&sizes.of).len(1, 1);
    (kept + Scratch::<Width>::widths(&sizes.of, false, rank).len(1, 1)) as u64
}
