//! The average of token rewards, its preference loss and its gradient (eq. 1 to 4). Sums are in f64, token by token.

use finegrain_sdk::info::{Capabilities, PluginInfo, Reference};
use finegrain_sdk::kinds::{PairGradients, RewardScheme, Rollouts, ScoredPairs, ScoredSide};
use finegrain_sdk::preference::bradley_terry;
use finegrain_sdk::{CallContext, Error, Plugin, Result};

use crate::options::{Options, Scale, Tokens};

/// The reward scheme `token-average`.
#[derive(Clone, Debug)]
pub struct TokenAverage {
    options: Options,
}

impl TokenAverage {
    /// T: how many tokens of a response count. They are its first ones, because only a closing EOS may be left out.
    fn counted(&self, ids: &[u32]) -> usize {
        match (self.options.exclude_eos_id, ids.last()) {
            (Some(eos), Some(&last)) if eos == last => ids.len() - 1,
            _ => ids.len(),
        }
    }

    /// The tokens whose scores the loss sums, by their place in the response.
    fn summed<'a>(
        &self,
        changed: &'a [u8],
        counted: usize,
    ) -> impl Iterator<Item = usize> + use<'a> {
        let all = self.options.tokens == Tokens::All;
        (0..counted).filter(move |&t| all || changed[t] != 0)
    }

    /// One side's part of the difference of eq. 3 or 4: `(1/T) Σ r_t` over the summed tokens; 0 where nothing is summed.
    fn side_reward(&self, side: &ScoredSide<'_>, row: usize) -> f64 {
        let scores = side.scores.row(row);
        let counted = self.counted(side.ids.row(row));
        let sum: f64 = self
            .summed(side.changed.row(row), counted)
            .map(|t| f64::from(scores[t]))
            .sum();
        mean(sum, counted)
    }

    /// Writes d loss / d score of one response: `slope` / T for a summed token, 0 for any other.
    fn write_gradient(&self, side: &ScoredSide<'_>, row: usize, slope: f64, out: &mut [f32]) {
        let out = &mut out[side.scores.range(row)];
        out.fill(0.0);
        let counted = self.counted(side.ids.row(row));
        for t in self.summed(side.changed.row(row), counted) {
            out[t] = (slope / counted as f64) as f32;
        }
    }
}

/// `sum / count`, and 0 for no tokens.
fn mean(sum: f64, count: usize) -> f64 {
    if count == 0 { 0.0 } else { sum / count as f64 }
}

impl Plugin for TokenAverage {
    const NAME: &'static str = "token-average";
    type Options = Options;

    fn info() -> PluginInfo {
        PluginInfo {
            summary: "a reward for every token, trained on their average over edited pairs".to_owned(),
            description: "R(τ) = (1/T) Σ r_t, where r_t is the score of response token t. The loss of a pair is \
                −log σ(R(chosen) − R(rejected)), with the sums over the changed tokens (tokens = \"changed\", 1/T kept) \
                or over all (tokens = \"all\"). A pair without changed tokens has the loss ln 2 and no gradient under \
                tokens = \"changed\". PPO gets r_t at token t, or r_t / T (scale = \"mean\")."
                .to_owned(),
            references: vec![Reference {
                title: "Aligning Large Language Models via Fine-grained Supervision, section 2.2, eq. 1 to 4".to_owned(),
                url: "https://arxiv.org/abs/2406.02756".to_owned(),
            }],
            capabilities: Capabilities::default(),
            examples: vec![
                "[[reward]]\nuse = \"token-average\"\noptions = { tokens = \"changed\", scale = \"none\" }".to_owned(),
            ],
        }
    }

    fn new(options: Options) -> Result<Self> {
        Ok(Self { options })
    }
}

impl RewardScheme for TokenAverage {
    fn preference_loss(
        &self,
        pairs: &ScoredPairs<'_>,
        gradients: PairGradients<'_>,
        context: &CallContext<'_>,
    ) -> Result<f64> {
        let rows = pairs.chosen.scores.rows();
        let mut total = 0.0;
        for row in 0..rows {
            context.check_cancelled()?;
            let difference =
                self.side_reward(&pairs.chosen, row) - self.side_reward(&pairs.rejected, row);
            if !difference.is_finite() {
                return Err(Error::input("scores are not finite").at_row(row));
            }
            let (loss, slope) = bradley_terry(difference);
            total += loss;
            let slope = slope / rows as f64;
            self.write_gradient(&pairs.chosen, row, slope, gradients.chosen);
            self.write_gradient(&pairs.rejected, row, -slope, gradients.rejected);
        }
        Ok(mean(total, rows))
    }

    fn sequence_reward(
        &self,
        rollouts: &Rollouts<'_>,
        rewards: &mut [f32],
        _context: &CallContext<'_>,
    ) -> Result<()> {
        for (row, reward) in rewards.iter_mut().enumerate() {
            let counted = self.counted(rollouts.ids.row(row));
            let sum: f64 = rollouts.scores.row(row)[..counted]
                .iter()
                .copied()
                .map(f64::from)
                .sum();
            *reward = mean(sum, counted) as f32;
        }
        Ok(())
    }

    fn token_rewards(
        &self,
        rollouts: &Rollouts<'_>,
        rewards: &mut [f32],
        _context: &CallContext<'_>,
    ) -> Result<()> {
        for row in 0..rollouts.scores.rows() {
            let scores = rollouts.scores.row(row);
            let counted = self.counted(rollouts.ids.row(row));
            let out = &mut rewards[rollouts.scores.range(row)];
            out.fill(0.0);
            for t in 0..counted {
                out[t] = match self.options.scale {
                    Scale::None => scores[t],
                    Scale::Mean => (f64::from(scores[t]) / counted as f64) as f32,
                };
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
