//! The metrics of a PPO step; docs/metrics.md has their formulas and units.

use super::config::PpoConfig;
use super::kl::KlEstimator;
use super::losses::explained_variance;
use super::rewards::{row_sums, zero_spread_fraction};
use super::rollout::{Rollout, Targets};
use super::update::UpdateStats;
use crate::pipeline::context::Observer;

/// Everything that a step knows about itself.
pub(super) struct Step<'a> {
    pub rollout: &'a Rollout,
    pub targets: &'a Targets,
    pub stats: &'a UpdateStats,
    pub config: &'a PpoConfig,
    /// β of this step.
    pub kl_coef: f64,
    /// The configured estimate, nats per response.
    pub divergence: f64,
    pub lr_factor: f64,
    pub seconds: f64,
    pub total_seconds: f64,
    pub samples: u64,
    pub optimizer_steps: u64,
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len();
    values.sum::<f64>() / n as f64
}

fn std(values: &[f64]) -> f64 {
    let average = mean(values.iter().copied());
    mean(values.iter().map(|x| (x - average).powi(2))).sqrt()
}

/// Names and values in a fixed order.
pub(super) fn of(step: &Step<'_>) -> Vec<(String, f64)> {
    let (rollout, stats) = (step.rollout, step.stats);
    let rows = rollout.batch.rows() as f64;
    let log_ratios = rollout.log_ratios();
    let per_token =
        |estimator: KlEstimator| mean(log_ratios.iter().map(|&x| f64::from(estimator.value(x))));
    let steps = stats.optimizer_steps as f64;
    let tokens = stats.tokens as f64;
    let mut values: Vec<(String, f64)> = Vec::new();
    let mut push = |name: &str, value: f64| values.push((name.to_owned(), value));

    let totals = row_sums(&step.targets.rewards, &rollout.offsets);
    push("reward/total", mean(totals.iter().copied()));
    push("reward/total_std", std(&totals));
    for channel in &rollout.channels {
        let sums = row_sums(&channel.rewards, &rollout.offsets);
        push(&format!("reward/{}", channel.name), mean(sums.into_iter()));
        if channel.gain != 1.0 {
            push(&format!("reward/{}_gain", channel.name), channel.gain);
        }
    }
    if step.config.samples_per_prompt > 1 {
        push(
            "reward/zero_std_fraction",
            zero_spread_fraction(&totals, &rollout.groups),
        );
    }

    push("kl/response", step.divergence);
    push(
        "kl/response_k1",
        per_token(KlEstimator::K1) * rollout.response_tokens() as f64 / rows,
    );
    push("kl/token_k1", per_token(KlEstimator::K1));
    push("kl/token_k3", per_token(KlEstimator::K3));
    push("kl/coef", step.kl_coef);

    push("policy/loss", stats.policy_loss / steps);
    if stats.kl_loss != 0.0 {
        push("policy/kl_loss", stats.kl_loss / steps);
    }
    push(
        "policy/entropy",
        mean(rollout.entropy.iter().map(|&h| f64::from(h))),
    );
    push("policy/approx_kl_k3", stats.kl_sum / tokens);
    push("policy/clip_fraction", stats.policy_clipped as f64 / tokens);
    push("policy/first_ratio", stats.first_ratio);
    push("policy/first_ratio_deviation", stats.first_ratio_deviation);
    push("policy/grad_norm", stats.policy_grad_norm / steps);
    push("policy/lr", step.config.learning_rate * step.lr_factor);
    push(
        "policy/advantage_mean",
        mean(step.targets.advantages.iter().map(|&a| f64::from(a))),
    );

    if let Some(old) = &rollout.values {
        push("value/loss", stats.value_loss / steps);
        push("value/mean", mean(old.iter().map(|&v| f64::from(v))));
        push(
            "value/return_mean",
            mean(step.targets.returns.iter().map(|&r| f64::from(r))),
        );
        if let Some(explained) = explained_variance(old, &step.targets.returns) {
            push("value/explained_variance", explained);
        }
        push("value/clip_fraction", stats.value_clipped as f64 / tokens);
        push("value/grad_norm", stats.critic_grad_norm / steps);
        push(
            "value/lr",
            step.config.critic_learning_rate * step.lr_factor,
        );
    }

    if let Some(rounding) = &rollout.rounding {
        push("sampling/logprob_deviation", rounding.mean);
        push("sampling/logprob_deviation_max", rounding.max);
        push("sampling/kl_k3", rounding.kl);
    }

    push(
        "response/mean_length",
        rollout.response_tokens() as f64 / rows,
    );
    let ended = rollout.ended.iter().map(|&ended| f64::from(ended));
    push("response/eos_rate", ended.sum::<f64>() / rows);
    push("train/samples", step.samples as f64);
    push("train/optimizer_steps", step.optimizer_steps as f64);
    push("train/seconds", step.total_seconds);
    push(
        "train/tokens_per_second",
        rollout.response_tokens() as f64 / step.seconds,
    );
    values
}

/// Hands them to the observer.
pub(super) fn send(step: u64, values: &[(String, f64)], observer: &dyn Observer) {
    let borrowed: Vec<(&str, f64)> = values
        .iter()
        .map(|(name, value)| (name.as_str(), *value))
        .collect();
    observer.metrics(step, &borrowed);
}
