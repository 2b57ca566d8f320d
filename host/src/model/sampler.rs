//! From logits to a token: temperature, then the k likeliest, then the smallest set with probability p
//! (nucleus; Holtzman et al. 2020, arXiv:1904.09751), in transformers' order. Legend: V vocabulary.

use std::cmp::Ordering;

use super::sampling::Sampling;
use crate::error::{Error, Result};
use crate::ops::log_prob::{self, Weighed};
use crate::telemetry::NotFinite;

/// Likeliest tokens looked at first for a nucleus; a peaked distribution needs no more.
const NUCLEUS_START: usize = 64;

/// A token, and what the distribution that it was drawn from says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drawn {
    pub(super) id: u32,
    /// Its log-probability, nats.
    pub(super) logprob: f32,
    /// Entropy of the distribution, nats.
    pub(super) entropy: f32,
}

/// Buffers of the sampler, kept from one token to the next.
#[derive(Default)]
pub(super) struct Sampler {
    /// exp((logit − largest) / temperature), (V,).
    weights: Vec<f32>,
    /// Weight and id of the tokens that may be drawn, likeliest first.
    kept: Vec<(f32, u32)>,
}

impl Sampler {
    /// A token and its log-probability in nats under softmax(logits / temperature) over the **whole** vocabulary, which
    /// is what a policy's log-probability means; the cut to k or p changes what is drawn, not this. At temperature 0 the
    /// token is the likeliest (the first of equals) and its log-probability is that of temperature 1. `uniform` gives
    /// a number in [0, 1) and is called once, or never at temperature 0.
    ///
    /// # Errors
    /// Logits that are not finite.
    pub(super) fn sample(
        &mut self,
        logits: &[f32],
        sampling: &Sampling,
        uniform: impl FnOnce() -> f64,
    ) -> Result<Drawn> {
        let greedy = sampling.temperature == 0.0;
        let scale = if greedy {
            1.0
        } else {
            (1.0 / sampling.temperature) as f32
        };
        let Weighed {
            highest: largest,
            sum,
            entropy,
        } = log_prob::weigh(logits, scale, &mut self.weights);
        // NaN anywhere, or an infinite logit, makes the sum NaN.
        if !sum.is_finite() {
            return Err(Error::input("the model's logits are not finite").hint(
                "its weights have diverged; lower the learning rate of the training that made them",
            )
            .with_not_finite(NotFinite::batch("the logits", &[])));
        }
        let id = if greedy {
            logits
                .iter()
                .position(|logit| *logit == largest)
                .unwrap_or(0) as u32
        } else if sampling.keeps_all(logits.len()) {
            let weights = self.weights.iter().copied();
            draw(weights.zip(0..), uniform())
        } else {
            self.keep(sampling);
            draw(self.kept.iter().copied(), uniform())
        };
        Ok(Drawn {
            id,
            logprob: (logits[id as usize] - largest) * scale - sum.ln(),
            entropy,
        })
    }

    /// Fills `kept` by `top_k` and `top_p` without sorting the vocabulary.
    fn keep(&mut self, sampling: &Sampling) {
        let kept = &mut self.kept;
        kept.clear();
        kept.extend(self.weights.iter().copied().zip(0..));
        if sampling.top_k > 0 && sampling.top_k < kept.len() {
            kept.select_nth_unstable_by(sampling.top_k - 1, likelier);
            kept.truncate(sampling.top_k);
        }
        if sampling.top_p >= 1.0 {
            kept.sort_unstable_by(likelier);
            return;
        }
        let mass: f64 = kept.iter().map(|(weight, _)| f64::from(*weight)).sum();
        let wanted = sampling.top_p * mass;
        let (mut sorted, mut reached, mut block) = (0, 0.0, NUCLEUS_START);
        while sorted < kept.len() {
            let rest = &mut kept[sorted..];
            let block_size = block.min(rest.len());
            if block_size < rest.len() {
                rest.select_nth_unstable_by(block_size - 1, likelier);
            }
            rest[..block_size].sort_unstable_by(likelier);
            for (weight, _) in &rest[..block_size] {
                sorted += 1;
                reached += f64::from(*weight);
                if reached >= wanted {
                    kept.truncate(sorted);
                    return;
                }
            }
            block *= 4;
        }
    }
}

/// Larger weight first, smaller id first among equals: an order without ties, so that every selection is the same.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that the slice's methods take"
)]
fn likelier(a: &(f32, u32), b: &(f32, u32)) -> Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

/// The token at `uniform` of the way through the weights.
fn draw(kept: impl Iterator<Item = (f32, u32)> + Clone, uniform: f64) -> u32 {
    // The total is summed in the order of the walk: the walk then reaches it exactly.
    let total: f64 = kept.clone().map(|(weight, _)| f64::from(weight)).sum();
    let target = uniform * total;
    let (mut reached, mut last) = (0.0, 0);
    for (weight, id) in kept {
        reached += f64::from(weight);
        last = id;
        if reached > target {
            break;
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 5] = [1.0, 3.0, 2.0, 3.0, -1.0];

    fn sampling(temperature: f64, top_k: usize, top_p: f64) -> Sampling {
        Sampling {
            temperature,
            top_k,
            top_p,
            ..Sampling::greedy(1, vec![])
        }
    }

    /// The share of each id over evenly spaced draws.
    fn shares(sampling: &Sampling) -> [f64; 5] {
        let mut counts = [0.0; 5];
        let mut sampler = Sampler::default();
        for i in 0..10_000 {
            let Drawn { id, .. } = sampler
                .sample(&LOGITS, sampling, || f64::from(i) / 10_000.0)
                .expect("finite logits");
            counts[id as usize] += 1e-4;
        }
        counts
    }

    /// softmax(LOGITS / temperature) over the ids in `kept`.
    fn expected(temperature: f64, kept: &[usize]) -> [f64; 5] {
        let weight = |id: &usize| (f64::from(LOGITS[*id]) / temperature).exp();
        let sum: f64 = kept.iter().map(weight).sum();
        let mut shares = [0.0; 5];
        for id in kept {
            shares[*id] = weight(id) / sum;
        }
        shares
    }

    #[test]
    fn draws_follow_the_distribution_that_is_kept() {
        // Probabilities at temperature 1: 0.054, 0.397, 0.146, 0.397, 0.007.
        let all = [0, 1, 2, 3, 4];
        let cases: [(f64, usize, f64, &[usize]); 10] = [
            (1.0, 0, 1.0, &all),
            (0.5, 0, 1.0, &all),
            (2.0, 9, 1.0, &all),
            (1.0, 3, 1.0, &[1, 3, 2]),
            (1.0, 1, 1.0, &[1]),
            (1.0, 0, 0.5, &[1, 3]),
            (1.0, 0, 0.001, &[1]),
            (1.0, 0, 0.9, &[1, 3, 2]),
            (1.0, 0, 0.95, &[1, 3, 2, 0]),
            // 0.6 of what top_k left, which is one half each.
            (1.0, 2, 0.6, &[1, 3]),
        ];
        for (temperature, top_k, top_p, kept) in cases {
            let found = shares(&sampling(temperature, top_k, top_p));
            for (found, expected) in found.iter().zip(expected(temperature, kept)) {
                assert!(
                    (found - expected).abs() < 3e-4,
                    "{found} {expected} at {temperature} {top_k} {top_p}"
                );
            }
        }
    }

    #[test]
    fn a_flat_nucleus_is_found_behind_the_first_block() {
        let logits: Vec<f32> = (0..5000).map(|i| (i % 50) as f32 * 1e-3).collect();
        let mut sampler = Sampler::default();
        sampler
            .sample(&logits, &sampling(1.0, 0, 0.5), || 0.3)
            .expect("finite logits");
        let mut sorted: Vec<(f32, u32)> = sampler.weights.iter().copied().zip(0..).collect();
        sorted.sort_by(likelier);
        let mass: f64 = sorted.iter().map(|(w, _)| f64::from(*w)).sum();
        let mut reached = 0.0;
        let count = sorted.iter().take_while(|(w, _)| {
            let before = reached;
            reached += f64::from(*w);
            before < 0.5 * mass
        });
        let count = count.count();
        assert!(count > 2000);
        assert_eq!(sampler.kept, sorted[..count]);
    }

    #[test]
    fn log_probabilities_are_of_the_whole_distribution_at_the_temperature() {
        let mut sampler = Sampler::default();
        for (temperature, shown) in [(0.0, 1.0), (0.7, 0.7), (1.0, 1.0)] {
            let Drawn { id, logprob, .. } = sampler
                .sample(&LOGITS, &sampling(temperature, 1, 1.0), || 0.99)
                .expect("finite logits");
            let exact = expected(shown, &[0, 1, 2, 3, 4])[1].ln();
            assert_eq!(id, 1, "the first of equals");
            assert!((f64::from(logprob) - exact).abs() < 1e-6);
        }
    }

    #[test]
    fn diverged_logits_are_an_error() {
        for bad in [f32::NAN, f32::INFINITY] {
            for temperature in [0.0, 1.0] {
                let error =
                    Sampler::default().sample(&[0.0, bad], &sampling(temperature, 0, 1.0), || 0.0);
                assert!(
                    error
                        .expect_err("not finite")
                        .to_string()
                        .contains("not finite")
                );
            }
        }
    }
}
