//! The channels of the reward: every scheme with its weight, the KL channel, the penalty for a missing EOS. Each stays
//! apart until [`total`] adds them, so that a run can say what its reward was made of. Flat over response tokens.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::kl::KlEstimator;

/// What happens to a response that ran into the length limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MissingEos {
    /// Nothing (TRL's default; AlpacaFarm without `truncate_tokens`).
    #[default]
    Ignore,
    /// `missing_eos_penalty` is subtracted at its last token (TRL).
    Subtract,
    /// Its rewards become 0 and −`missing_eos_penalty` stands at its last token (AlpacaFarm's `post_reward`).
    Replace,
}

/// One part of the reward.
#[derive(Clone, Debug, PartialEq)]
pub struct Channel {
    /// The name behind `reward/` in the metrics.
    pub name: String,
    /// What `reward_scale` multiplied the scheme's rewards by; 1 for channels that are no scheme's.
    pub gain: f64,
    /// A reward for every response token, its gain and weight included.
    pub rewards: Vec<f32>,
}

/// `−β · kl_t` at every token.
pub fn kl_channel(log_ratios: &[f32], estimator: KlEstimator, coefficient: f64) -> Channel {
    let rewards = log_ratios
        .iter()
        .map(|&log_ratio| (-coefficient * f64::from(estimator.value(log_ratio))) as f32);
    Channel {
        name: "kl".into(),
        gain: 1.0,
        rewards: rewards.collect(),
    }
}

/// The penalty's channel; [`MissingEos::Replace`] also clears the rows in `schemes`. `None` where the rule is to ignore.
pub fn missing_eos(
    rule: MissingEos,
    penalty: f64,
    schemes: &mut [Channel],
    offsets: &[u64],
    ended: &[u8],
) -> Option<Channel> {
    if rule == MissingEos::Ignore {
        return None;
    }
    let mut rewards = vec![0.0; offsets.last().map_or(0, |&end| end as usize)];
    for (bounds, _) in offsets
        .windows(2)
        .zip(ended)
        .filter(|(_, ended)| **ended == 0)
    {
        let row = bounds[0] as usize..bounds[1] as usize;
        if row.is_empty() {
            continue;
        }
        rewards[row.end - 1] = -penalty as f32;
        if rule == MissingEos::Replace {
            for channel in &mut *schemes {
                channel.rewards[row.clone()].fill(0.0);
            }
        }
    }
    Some(Channel {
        name: "missing_eos".into(),
        gain: 1.0,
        rewards,
    })
}

/// The sum of the channels, token by token, over `tokens` tokens.
pub fn total(channels: &[Channel], tokens: usize) -> Vec<f32> {
    let mut total = vec![0.0; tokens];
    for channel in channels {
        for (sum, reward) in total.iter_mut().zip(&channel.rewards) {
            *sum += reward;
        }
    }
    total
}

/// The sum of every row.
pub fn row_sums(values: &[f32], offsets: &[u64]) -> Vec<f64> {
    offsets
        .windows(2)
        .map(|pair| {
            values[pair[0] as usize..pair[1] as usize]
                .iter()
                .map(|&x| f64::from(x))
                .sum()
        })
        .collect()
}

/// The share of groups whose rows all have the same sum: they teach a group-relative estimator nothing.
pub fn zero_spread_fraction(sums: &[f64], groups: &[u64]) -> f64 {
    let flat = groups
        .windows(2)
        .filter(|pair| {
            let group = &sums[pair[0] as usize..pair[1] as usize];
            group.windows(2).all(|pair| pair[0] == pair[1])
        })
        .count();
    flat as f64 / (groups.len() - 1).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFSETS: [u64; 3] = [0, 2, 5];

    fn scheme() -> Vec<Channel> {
        vec![Channel {
            gain: 1.0,
            name: "scheme".into(),
            rewards: vec![0.0, 1.0, 0.5, 0.5, 2.0],
        }]
    }

    #[test]
    fn the_total_is_scheme_plus_kl_plus_penalty() {
        // AlpacaFarm's _shape_reward on these rows: -0.5 * clamp(log ratio, min=0), score at the last token.
        let mut channels = scheme();
        let kl = kl_channel(&[0.2, -0.4, 0.0, 1.0, 0.6], KlEstimator::K1Clamped, 0.5);
        assert_eq!(kl.rewards, [-0.1, 0.0, 0.0, -0.5, -0.3]);
        let penalty = missing_eos(MissingEos::Subtract, 1.0, &mut channels, &OFFSETS, &[0, 1]);
        channels.extend(penalty);
        channels.push(kl);
        assert_eq!(total(&channels, 5), [-0.1, 0.0, 0.5, 0.0, 1.7]);
        assert_eq!(row_sums(&channels[0].rewards, &OFFSETS), [1.0, 3.0]);
    }

    #[test]
    fn replace_clears_the_rows_that_did_not_end() {
        let mut channels = scheme();
        let penalty =
            missing_eos(MissingEos::Replace, 1.0, &mut channels, &OFFSETS, &[1, 0]).unwrap();
        assert_eq!(channels[0].rewards, [0.0, 1.0, 0.0, 0.0, 0.0]);
        assert_eq!(penalty.rewards, [0.0, 0.0, 0.0, 0.0, -1.0]);
        assert_eq!(
            missing_eos(MissingEos::Ignore, 1.0, &mut [], &OFFSETS, &[0, 0]),
            None
        );
    }

    #[test]
    fn groups_without_spread_are_counted() {
        assert_eq!(zero_spread_fraction(&[1.0, 1.0, 2.0, 3.0], &[0, 2, 4]), 0.5);
    }
}
