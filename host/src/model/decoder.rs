//! A LLaMA's weights laid out for generation on the CPU, and one step of it: some tokens of some rows, in plain slices.
//!
//! The same arithmetic as `llama`, but with a cache, without a graph, and with little allocation inside the loop. Every
//! token's result depends on its row alone; see `packed`.
//!
//! Legend: E entries of a step, C channels, F feed-forward, H heads, K key/value heads, D head size, V vocabulary.

use rayon::prelude::*;

use super::config::LlamaConfig;
use super::kv_cache::KvCache;
use super::llama::Llama;
use super::packed::PackedMatrix;
use super::sampling_weights::SamplingWeights;
use super::vector;
use crate::error::Result;
use crate::ops::attention::Scoring;
use crate::ops::rope::{self, Direction, Frequencies, Table};

/// The weights of a model for generation. Building one copies them, so later updates of the model do not reach it.
pub(super) struct HostDecoder {
    config: LlamaConfig,
    weights: SamplingWeights,
    /// (V, C); `None` where the rows of the head are the embedding.
    embedding: Option<Vec<f32>>,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    /// (V, C).
    head: PackedMatrix,
}

struct Layer {
    input_norm: Vec<f32>,
    /// Queries, keys and values below each other: (H·D + 2·K·D, C).
    qkv: PackedMatrix,
    output: PackedMatrix,
    post_norm: Vec<f32>,
    /// Gate and up below each other: (2·F, C).
    gate_up: PackedMatrix,
    down: PackedMatrix,
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
    /// The residual stream, (E, C); behind the last layer of the entries that ask alone.
    x: Vec<f32>,
    normed: Vec<f32>,
    wide: Vec<f32>,
    narrow: Vec<f32>,
    update: Vec<f32>,
    logits: Vec<f32>,
}

impl HostDecoder {
    /// Copies the weights of a model into the format `weights`; an adapter is merged into them.
    pub(super) fn new(model: &Llama, weights: SamplingWeights) -> Result<Self> {
        let model = &model.merged()?;
        let config = model.config().clone();
        let c = config.hidden_size;
        let queries = config.num_attention_heads * config.head_dim;
        let pack =
            |matrices: &[&[f32]], inputs: usize| PackedMatrix::new(matrices, inputs, weights);
        let layers = (0..config.num_hidden_layers)
            .into_par_iter()
            .map(|index| {
                let [input_norm, q, k, v, o, post_norm, gate, up, down] =
                    model.layer_weights(index);
                Layer {
                    input_norm: input_norm.to_vec(),
                    qkv: pack(&[q, k, v], c),
                    output: pack(&[o], queries),
                    post_norm: post_norm.to_vec(),
                    gate_up: pack(&[gate, up], c),
                    down: pack(&[down], config.intermediate_size),
                }
            })
            .collect();
        Ok(Self {
            weights,
            embedding: if config.tie_word_embeddings {
                None
            } else {
                Some(model.embedding_weight().to_vec())
            },
            layers,
            norm: model.norm_weight().to_vec(),
            head: pack(&[model.output_weight()], c),
            config,
        })
    }

    /// The model's sizes.
    pub(super) fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// The format of the weights.
    pub(super) fn weights(&self) -> SamplingWeights {
        self.weights
    }

    /// Bytes of weights that a step reads.
    pub(super) fn bytes(&self) -> usize {
        let layer = self.layers.first().map_or(0, |layer| {
            layer.qkv.bytes() + layer.output.bytes() + layer.gate_up.bytes() + layer.down.bytes()
        });
        self.layers.len() * layer + self.head.bytes()
    }

    /// Feeds tokens: afterwards their keys and values are in the caches, and the states of those that ask for logits, by
    /// their places among `entries` in ascending order, in `scratch`. Entries of the same slot follow each other in the order
    /// of their positions, without gaps.
    pub(super) fn forward(
        &self,
        entries: &[Entry],
        asking: &[usize],
        caches: &mut [KvCache],
        scratch: &mut Scratch,
    ) {
        let c = self.config.hidden_size;
        let eps = self.config.rms_norm_eps as f32;
        let Scratch {
            x,
            normed,
            wide,
            narrow,
            update,
            ..
        } = scratch;
        x.clear();
        for entry in entries {
            match &self.embedding {
                Some(table) => x.extend_from_slice(&table[entry.id as usize * c..][..c]),
                None => self.head.extend_with_row(entry.id as usize, x),
            }
        }
        let all: Vec<usize> = (0..entries.len()).collect();
        let positions: Vec<u32> = entries.iter().map(|entry| entry.position as u32).collect();
        let longest = positions.iter().max().map_or(0, |&last| last as usize + 1);
        let frequencies = Frequencies::new(self.config.rope_theta, self.config.head_dim / 2);
        let table = rope::table(&frequencies, longest);
        for (index, layer) in self.layers.iter().enumerate() {
            norm_rows(x, &layer.input_norm, eps, normed);
            layer.qkv.multiply(normed, wide);
            // Of tokens whose logits nobody wants, the last layer's key and value are all that is needed.
            let last = index + 1 == self.layers.len();
            let asking = if last { asking } else { &all };
            let places = (entries, &positions[..], asking);
            self.attention(index, places, &table, caches, wide, narrow);
            if asking.len() < entries.len() {
                for (to, &from) in asking.iter().enumerate() {
                    x.copy_within(from * c..(from + 1) * c, to * c);
                }
                x.truncate(asking.len() * c);
            }
            layer.output.multiply(narrow, update);
            vector::add(x, update);

            norm_rows(x, &layer.post_norm, eps, normed);
            layer.gate_up.multiply(normed, wide);
            let f = self.config.intermediate_size;
            narrow.resize(asking.len() * f, 0.0);
            for (row, out) in wide.chunks_exact(2 * f).zip(narrow.chunks_exact_mut(f)) {
                vector::swiglu(&row[..f], &row[f..], out);
            }
            layer.down.multiply(narrow, update);
            vector::add(x, update);
        }
    }

    /// qkv (E, H·D + 2·K·D) → out (asking, H·D), storing all keys and values as it goes.
    fn attention(
        &self,
        layer: usize,
        (entries, positions, asking): (&[Entry], &[u32], &[usize]),
        table: &Table,
        caches: &mut [KvCache],
        qkv: &mut [f32],
        out: &mut Vec<f32>,
    ) {
        let d = self.config.head_dim;
        let queries = self.config.num_attention_heads * d;
        let keys = self.config.num_key_value_heads * d;
        out.resize(asking.len() * queries, 0.0);
        let width = queries + 2 * keys;
        let heads = self.config.num_attention_heads + self.config.num_key_value_heads;
        rope::turn(qkv, width, (heads, d), positions, table, Direction::Forward);
        let mut asking = asking.iter().zip(out.chunks_exact_mut(queries)).peekable();
        for (place, (entry, row)) in entries.iter().zip(qkv.chunks_exact(width)).enumerate() {
            let (query, rest) = row.split_at(queries);
            let (key, value) = rest.split_at(keys);
            let cache = &mut caches[entry.slot];
            cache.store(layer, entry.position, key, value);
            if let Some((_, out)) = asking.next_if(|(asks, _)| **asks == place) {
                let scoring = Scoring::plain(d);
                cache.attend(layer, entry.position, scoring, query, out);
            }
        }
    }

    /// Logits of the entries of the last [`HostDecoder::forward`] that asked, in their order: rows of V.
    pub(super) fn logits<'s>(&self, scratch: &'s mut Scratch) -> std::slice::ChunksExact<'s, f32> {
        let Scratch {
            x, normed, logits, ..
        } = scratch;
        norm_rows(x, &self.norm, self.config.rms_norm_eps as f32, normed);
        self.head.multiply(normed, logits);
        logits.chunks_exact(self.head.outputs())
    }
}

fn norm_rows(x: &[f32], weight: &[f32], eps: f32, out: &mut Vec<f32>) {
    let c = weight.len();
    out.resize(x.len(), 0.0);
    for (x, out) in x.chunks_exact(c).zip(out.chunks_exact_mut(c)) {
        vector::rms_norm(x, weight, eps, out);
    }
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
            let mut caches = [KvCache::new(model.config(), ids.len())];
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
                decoder.forward(&entries, &asking, &mut caches, &mut scratch);
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
