//! Disjoint splits by the hash of an id: a row keeps its split whatever rows stand around it.

use std::fmt;

use finegrain_sdk::rng::Stream;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What a row is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// Demonstrations for SFT.
    Sft,
    /// Pairs for the reward model.
    Reward,
    /// Prompts for PPO.
    Ppo,
    /// Prompts for the evaluation.
    Eval,
    /// Pairs for a judge that is trained.
    Judge,
    /// Pairs that nothing is trained on: reward-model accuracy and localisation.
    HeldOut,
}

impl Split {
    /// All splits, in the order in which they share the hashes.
    pub const ALL: [Self; 6] = [
        Self::Sft,
        Self::Reward,
        Self::Ppo,
        Self::Eval,
        Self::Judge,
        Self::HeldOut,
    ];

    /// What something is trained on that is measured afterwards, and the prompts by which checkpoints are chosen.
    pub const TRAINING: [Self; 3] = [Self::Sft, Self::Reward, Self::Ppo];

    /// What something is measured with: the judge, whose training must not see the policy's, is one of the measures.
    pub const TESTING: [Self; 3] = [Self::Eval, Self::HeldOut, Self::Judge];
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sft => "sft",
            Self::Reward => "reward",
            Self::Ppo => "ppo",
            Self::Eval => "eval",
            Self::Judge => "judge",
            Self::HeldOut => "held-out",
        })
    }
}

/// What share of the rows each split gets. Shares are never negative and add up to at most 1; what is left over is not
/// used.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SplitFractions {
    /// Demonstrations for SFT.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub sft: f64,
    /// Pairs for the reward model.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub reward: f64,
    /// Prompts for PPO.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub ppo: f64,
    /// Prompts for the evaluation.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub eval: f64,
    /// Pairs for a judge that is trained.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub judge: f64,
    /// Pairs that nothing is trained on.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub held_out: f64,
}

impl Default for SplitFractions {
    fn default() -> Self {
        Self {
            sft: 0.3,
            reward: 0.3,
            ppo: 0.2,
            eval: 0.1,
            judge: 0.0,
            held_out: 0.1,
        }
    }
}

impl SplitFractions {
    /// The share of a split.
    pub fn of(&self, split: Split) -> f64 {
        match split {
            Split::Sft => self.sft,
            Split::Reward => self.reward,
            Split::Ppo => self.ppo,
            Split::Eval => self.eval,
            Split::Judge => self.judge,
            Split::HeldOut => self.held_out,
        }
    }

    /// Refuses shares below 0, and shares that add up to nothing or to more than 1.
    pub fn validate(&self) -> Result<()> {
        for split in Split::ALL {
            let share = self.of(split);
            if !(0.0..=1.0).contains(&share) {
                return Err(Error::input(format!(
                    "the share of split {split} is {share}; accepted: 0 to 1"
                )));
            }
        }
        let sum: f64 = Split::ALL.iter().map(|&split| self.of(split)).sum();
        // Room for the rounding of six shares that were meant to add up to 1.
        if sum <= 0.0 || sum > 1.0 + 1e-9 {
            return Err(Error::input(format!(
                "the shares of the splits add up to {sum}; accepted: more than 0, at most 1"
            )));
        }
        Ok(())
    }

    /// The split of a row, from its id or the name of its group; `None` where it falls into what is left over.
    pub fn split(&self, name: &str) -> Option<Split> {
        let hash = Stream::new(0).child("split").child(name).seed();
        // 53 bits: every value is a double in [0, 1).
        let place = (hash >> 11) as f64 / (1_u64 << 53) as f64;
        let mut end = 0.0;
        Split::ALL.into_iter().find(|&split| {
            end += self.of(split);
            place < end
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_kept_and_a_row_keeps_its_split() {
        let fractions = SplitFractions {
            sft: 0.5,
            reward: 0.25,
            ppo: 0.0,
            eval: 0.15,
            judge: 0.0,
            held_out: 0.0,
        };
        let rows = 20_000;
        let splits: Vec<_> = (0..rows)
            .map(|row| fractions.split(&row.to_string()))
            .collect();
        for (split, share) in [
            (Some(Split::Sft), 0.5),
            (Some(Split::Reward), 0.25),
            (Some(Split::Ppo), 0.0),
            (Some(Split::Eval), 0.15),
            (None, 0.1),
        ] {
            let found = splits.iter().filter(|&&found| found == split).count() as f64;
            // Four standard errors of a share of a half.
            assert!(
                (found / f64::from(rows) - share).abs() < 0.0142,
                "{split:?}"
            );
        }
        assert_eq!(fractions.split("17"), fractions.split("17"));
    }

    // from hashlib import sha256
    // key = sha256(b"finegrain/seed" + bytes(8)).digest()
    // key = sha256(key + b"/name" + b"split").digest()
    // names = ["sft", "reward", "ppo", "eval"]
    // def split(row):
    //     seed = int.from_bytes(sha256(key + b"/name" + row.encode()).digest()[:8], "little")
    //     return names[int((seed >> 11) / 2**53 * 4)]
    // print(" ".join(split(f"row-{row}") for row in range(8)))
    #[test]
    fn the_hash_is_the_same_on_every_machine() {
        let even = SplitFractions {
            sft: 0.25,
            reward: 0.25,
            ppo: 0.25,
            eval: 0.25,
            judge: 0.0,
            held_out: 0.0,
        };
        let splits: Vec<String> = (0..8)
            .filter_map(|row| even.split(&format!("row-{row}")))
            .map(|split| split.to_string())
            .collect();
        assert_eq!(
            splits.join(" "),
            "eval reward eval eval reward reward ppo eval"
        );
    }

    #[test]
    fn impossible_shares_are_refused() {
        let with = |sft| SplitFractions {
            sft,
            ..SplitFractions::default()
        };
        for sft in [-0.1, 1.1, f64::NAN, 0.4] {
            assert_eq!(with(sft).validate().unwrap_err().exit_code(), 2, "{sft}");
        }
        assert!(with(0.3).validate().is_ok());
        let none = SplitFractions {
            sft: 0.0,
            reward: 0.0,
            ppo: 0.0,
            eval: 0.0,
            judge: 0.0,
            held_out: 0.0,
        };
        assert!(none.validate().is_err());
    }
}
