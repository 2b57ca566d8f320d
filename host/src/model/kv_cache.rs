//! Keys and values of one growing row, and the attention of a new token over them.
//! Legend: L layers, H query heads, K key/value heads, D head size, T tokens so far.

use super::config::LlamaConfig;
use super::vector;
use crate::ops::Start;
use crate::ops::attention::Scoring;
use crate::ops::tile::{Left, Out, PANEL, Right, product};

/// The cache of one row. Keys lie with the token index innermost: a block of scores is then D multiply-adds of whole
/// vectors with no sum across a vector. Values lie with D innermost for the same reason.
pub(super) struct KvCache {
    queries_per_key: usize,
    heads: usize,
    head_dim: usize,
    /// Tokens there is room for, in whole panels of scores.
    room: usize,
    /// (L, K, D, room).
    keys: Vec<f32>,
    /// (L, K, room, D), and room for the last one to be read in whole registers.
    values: Vec<f32>,
    /// (H / K, room): scores of the queries of one key head, then their weights.
    scores: Vec<f32>,
}

impl KvCache {
    /// A cache with room for `tokens` tokens. A row that is finished may leave its cache to another row as it is:
    /// positions are written before they are read.
    pub(super) fn new(config: &LlamaConfig, tokens: usize) -> Self {
        let room = tokens.next_multiple_of(PANEL);
        let size = config.num_hidden_layers * config.num_key_value_heads * config.head_dim * room;
        let queries_per_key = config.num_attention_heads / config.num_key_value_heads;
        Self {
            queries_per_key,
            heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            room,
            keys: vec![0.0; size],
            values: vec![0.0; size + PANEL],
            scores: vec![0.0; queries_per_key * room],
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

    /// softmax of the scores q·kᵀ · v over the tokens of `layer` that the one at `position` sees: query (H, D) → out (H, D).
    pub(super) fn attend(
        &mut self,
        layer: usize,
        position: usize,
        scoring: Scoring,
        query: &[f32],
        out: &mut [f32],
    ) {
        let (d, room, group) = (self.head_dim, self.room, self.queries_per_key);
        let (begin, tokens) = (scoring.first_seen(position), position + 1);
        // The panel of scores in which the window begins.
        let panel = begin / PANEL * PANEL;
        let plane = room * d;
        let queries = query.chunks_exact(group * d);
        for (head, (query, out)) in queries.zip(out.chunks_exact_mut(group * d)).enumerate() {
            let start = (layer * self.heads + head) * plane;
            let keys = &self.keys[start..start + plane];
            // What lies behind the last token in a panel is old or zero, and before the window of no concern; what comes of
            // it is written over below.
            for first in (panel..tokens).step_by(PANEL) {
                let scores = Out {
                    values: &mut self.scores[first..],
                    row: room,
                };
                let query = Left {
                    values: query,
                    row: d,
                    step: 1,
                };
                let keys = Right {
                    values: &keys[first..],
                    step: room,
                };
                product(scores, query, keys, (group, d, PANEL), Start::Zero);
            }
            for scores in self.scores.chunks_exact_mut(room) {
                // −∞ rather than a shorter loop: whole registers are faster than a rest element by element.
                let weights = &mut scores[panel..tokens.next_multiple_of(PANEL / 2)];
                let mut scale = scoring.scale as f32;
                if let Some(cap) = scoring.cap {
                    vector::cap(weights, scale, cap as f32);
                    scale = 1.0;
                }
                weights[..begin - panel].fill(f32::NEG_INFINITY);
                weights[tokens - panel..].fill(f32::NEG_INFINITY);
                let largest = vector::max(weights);
                let sum = vector::exp_sum(weights, largest, scale);
                vector::divide(&mut weights[begin - panel..tokens - panel], sum);
            }
            for first in (0..d).step_by(PANEL) {
                let out = Out {
                    values: &mut out[first..],
                    row: d,
                };
                let weights = Left {
                    values: &self.scores[begin..],
                    row: room,
                    step: 1,
                };
                let values = Right {
                    values: &self.values[start + begin * d + first..],
                    step: d,
                };
                let sizes = (group, tokens - begin, PANEL.min(d - first));
                product(out, weights, values, sizes, Start::Zero);
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
        cache.attend(1, 1, Scoring::plain(6), &query, &mut out);
        let weight = 1.0 / (1.0 + (-2.0 / 6.0f32.sqrt()).exp());
        assert!(
            (out[12] - (10.0 + 10.0 * weight)).abs() < 1e-5,
            "{}",
            out[12]
        );
        assert!((out[18] - 15.0).abs() < 1e-5, "{}", out[18]);
        assert_eq!(out[..12], [0.0; 12]);
    }

    /// Against plain sums in f64, with heads of no whole number of registers and more tokens than a panel has; capped, and in
    /// windows that begin in a panel's middle, and with it.
    #[test]
    fn many_tokens_of_any_head_size() {
        let scorings = [
            (None, None),
            (Some(0.5), None),
            (None, Some(9)),
            (Some(0.5), Some(40)),
        ];
        for (size, (cap, window)) in [20, 40, 64]
            .into_iter()
            .flat_map(|size| scorings.map(|scoring| (size, scoring)))
        {
            let scoring = Scoring {
                cap,
                window,
                ..Scoring::plain(size)
            };
            let mut config = fixture::config(true);
            config.head_dim = size;
            let (heads, group) = (
                config.num_key_value_heads,
                config.num_attention_heads / config.num_key_value_heads,
            );
            let wave = |count: usize, phase: usize| -> Vec<f32> {
                (0..count)
                    .map(|i| ((i * 3 + phase * 7) as f32).sin())
                    .collect()
            };
            let mut cache = KvCache::new(&config, 70);
            let query = wave(heads * group * size, 5);
            let mut out = vec![f32::NAN; query.len()];
            for position in 0..70 {
                let (key, value) = (
                    wave(heads * size, position),
                    wave(heads * size, 100 + position),
                );
                cache.store(1, position, &key, &value);
                cache.attend(1, position, scoring, &query, &mut out);
                for head in 0..heads * group {
                    let of = |row: &[f32], head: usize| -> Vec<f64> {
                        let part = &row[head * size..][..size];
                        part.iter().map(|&x| f64::from(x)).collect()
                    };
                    let query = of(&query, head);
                    let mut sums = vec![0.0; size + 1];
                    let begin = window.map_or(0, |window| (position + 1).saturating_sub(window));
                    for token in begin..=position {
                        let key = of(&wave(heads * size, token), head / group);
                        let score: f64 = query.iter().zip(key).map(|(q, k)| q * k).sum();
                        let score = score / (size as f64).sqrt();
                        let score = cap.map_or(score, |cap| cap * (score / cap).tanh());
                        let weight = score.exp();
                        let value = of(&wave(heads * size, 100 + token), head / group);
                        let terms = value.iter().map(|v| weight * v).chain([weight]);
                        sums.iter_mut()
                            .zip(terms)
                            .for_each(|(sum, term)| *sum += term);
                    }
                    for (found, sum) in of(&out, head).iter().zip(&sums) {
                        assert!((found - sum / sums[size]).abs() < 1e-4, "{size}: {found}");
                    }
                }
            }
        }
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
            cache.attend(0, 2, Scoring::plain(6), &[0.5; 24], out);
        }
        assert!(out[0].iter().all(|value| value.is_finite()));
        assert_eq!(out[0], out[1]);
    }
}
