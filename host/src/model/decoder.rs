//! A model's weights laid out for generation on the CPU, and one step of it: some tokens of some rows.
//!
//! The layers are `block.rs`'s, with a cache behind attention and weights in one of the formats of `packed.rs`. Every token's result
//! depends on its row alone.
//!
//! Legend: E entries of a step, C channels, H heads, K key/value heads, D head size, V vocabulary.

mod steps;

use std::sync::Arc;

use rayon::prelude::*;

use self::steps::{Packed, Steps};
use super::block::{self, Activations, Stream, Width};
use super::causal_lm::CausalLm;
use super::config::CausalLmConfig;
use super::description::{Dimensions, NormPlace, Place};
use super::kv_cache::KvCache;
use super::packed::PackedMatrix;
use super::sampling_weights::SamplingWeights;
use crate::error::Result;
use crate::ops::rope::{self, Table};
use crate::ops::{pointwise, rms_norm};

/// The weights of a model for generation. Building one copies them, so later updates of the model do not reach it.
pub(super) struct HostDecoder {
    config: CausalLmConfig,
    of: Dimensions,
    weights: SamplingWeights,
    /// (V, C); `None` where the rows of the head are the embedding.
    embedding: Option<Vec<f32>>,
    layers: Vec<block::Layer<Packed, Vec<f32>>>,
    norm: Vec<f32>,
    /// (V, C).
    head: PackedMatrix,
}

/// One token to feed: which cache its row has, its id, and where in the row it stands.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub(super) slot: usize,
    pub(super) id: u32,
    pub(super) position: usize,
}

/// Buffers of a step, kept from one to the next.
#[derive(Default)]
pub(super) struct Scratch {
    /// The residual stream, (E, C); behind the last layer of the entries that ask alone. A layer takes it from the one to the other.
    x: [Vec<f32>; 2],
    kept: Activations<Vec<f32>>,
    room: block::Scratch<Vec<f32>>,
    /// What a product gives before it is added to.
    sum: Vec<f32>,
    logits: Vec<f32>,
}

impl HostDecoder {
    /// Copies the weights of a model into the format `weights`; an adapter is merged into them.
    pub(super) fn new(model: &CausalLm, weights: SamplingWeights) -> Result<Self> {
        let model = &model.merged()?;
        let config = model.config().clone();
        let (of, layout, c) = (config.dimensions(), config.layout(), config.hidden_size);
        let rules = of.layers.par_iter().enumerate();
        let layers = rules.map(|(index, rule)| {
            let values = model.layer_weights(index);
            let map = |place| {
                let map = layout.map(place);
                Packed {
                    matrix: PackedMatrix::new(&values[map.weight.clone()], map.inputs, weights),
                    bias: map.bias.clone().map(|range| values[range].to_vec()),
                }
            };
            let norm = |place| layout.norm(place).map(|range| values[range].to_vec());
            block::Layer::new(Place::ALL.map(map), NormPlace::ALL.map(norm), *rule)
        });
        Ok(Self {
            weights,
            embedding: if config.tie_word_embeddings {
                None
            } else {
                Some(model.embedding_weight().to_vec())
            },
            layers: layers.collect(),
            norm: model.norm_weight().to_vec(),
            head: PackedMatrix::new(model.output_weight(), c, weights),
            of,
            config,
        })
    }

    /// The model's sizes.
    pub(super) fn config(&self) -> &CausalLmConfig {
        &self.config
    }

    /// The format of the weights.
    pub(super) fn weights(&self) -> SamplingWeights {
        self.weights
    }

    /// Bytes of weights that a step reads.
    pub(super) fn bytes(&self) -> usize {
        let maps = self.layers.iter().flat_map(block::Layer::maps);
        maps.map(|map| map.matrix.bytes()).sum::<usize>() + self.head.bytes()
    }

    /// A cache for a row of at most `tokens` tokens.
    pub(super) fn cache(&self, tokens: usize) -> KvCache {
        KvCache::new(self.of.attention, self.layers.len(), tokens)
    }

    /// Feeds tokens: afterwards their keys and values are in the caches, and the states of those that ask for logits, by
    /// their places among `entries` in ascending order, in `scratch`. Entries of the same slot follow each other in the order
    /// of their positions, without gaps.
    ///
    /// # Errors
    /// None on the CPU.
    pub(super) fn forward(
        &self,
        entries: &[Entry],
        asking: &[usize],
        caches: &mut [KvCache],
        scratch: &mut Scratch,
    ) -> Result<()> {
        let (of, c) = (&self.of, self.of.channels);
        self.embed(entries, &mut scratch.x[0]);
        let all: Vec<usize> = (0..entries.len()).collect();
        let positions: Vec<u32> = entries.iter().map(|entry| entry.position as u32).collect();
        let longest = positions.iter().max().map_or(0, |&last| last as usize + 1);
        let tables = of.rotations.iter();
        let rotations: Vec<Arc<Table>> = tables.map(|of| rope::table(of, longest)).collect();
        for (index, layer) in self.layers.iter().enumerate() {
            // Of tokens whose logits nobody wants, the last layer's key and value are all that is needed.
            let last = index + 1 == self.layers.len();
            let asking = if last { asking } else { &all };
            let (n, m) = (entries.len(), asking.len());
            let mut steps = Steps {
                sizes: of.attention,
                rotations: &rotations,
                entries,
                positions: &positions,
                asking,
                layer: index,
                caches,
                sum: &mut scratch.sum,
            };
            let widths = Activations::widths(of);
            let kept = scratch.kept.each_mut().zip(widths);
            let mut kept = kept.map(|it| fitting(it, n, m));
            let widths = block::Scratch::widths(of, m < n, 0);
            let room = scratch.room.each_mut().zip(widths);
            let mut room = room.map(|it| fitting(it, n, m));
            let [x, out] = &mut scratch.x;
            out.resize(m * c, 0.0);
            let stream = Stream::Apart {
                x: &x[..],
                out: Some(&mut out[..]),
            };
            block::forward(
                &mut steps,
                of,
                layer,
                stream,
                (&mut kept, &mut []),
                &mut room,
            )?;
            scratch.x.swap(0, 1);
        }
        Ok(())
    }

    fn embed(&self, entries: &[Entry], x: &mut Vec<f32>) {
        let c = self.of.channels;
        x.clear();
        for entry in entries {
            match &self.embedding {
                Some(table) => x.extend_from_slice(&table[entry.id as usize * c..][..c]),
                None => self.head.extend_with_row(entry.id as usize, x),
            }
        }
        if self.of.embedding != 1.0 {
            pointwise::scale(x, self.of.embedding);
        }
    }

    /// Logits of the entries of the last [`HostDecoder::forward`] that asked, in their order: rows of V.
    pub(super) fn logits<'s>(&self, scratch: &'s mut Scratch) -> std::slice::ChunksExact<'s, f32> {
        let Scratch {
            x: [x, normed],
            logits,
            ..
        } = scratch;
        normed.resize(x.len(), 0.0);
        rms_norm::forward(x, &self.norm, self.of.norm, normed);
        logits.resize(x.len() / self.of.channels * self.of.vocabulary, 0.0);
        self.head.multiply(normed, logits);
        self.of.logits.finish(logits);
        logits.chunks_exact(self.of.vocabulary)
    }
}

/// The beginning of a buffer, long enough for n tokens of which m ask.
fn fitting((buffer, width): (&mut Vec<f32>, Width), n: usize, m: usize) -> &mut [f32] {
    let len = width.len(n, m);
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}
#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::ragged::TokenBatch;
    use crate::model::{Read, fixture};

    /// The logits of a row fed in pieces are those of the differentiable model.
    #[test]
    fn logits_are_those_of_the_model() -> Result<()> {
        for tied in [true, false] {
            let model = fixture::model(tied)?;
            let ids = [1, 4, 5, 9, 10, 3, 3];
            let mut batch = TokenBatch::new();
            batch.push(&ids, &[]);
            let expected = model.logits(&batch, Read::All)?;

            let decoder = HostDecoder::new(&model, SamplingWeights::F32)?;
            let mut caches = [decoder.cache(ids.len())];
            let mut scratch = Scratch::default();
            let mut logits: Vec<Vec<f32>> = Vec::new();
            // In the first piece nobody asks, in the second the last token alone.
            for (piece, asking) in [(0..2, 0..0), (2..4, 1..2), (4..5, 0..1), (5..7, 0..2)] {
                let asking: Vec<usize> = asking.collect();
                let entries: Vec<_> = piece
                    .map(|position| Entry {
                        slot: 0,
                        id: ids[position],
                        position,
                    })
                    .collect();
                decoder.forward(&entries, &asking, &mut caches, &mut scratch)?;
                logits.extend(decoder.logits(&mut scratch).map(<[f32]>::to_vec));
            }
            let expected = &expected[3..];
            assert_eq!(logits.len(), expected.len());
            for (ours, model) in logits.iter().flatten().zip(expected.iter().flatten()) {
                assert!((ours - model).abs() < 2e-5, "{ours} {model}");
            }
        }
        Ok(())
    }
}
