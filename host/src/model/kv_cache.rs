//! Keys and values of one growing row, and the attention of a new token over them.
//! Legend: L layers, H query heads, K key/value heads, D head size, T tokens so far.

use super::config::LlamaConfig;
use super::vector::{self, mul_add};

/// Scores worked on together; room for tokens is rounded up to it, so that no block is cut.
const BLOCK: usize = 32;

/// The cache of one row. Keys lie with the token index innermost: a block of scores is then D multiply-adds of whole
/// vectors with no sum across a vector. Values lie with D innermost for the same reason.
pub(super) struct KvCache {
    queries_per_key: usize,
    heads: usize,
    head_dim: usize,
    /// Tokens there is room for, a multiple of BLOCK.
    room: usize,
    /// (L, K, D, room).
    keys: Vec<f32>,
    /// (L, K, room, D).
    values: Vec<f32>,
    /// (room,): scores of one head, then its weights.
    scores: Vec<f32>,
}

impl KvCache {
    /// A cache with room for `tokens` tokens. A row that is finished may leave its cache to another row as it is:
    /// positions are written before they are read.
    pub(super) fn new(config: &LlamaConfig, tokens: usize) -> Self {
        let room = tokens.next_multiple_of(BLOCK);
        let size = config.num_hidden_layers * config.num_key_value_heads * config.head_dim * room;
        Self {
            queries_per_key: config.num_attention_heads / config.num_key_value_heads,
            heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            room,
            keys: vec![0.0; size],
            values: vec![0.0; size],
            scores: vec![0.0; room],
        }
    }

    /// Stores the key and the value, (K, D) each, of the token at `position` in `layer`.
    pub(super) fn store(&mut self, layer: usize, position: usize, key: &[f32], value: &[f32]) {
        let plane = self.room * self.head_dim;
        let start = layer * self.heads * plane;
        let keys = self.keys[start..].chunks_exact_mut(plane);
        for (keys, key) in keys.zip(key.chunks_exact(self.head_dim)) {
            for (keys, key) in keys.chunks_exact_mut(self.room).zip(key) {
                keys[position] = *key;
            }
        }
        let values = self.values[start..].chunks_exact_mut(plane);
        for (values, value) in values.zip(value.chunks_exact(self.head_dim)) {
            values[position * self.head_dim..][..self.head_dim].copy_from_slice(value);
        }
    }

    /// softmax(q·kᵀ / √D)·v over the tokens 0 ..= position of `layer`: query (H, D) → out (H, D).
    pub(super) fn attend(&mut self, layer: usize, position: usize, query: &[f32], out: &mut [f32]) {
        let (d, plane) = (self.head_dim, self.room * self.head_dim);
        let scale = 1.0 / (d as f32).sqrt();
        let queries = query.chunks_exact(d).zip(out.chunks_exact_mut(d));
        for (head, (query, out)) in queries.enumerate() {
            let start = (layer * self.heads + head / self.queries_per_key) * plane;
            let keys = &self.keys[start..start + plane];
            let tokens = position + 1;
            for (block, scores) in self
                .scores
                .as_chunks_mut::<BLOCK>()
                .0
                .iter_mut()
                .enumerate()
            {
                if block * BLOCK >= tokens {
                    break;
                }
                // What lies behind the last token in the block is old or zero, and never read.
                let mut sums = [0.0; BLOCK];
                for (query, keys) in query.iter().zip(keys.chunks_exact(self.room)) {
                    let keys = &keys.as_chunks::<BLOCK>().0[block];
                    for (sum, key) in sums.iter_mut().zip(keys) {
                        *sum = mul_add(*query, *key, *sum);
                    }
                }
                *scores = sums;
            }
            let weights = &mut self.scores[..tokens];
            let largest = vector::max(weights);
            let sum = vector::exp_sum(weights, largest, scale);
            let values = &self.values[start..start + tokens * d];
            out.fill(0.0);
            for (weight, value) in weights.iter().zip(values.chunks_exact(d)) {
                for (out, value) in out.iter_mut().zip(value) {
                    *out = mul_add(*weight, *value, *out);
                }
            }
            for out in out.iter_mut() {
                *out /= sum;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture;

    /// One head over two tokens by hand: scores 1·√6⁻¹ and 3·√6⁻¹, values 10 and 20 in the first channel.
    #[test]
    fn two_tokens_by_hand() {
        let mut cache = KvCache::new(&fixture::config(true), 2);
        let row = |first: f32| {
            let mut row = vec![0.0; 12];
            row[6] = first;
            row
        };
        cache.store(1, 0, &row(1.0), &row(10.0));
        cache.store(1, 1, &row(3.0), &row(20.0));
        // Heads 2 and 3 share the second key/value head; head 2 asks with 1, head 3 with 0.
        let mut query = vec![0.0; 24];
        query[12] = 1.0;
        let mut out = vec![f32::NAN; 24];
        cache.attend(1, 1, &query, &mut out);
        let weight = 1.0 / (1.0 + (-2.0 / 6.0f32.sqrt()).exp());
        assert!(
            (out[12] - (10.0 + 10.0 * weight)).abs() < 1e-5,
            "{}",
            out[12]
        );
        assert!((out[18] - 15.0).abs() < 1e-5, "{}", out[18]);
        assert_eq!(out[..12], [0.0; 12]);
    }

    #[test]
    fn a_used_cache_serves_another_row() {
        let config = fixture::config(true);
        let mut used = KvCache::new(&config, 40);
        for position in 0..40 {
            used.store(0, position, &[f32::NAN; 12], &[f32::NAN; 12]);
        }
        let mut fresh = KvCache::new(&config, 40);
        let mut out = [[0.0; 24]; 2];
        for (cache, out) in [&mut used, &mut fresh].into_iter().zip(&mut out) {
            for position in 0..3 {
                let row: Vec<f32> = (0..12).map(|i| ((i + position) as f32).sin()).collect();
                cache.store(0, position, &row, &row);
            }
            cache.attend(0, 2, &[0.5; 24], out);
        }
        assert!(out[0].iter().all(|value| value.is_finite()));
        assert_eq!(out[0], out[1]);
    }
}
