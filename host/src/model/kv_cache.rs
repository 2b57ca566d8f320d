//! Keys and values of one growing row, and the attention of a new token over them.
//! Legend: L layers, H query heads, K key/value heads, D head size, T tokens so far.

use crate::ops::Start;
use crate::ops::attention::{Scoring, Sizes, weigh};
use crate::ops::lanes::LANES;
use crate::ops::tile::{Left, Out, PANEL, Right, product};

/// The cache of one row. Keys lie with the token index innermost: a block of scores is then D multiply-adds of whole
/// vectors with no sum across a vector. Values lie with D innermost for the same reason.
///
/// The arithmetic is that of `ops::attention`, to the bit: keys hold the scores' scale, a score is one chain of multiply-adds over
/// D, and a result one over the tokens.
pub(super) struct KvCache {
    sizes: Sizes,
    /// Tokens there is room for, in whole panels of scores.
    room: usize,
    /// (L, K, D, room), times the scores' scale.
    keys: Vec<f32>,
    /// (L, K, room, D), and room for the last one to be read in whole registers.
    values: Vec<f32>,
    /// (H / K, room): scores of the queries of one key head, then their weights.
    scores: Vec<f32>,
}

impl KvCache {
    /// A cache with room for `tokens` tokens in each of `layers` layers. A row that is finished may leave its cache to another row
    /// as it is: positions are written before they are read.
    pub(super) fn new(sizes: Sizes, layers: usize, tokens: usize) -> Self {
        let room = tokens.next_multiple_of(PANEL);
        let size = layers * sizes.key_value_width() / 2 * room;
        Self {
            sizes,
            room,
            keys: vec![0.0; size],
            values: vec![0.0; size + PANEL],
            scores: vec![0.0; sizes.group() * room],
        }
    }

    /// Stores the key, times `scale`, and the value, (K, D) each, of the token at `position` in `layer`.
    pub(super) fn store(
        &mut self,
        layer: usize,
        position: usize,
        scale: f64,
        (key, value): (&[f32], &[f32]),
    ) {
        let (d, scale) = (self.sizes.size, scale as f32);
        let plane = self.room * d;
        let start = layer * self.sizes.kv_heads * plane;
        let keys = self.keys[start..].chunks_exact_mut(plane);
        for (keys, key) in keys.zip(key.chunks_exact(d)) {
            for (keys, key) in keys.chunks_exact_mut(self.room).zip(key) {
                keys[position] = key * scale;
            }
        }
        let values = self.values[start..].chunks_exact_mut(plane);
        for (values, value) in values.zip(value.chunks_exact(d)) {
            values[position * d..][..d].copy_from_slice(value);
        }
    }

    /// Attention of the token at `position` over those of `layer` that it sees: query (H, D) → out (H, D).
    pub(super) fn attend(
        &mut self,
        layer: usize,
        position: usize,
        scoring: Scoring,
        query: &[f32],
        out: &mut [f32],
    ) {
        let (d, room, group) = (self.sizes.size, self.room, self.sizes.group());
        let (begin, tokens) = (scoring.first_seen(position), position + 1);
        // The register of scores in which the window begins.
        let first = begin / LANES * LANES;
        let padded = tokens.next_multiple_of(LANES);
        let plane = room * d;
        let queries = query.chunks_exact(group * d);
        for (head, (query, out)) in queries.zip(out.chunks_exact_mut(group * d)).enumerate() {
            let start = (layer * self.sizes.kv_heads + head) * plane;
            let keys = &self.keys[start..start + plane];
            for key in (first..padded).step_by(PANEL) {
                let scores = Out {
                    values: &mut self.scores[key..],
                    row: room,
                };
                let query = Left {
                    values: query,
                    row: d,
                    step: 1,
                };
                let keys = Right {
                    values: &keys[key..],
                    step: room,
                };
                let sizes = (group, d, PANEL.min(padded - key));
                product(scores, query, keys, sizes, Start::Zero);
            }
            // What lies behind the last token in a register is old or zero, and before the window of no concern.
            for scores in self.scores.chunks_exact_mut(room) {
                let sees = begin - first..tokens - first;
                weigh(&mut scores[first..padded], sees, scoring.cap);
            }
            for channel in (0..d).step_by(PANEL) {
                let out = Out {
                    values: &mut out[channel..],
                    row: d,
                };
                let weights = Left {
                    values: &self.scores[first..],
                    row: room,
                    step: 1,
                };
                let values = Right {
                    values: &self.values[start + first * d + channel..],
                    step: d,
                };
                let sizes = (group, tokens - first, PANEL.min(d - channel));
                product(out, weights, values, sizes, Start::Zero);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four heads over two.
    const SIZES: Sizes = Sizes {
        heads: 4,
        kv_heads: 2,
        size: 6,
    };

    /// What heads of 6 channels multiply scores by.
    fn scale() -> f64 {
        Scoring::plain(6).scale
    }

    /// One head over two tokens by hand: scores 1·√6⁻¹ and 3·√6⁻¹, values 10 and 20 in the first channel.
    #[test]
    fn two_tokens_by_hand() {
        let mut cache = KvCache::new(SIZES, 2, 2);
        let row = |first: f32| {
            let mut row = vec![0.0; 12];
            row[6] = first;
            row
        };
        cache.store(1, 0, scale(), (&row(1.0), &row(10.0)));
        cache.store(1, 1, scale(), (&row(3.0), &row(20.0)));
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
            let sizes = Sizes { size, ..SIZES };
            let (heads, group) = (sizes.kv_heads, sizes.group());
            let wave = |count: usize, phase: usize| -> Vec<f32> {
                (0..count)
                    .map(|i| ((i * 3 + phase * 7) as f32).sin())
                    .collect()
            };
            let mut cache = KvCache::new(sizes, 2, 70);
            let query = wave(heads * group * size, 5);
            let mut out = vec![f32::NAN; query.len()];
            for position in 0..70 {
                let (key, value) = (
                    wave(heads * size, position),
                    wave(heads * size, 100 + position),
                );
                cache.store(1, position, scoring.scale, (&key, &value));
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
        let mut used = KvCache::new(SIZES, 2, 40);
        for position in 0..40 {
            used.store(0, position, 1.0, (&[f32::NAN; 12], &[f32::NAN; 12]));
        }
        let mut fresh = KvCache::new(SIZES, 2, 40);
        let mut out = [[0.0; 24]; 2];
        for (cache, out) in [&mut used, &mut fresh].into_iter().zip(&mut out) {
            for position in 0..3 {
                let row: Vec<f32> = (0..12).map(|i| ((i + position) as f32).sin()).collect();
                cache.store(0, position, scale(), (&row, &row));
            }
            cache.attend(0, 2, Scoring::plain(6), &[0.5; 24], out);
        }
        assert!(out[0].iter().all(|value| value.is_finite()));
        assert_eq!(out[0], out[1]);
    }
}
