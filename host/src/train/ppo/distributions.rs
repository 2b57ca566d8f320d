//! Distributions and samples of a PPO step, as docs/metrics.md names them.

use super::rewards::row_sums;
use super::rollout::{Rollout, Targets};
use crate::error::Result;
use crate::pipeline::context::Observer;
use crate::train::rollout_batch::Decode;

/// Hands them to the observer.
pub(super) fn send(
    step: u64,
    rollout: &Rollout,
    targets: &Targets,
    decode: &Decode<'_>,
    observer: &dyn Observer,
) -> Result<()> {
    let totals: Vec<f32> = row_sums(&targets.rewards, &rollout.offsets)
        .into_iter()
        .map(|sum| sum as f32)
        .collect();
    let lengths: Vec<f32> = rollout
        .offsets
        .windows(2)
        .map(|ends| (ends[1] - ends[0]) as f32)
        .collect();
    observer.histogram(step, "reward/responses", &totals);
    observer.histogram(step, "reward/tokens", &targets.rewards);
    observer.histogram(step, "kl/tokens", &rollout.log_ratios());
    observer.histogram(step, "policy/entropies", &rollout.entropy);
    observer.histogram(step, "policy/advantages", &targets.advantages);
    if let Some(values) = &rollout.values {
        observer.histogram(step, "value/tokens", values);
    }
    observer.histogram(step, "response/lengths", &lengths);

    let by_reward = |a: &usize, b: &usize| totals[*a].total_cmp(&totals[*b]);
    let rows = || 0..totals.len();
    // The first of several: `max_by` takes the last of equals, so that it looks from the end.
    let samples = [
        ("samples/highest_reward", rows().rev().max_by(by_reward)),
        ("samples/lowest_reward", rows().min_by(by_reward)),
    ];
    for (name, row) in samples {
        if let Some(row) = row {
            let text = sample(rollout, row, totals[row], decode)?;
            observer.text(step, name, &text);
        }
    }
    Ok(())
}

/// A prompt and its response as Markdown; both are indented, so that nothing in them is taken for markup.
fn sample(rollout: &Rollout, row: usize, reward: f32, decode: &Decode<'_>) -> Result<String> {
    let (prompt, response) = (rollout.batch.prompt(row), rollout.batch.response(row));
    let end = if rollout.ended[row] == 1 {
        "ended with EOS"
    } else {
        "cut off"
    };
    let mut text = vec![format!(
        "reward {reward:.4}, {} tokens, {end}",
        response.len()
    )];
    for (title, before, ids) in [("prompt", &[][..], prompt), ("response", prompt, response)] {
        text.extend([String::new(), format!("**{title}**"), String::new()]);
        text.extend(
            decode(before, ids)?
                .lines()
                .map(|line| format!("    {line}")),
        );
    }
    Ok(text.join("\n"))
}
