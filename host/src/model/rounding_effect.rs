//! What rounded weights do to the log-probabilities of what is sampled with them.

use std::fmt;

use serde::Serialize;

use super::causal_lm::CausalLm;
use super::generate::Generated;
use crate::data::ragged::TokenBatch;
use crate::error::Result;

/// How far the log-probabilities of sampled tokens lie from those of the model. Δ = log πₛ − log π of a token, where πₛ is what
/// was sampled from and π the model, both over the whole vocabulary at the sampling temperature.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RoundingEffect {
    /// Tokens that were compared.
    pub tokens: usize,
    /// Mean of |Δ|, nats.
    pub mean: f64,
    /// The largest |Δ|, nats.
    pub max: f64,
    /// Mean of e^(−Δ) − 1 + Δ, nats per token, never negative. It estimates KL(πₛ ‖ π), without bias where the tokens
    /// were drawn from all of πₛ: no top-k, no top-p, temperature above 0.
    pub kl: f64,
}

impl RoundingEffect {
    /// Of two log-probabilities a token, in the same order; `None` where there is no token.
    pub fn between(sampler: &[f32], model: &[f32]) -> Option<Self> {
        let tokens = sampler.len().min(model.len());
        if tokens == 0 {
            return None;
        }
        let (mut sum, mut max, mut kl) = (0.0, 0.0f64, 0.0);
        for (sampler, model) in sampler.iter().zip(model) {
            let apart = f64::from(*sampler) - f64::from(*model);
            sum += apart.abs();
            max = max.max(apart.abs());
            kl += (-apart).exp_m1() + apart;
        }
        let mean = |sum: f64| sum / tokens as f64;
        Some(Self {
            tokens,
            mean: mean(sum),
            max,
            kl: mean(kl),
        })
    }

    /// Of what was generated, by a forward pass of the model over each row. `temperature` is that of the sampling. `None`
    /// where no row has a token.
    pub fn measure(
        model: &CausalLm,
        prompts: &[Vec<u32>],
        rows: &[Generated],
        temperature: f64,
    ) -> Result<Option<Self>> {
        // The log-probability of a greedy token is that of temperature 1.
        let temperature = if temperature == 0.0 { 1.0 } else { temperature };
        let (mut sampler, mut forward) = (Vec::new(), Vec::new());
        for (prompt, row) in prompts.iter().zip(rows) {
            if row.ids.is_empty() {
                continue;
            }
            let mut batch = TokenBatch::new();
            batch.push(prompt, &row.ids);
            forward.extend(model.log_probs(&batch, temperature)?.logprobs);
            sampler.extend_from_slice(&row.logprobs);
        }
        Ok(Self::between(&sampler, &forward))
    }
}

impl fmt::Display for RoundingEffect {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "|Δ log-prob| against f32 {:.2e} nats on average, {:.2e} at most, over {} tokens",
            self.mean, self.max, self.tokens
        )
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use finegrain_sdk::rng::Stream;

    use super::*;
    use crate::model::{Sampling, SamplingWeights, fixture, generate};

    /// Δ = 0.5, −1, 0: mean 0.5, KL (e^−0.5 − 0.5 + e − 2) / 3 = (0.10653066 + 0.71828183) / 3.
    #[test]
    fn three_tokens_by_hand() {
        let effect = RoundingEffect::between(&[-1.0, -3.0, -0.25], &[-1.5, -2.0, -0.25]).unwrap();
        assert_eq!((effect.tokens, effect.mean, effect.max), (3, 0.5, 1.0));
        assert!((effect.kl - 0.824_812_488 / 3.0).abs() < 1e-9, "{effect:?}");
        assert_eq!(RoundingEffect::between(&[], &[]), None);
    }

    /// Exact weights leave the rounding of f32 sums, 4e-6 at most here. bf16 moves a weight by up to 2⁻⁸ of itself and q8 by up to
    /// 1/254 of its block's largest, the more of the two for most weights; of this model, whose distributions are far from
    /// uniform, that moved log-probabilities by 0.004 to 0.007 (bf16) and 0.008 to 0.016 (q8) on average, by 0.28 at most.
    #[test]
    fn rounding_is_seen_and_small() -> Result<()> {
        let prompts: Vec<Vec<u32>> = (0..40).map(|row| vec![1, row % 11]).collect();
        let cancel = AtomicBool::new(false);
        for tied in [true, false] {
            let model = fixture::model(tied)?;
            for temperature in [1.0, 0.7, 0.0] {
                let effect = |weights| {
                    let sampling = Sampling {
                        weights,
                        ..Sampling::at_temperature(temperature, 20, vec![2])
                    };
                    let rows = generate(&model, &prompts, &sampling, &Stream::new(3), &cancel)?;
                    let effect = RoundingEffect::measure(&model, &prompts, &rows, temperature)?;
                    Ok::<_, crate::Error>(effect.expect("tokens"))
                };
                let exact = effect(SamplingWeights::F32)?;
                assert!(exact.max < 1e-5, "{exact:?}");
                for weights in [SamplingWeights::Bf16, SamplingWeights::Q8] {
                    let rounded = effect(weights)?;
                    assert!(
                        rounded.mean > 1e-3 && rounded.mean < 0.03 && rounded.max < 0.5,
                        "{weights}: {rounded:?}"
                    );
                    assert!(rounded.mean < rounded.max && rounded.kl > 0.0);
                    // Δ² / 2 to second order.
                    assert!(rounded.kl < rounded.max * rounded.max, "{rounded:?}");
                }
            }
        }
        Ok(())
    }
}
