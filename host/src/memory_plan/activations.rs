//! Activations of passes and the logits of a head.
//!
//! What a layer keeps of each token for its way back, what it needs on the way, and what it leaves for the gradients of its weights
//! are the buffers of `model/block/buffers.rs`, counted by their widths; and the stream between layers (C) with its gradient. In the
//! last layer, only keys and values are there for all n tokens; the rest is for the m that are read: hidden states, their gradients
//! and the stream before the final norm (3·C) too.
//!
//! The CPU lays the matrices of small models out once a pass, for the products of that way (`ops/panels.rs`), and for both where
//! activations are computed again on the way back.
//!
//! The CPU works on a layer while the weights of the one above are summed up, so it has two sets of what is left for weights, and
//! one more of what a layer keeps where that is computed again; what is needed on the way is for the chunks under way.

use super::machine::Machine;
use super::rows::MicroBatch;
use super::sizes::Sizes;
use crate::model::block::{Activations, Factors, Scratch, ScratchBack, Width};
use crate::model::{LAID_OUT, Way};
use crate::ops::{log_prob, panels};

/// Elements of a chunk of logits on a GPU.
pub(super) const LOGITS_OF_CHUNK: u64 = 1 << 25;

/// Bytes and rows of a chunk of logits on the CPU (`ops/log_prob.rs`).
const CPU_LOGITS_BYTES: u64 = 4 << 20;
const CPU_LOGITS_ROWS: u64 = 64;

/// Tokens of the CPU's chunks, unless a row is longer (`model/pass/rows.rs`).
const CPU_CHUNK: u64 = 256;

/// Rows of sums at most that a GPU makes of a norm's gradient before it adds them up (`ops/rms_norm/cuda.rs`).
const NORM_SUMS: u64 = 1024;

/// Bytes of a log-sum and of a logit.
const F32: u64 = 4;

/// The passes of one model on one machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passes<'a> {
    pub(super) sizes: &'a Sizes,
    pub(super) machine: &'a Machine,
    pub(super) recompute: bool,
}

impl Passes<'_> {
    fn real(&self) -> u64 {
        self.machine.real()
    }

    /// Bytes that a layer keeps beside its input, of n tokens of which m ask.
    fn layer(&self, n: u64, m: u64) -> u64 {
        let of = &self.sizes.of;
        let kept = Activations::<Width>::widths(of).len(n as usize, m as usize) as u64;
        self.real() * kept + F32 * m * of.attention.heads as u64
    }

    /// Tokens of the chunks that the CPU's threads have under way; all at once on a GPU.
    fn under_way(&self, batch: MicroBatch) -> u64 {
        if self.machine.is_gpu() {
            return batch.tokens;
        }
        batch
            .tokens
            .min(self.machine.threads * CPU_CHUNK.max(batch.longest))
    }

    /// What a pass with a way back holds from its forward half to its backward half.
    pub(super) fn kept(&self, batch: MicroBatch) -> u64 {
        let (of, n, m) = (self.sizes, batch.tokens, batch.read);
        let inputs = self.real() * of.layers * n * of.channels;
        // The stream before the final norm, and hidden states.
        let ends = self.real() * 2 * m * of.channels;
        let rest = if self.recompute {
            0
        } else {
            of.layers.saturating_sub(1) * self.layer(n, n) + self.layer(n, m)
        };
        inputs + ends + rest
    }

    /// The matrices of all layers laid out for the products of one way.
    fn laid_out(&self, way: Way) -> u64 {
        let of = self.sizes;
        if self.machine.is_gpu() || of.matrices() > of.layers * LAID_OUT as u64 {
            return 0;
        }
        let maps = [
            (of.channels, of.query_width),
            (of.channels, of.key_value_width),
            (of.query_width, of.channels),
            (of.channels, 2 * of.feed_forward),
            (of.feed_forward, of.channels),
        ];
        let elements = maps.map(|(inputs, outputs)| match way {
            Way::Forwards => panels::len(inputs as usize, outputs as usize) as u64,
            Way::Backwards => panels::len(outputs as usize, inputs as usize) as u64,
        });
        F32 * of.layers * elements.iter().sum::<u64>()
    }

    /// What the way back holds beside that.
    pub(super) fn backward(&self, batch: MicroBatch) -> u64 {
        let (of, n) = (self.sizes, batch.tokens);
        // Layers that are worked on at a time.
        let layers = if self.machine.is_gpu() {
            1
        } else {
            of.layers.min(2)
        };
        let factors = Factors::<Width>::widths(&of.of, false).len(1, 1) as u64 + 2 * of.ranks();
        let streams = (1 + layers) * of.channels;
        let passing = ScratchBack::<Width>::widths(&of.of, false).len(1, 1) as u64;
        let passing = self.under_way(batch) * passing;
        let again = if self.recompute {
            layers * self.layer(n, n) + self.laid_out(Way::Forwards)
        } else {
            0
        };
        let laid_out = self.laid_out(Way::Backwards);
        let norms = if self.machine.is_gpu() && of.adapter().is_none() {
            F32 * n.min(NORM_SUMS) * of.channels
        } else {
            0
        };
        let hidden = batch.read * of.channels;
        let elements = n * (layers * factors + streams) + passing + hidden;
        self.real() * elements + again + laid_out + norms
    }

    /// Both.
    pub(super) fn training(&self, batch: MicroBatch) -> u64 {
        self.kept(batch) + self.backward(batch)
    }

    /// A pass without a way back: two streams, one layer's activations and what it needs on the way of the tokens under way, all
    /// hidden states that are read, and the weights laid out.
    pub(super) fn forward(&self, batch: MicroBatch) -> u64 {
        let (of, n) = (self.sizes, self.under_way(batch));
        let rank = of.slots().iter().map(|slot| slot.rank).max().unwrap_or(0);
        let room = Scratch::<Width>::widths(&of.of, false, rank).len(1, 1) as u64;
        let elements = n * (2 * of.channels + room) + batch.read * of.channels;
        // A GPU makes the last layer's activations before it drops those that the others have shared.
        let last = if self.machine.is_gpu() {
            self.layer(n, batch.read.min(n))
        } else {
            0
        };
        self.real() * elements + self.layer(n, n) + last + self.laid_out(Way::Forwards)
    }

    /// Logits of the tokens that are read, chunk by chunk: on a GPU f32 and, on the way back, their gradient as reals; on the
    /// CPU the gradient takes their place, and a small head is laid out for its products.
    pub(super) fn logits(&self, batch: MicroBatch, back: bool) -> u64 {
        let (m, v) = (batch.read, self.sizes.vocabulary);
        if self.machine.is_gpu() {
            let gradient = if back { self.real() } else { 0 };
            return (m * v).min(LOGITS_OF_CHUNK.max(v)) * (F32 + gradient);
        }
        let rows = (CPU_LOGITS_BYTES / (F32 * v)).max(CPU_LOGITS_ROWS);
        let channels = self.sizes.channels as usize;
        let laid_out = if log_prob::is_laid_out(v as usize, channels) {
            panels::len(channels, v as usize) as u64
        } else {
            0
        };
        (rows.min(m) * v + laid_out) * F32
    }
}
