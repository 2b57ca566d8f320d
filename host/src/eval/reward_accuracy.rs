//! How often a reward model ranks a pair as it is labelled (Table 2 of the paper), as one cell of a 2×2.
//!
//! The paper compares a model trained and tested on edits with one trained and tested on pairs. Edit pairs are an easier
//! test, so the two numbers do not say which training is better; the 2×2 (trained on × tested on) does. Beside it stands
//! what "longer is better" scores on the same pairs, which a reward model has to beat.

use serde::{Deserialize, Serialize};

use super::over_seeds::{OverSeeds, Seeded};
use super::statistics::{Bootstrap, Estimate, Interval, SeedValues, Sharing, mean, wilson};
pub use crate::data::records::PairSource;
use crate::data::records::Record;
use crate::error::{Error, Result};

/// A labelled pair with the rewards of both sides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RankedPair {
    /// The pair's id.
    pub id: String,
    /// R(τ) of the preferred response, as the reward scheme's `sequence_reward` gives it.
    pub chosen: f64,
    /// R(τ) of the other response.
    pub rejected: f64,
    /// Tokens of the preferred response.
    pub chosen_length: usize,
    /// Tokens of the other response.
    pub rejected_length: usize,
}

impl Record for RankedPair {
    const KIND: &'static str = "a ranked pair";
    const REQUIRED: &'static [&'static str] = &[
        "id",
        "chosen",
        "rejected",
        "chosen_length",
        "rejected_length",
    ];

    fn id(&self) -> &str {
        &self.id
    }

    fn texts(&self) -> Vec<(&'static str, &str)> {
        Vec::new()
    }
}

impl RankedPair {
    /// 1 where the reward agrees with the label, ½ where both rewards are equal, 0 where it does not.
    pub fn correct(&self) -> f64 {
        agreement(self.chosen, self.rejected)
    }

    /// The same of the rule "the longer response is better".
    pub fn longer_is_correct(&self) -> f64 {
        agreement(self.chosen_length as f64, self.rejected_length as f64)
    }
}

fn agreement(chosen: f64, rejected: f64) -> f64 {
    if chosen == rejected {
        0.5
    } else if chosen > rejected {
        1.0
    } else {
        0.0
    }
}

/// An accuracy on one set of pairs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Fraction of pairs that are ranked as labelled, ties half; `None` of no pairs.
    pub rate: Option<f64>,
    /// The 95% Wilson interval.
    pub interval: Option<Interval>,
    /// How many pairs.
    pub n: usize,
    /// Pairs whose two sides score the same.
    pub ties: usize,
    /// Mean of R(chosen) − R(rejected), in the scheme's own unit; `None` of no pairs.
    pub mean_margin: Option<f64>,
}

impl Accuracy {
    fn new(
        pairs: &[RankedPair],
        correct: fn(&RankedPair) -> f64,
        margin: fn(&RankedPair) -> f64,
    ) -> Self {
        let answers: Vec<f64> = pairs.iter().map(correct).collect();
        Self {
            rate: mean(&answers),
            interval: wilson(answers.iter().sum(), answers.len()),
            n: answers.len(),
            ties: answers.iter().filter(|&&a| a == 0.5).count(),
            mean_margin: mean(&pairs.iter().map(margin).collect::<Vec<_>>()),
        }
    }

    /// The accuracy of the rewards.
    ///
    /// # Errors
    /// A reward that is not finite.
    pub fn of(pairs: &[RankedPair]) -> Result<Self> {
        if let Some(pair) = pairs
            .iter()
            .find(|p| !(p.chosen.is_finite() && p.rejected.is_finite()))
        {
            return Err(Error::internal(format!(
                "pair `{}` has the rewards {} and {}; finite numbers are accepted",
                pair.id, pair.chosen, pair.rejected
            )));
        }
        Ok(Self::new(pairs, RankedPair::correct, |p| {
            p.chosen - p.rejected
        }))
    }

    /// The accuracy of "the longer response is better"; margins are in tokens. "Shorter is better" scores 1 − rate.
    pub fn of_longer(pairs: &[RankedPair]) -> Self {
        Self::new(pairs, RankedPair::longer_is_correct, |p| {
            p.chosen_length as f64 - p.rejected_length as f64
        })
    }

    /// The accuracies of several seeds and the mean over them: Wilson with one seed, else the hierarchical bootstrap.
    ///
    /// # Errors
    /// A reward that is not finite, or a pair id that a seed has twice.
    pub fn over_seeds(
        seeds: &[Seeded<Vec<RankedPair>>],
        sharing: Sharing,
        bootstrap: &Bootstrap,
    ) -> Result<OverSeeds<Self>> {
        let own = seeds
            .iter()
            .map(|s| Self::of(&s.value))
            .collect::<Result<_>>()?;
        Self::gather(seeds, own, RankedPair::correct, sharing, bootstrap)
    }

    /// The same for "the longer response is better".
    ///
    /// # Errors
    /// A pair id that a seed has twice.
    pub fn longer_over_seeds(
        seeds: &[Seeded<Vec<RankedPair>>],
        sharing: Sharing,
        bootstrap: &Bootstrap,
    ) -> Result<OverSeeds<Self>> {
        let own = seeds.iter().map(|s| Self::of_longer(&s.value)).collect();
        Self::gather(
            seeds,
            own,
            RankedPair::longer_is_correct,
            sharing,
            bootstrap,
        )
    }

    fn gather(
        seeds: &[Seeded<Vec<RankedPair>>],
        own: Vec<Self>,
        correct: fn(&RankedPair) -> f64,
        sharing: Sharing,
        bootstrap: &Bootstrap,
    ) -> Result<OverSeeds<Self>> {
        let answers = SeedValues::new(
            seeds
                .iter()
                .map(|s| s.value.iter().map(|p| (p.id.as_str(), Some(correct(p))))),
            sharing,
        )?;
        let overall = answers
            .estimate(bootstrap)
            .map(|estimate| match own.as_slice() {
                [only] => Estimate {
                    interval: only.interval,
                    ..estimate
                },
                _ => estimate.or_wilson(),
            });
        let seeds = seeds.iter().zip(own).map(|(s, value)| Seeded {
            seed: s.seed,
            value,
        });
        Ok(OverSeeds {
            seeds: seeds.collect(),
            overall,
        })
    }
}

/// One cell of the 2×2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AccuracyCell {
    /// What the reward model was trained on.
    pub trained_on: PairSource,
    /// The reward scheme it was trained with, such as `sequence` or `token-average`.
    pub scheme: String,
    /// What it was tested on; never what it was trained on itself.
    pub tested_on: PairSource,
    /// The accuracy.
    pub accuracy: OverSeeds<Accuracy>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use finegrain_sdk::rng::Stream;

    fn pairs(rows: &[(f64, f64, usize, usize)]) -> Vec<RankedPair> {
        let pair = |(i, &(chosen, rejected, chosen_length, rejected_length)): (
            usize,
            &(f64, f64, usize, usize),
        )| {
            RankedPair {
                id: format!("q{i}"),
                chosen,
                rejected,
                chosen_length,
                rejected_length,
            }
        };
        rows.iter().enumerate().map(pair).collect()
    }

    const ROWS: [(f64, f64, usize, usize); 4] = [
        (2.0, 1.0, 5, 9),
        (0.5, 0.5, 9, 9),
        (-1.0, 0.0, 8, 4),
        (3.0, -1.0, 7, 6),
    ];

    #[test]
    fn ties_count_half() {
        let accuracy = Accuracy::of(&pairs(&ROWS)).unwrap();
        assert_eq!(
            (accuracy.rate, accuracy.n, accuracy.ties),
            (Some(0.625), 4, 1)
        );
        assert_eq!(accuracy.mean_margin, Some(1.0));
        assert_eq!(accuracy.interval, wilson(2.5, 4));
        let longer = Accuracy::of_longer(&pairs(&ROWS));
        assert_eq!(
            (longer.rate, longer.ties, longer.mean_margin),
            (Some(0.625), 1, Some(0.25))
        );
    }

    #[test]
    fn no_pairs_have_no_accuracy_and_rewards_must_be_finite() {
        let none = Accuracy::of(&[]).unwrap();
        assert_eq!(
            (none.rate, none.interval, none.n, none.mean_margin),
            (None, None, 0, None)
        );
        let error = Accuracy::of(&pairs(&[(f64::NAN, 0.0, 1, 1)])).unwrap_err();
        assert!(error.to_string().contains("pair `q0`"));
    }

    #[test]
    fn one_seed_keeps_wilson_and_several_are_averaged() {
        let bootstrap = Bootstrap::new(Stream::new(2)).with_resamples(500);
        let seeds = [
            Seeded {
                seed: 1,
                value: pairs(&ROWS),
            },
            Seeded {
                seed: 2,
                value: pairs(&[(1.0, 0.0, 1, 2), (0.0, 1.0, 1, 2)]),
            },
        ];
        let one = Accuracy::over_seeds(&seeds[..1], Sharing::PerSeed, &bootstrap).unwrap();
        assert_eq!(one.overall.unwrap().interval, wilson(2.5, 4));
        let two = Accuracy::over_seeds(&seeds, Sharing::PerSeed, &bootstrap).unwrap();
        assert_eq!(
            (two.overall.unwrap().value, two.overall.unwrap().n),
            (0.5625, 6)
        );
        let longer = Accuracy::longer_over_seeds(&seeds, Sharing::PerSeed, &bootstrap).unwrap();
        assert_eq!(longer.overall.unwrap().value, 0.312_5);
        assert_eq!(longer.seeds[1].value.rate, Some(0.0));
    }
}
