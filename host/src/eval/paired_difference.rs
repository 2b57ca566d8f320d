//! The difference of two models' win rates on the same prompts.
//!
//! Two variants answer the same prompts and are compared with the same references, so what a prompt does to both cancels
//! in the difference per prompt. Comparing two intervals that each stand alone would throw that away.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::judging::Outcome;
use super::statistics::{
    Bootstrap, Interval, SeedValues, Sharing, exact_sign_test, holm, t_interval,
};
use super::win_rate::SeedOutcomes;
use crate::error::{Error, Result};

/// Mean preference of a variant minus that of the baseline, paired by prompt (and seed).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairedDifference {
    /// The difference, as a fraction: 0.05 are five points of win rate. `None` where no prompt was judged on both sides.
    pub difference: Option<f64>,
    /// One standard error.
    pub se: Option<f64>,
    /// The 95% interval: paired bootstrap over prompts; over seeds and prompts where there are several seeds.
    pub interval: Option<Interval>,
    /// Prompts judged on both sides.
    pub n: usize,
    /// (Seed, prompt) pairs where the variant did better than the baseline.
    pub better: usize,
    /// Where it did worse.
    pub worse: usize,
    /// Where both did the same.
    pub equal: usize,
    /// Exact sign test of `better` against `worse`, two-sided. Only with one seed: over several seeds the same prompt
    /// occurs more than once, and the test would take that for new evidence.
    pub p_value: Option<f64>,
    /// What `p_value` is the p-value of.
    #[serde(default)]
    pub test: Option<ExactTest>,
    /// Two-sided p-value of the bootstrap behind `interval`; `None` where too few prompts differ for it to mean anything.
    #[serde(default)]
    pub p_bootstrap: Option<f64>,
    /// `p_bootstrap` after Holm's correction over all variants of the comparison: set by [`PairedDifference::correct`].
    #[serde(default)]
    pub p_holm: Option<f64>,
    /// Student's t interval over the seeds' own differences: `None` with one seed.
    #[serde(default)]
    pub seed_interval: Option<Interval>,
}

/// An exact test of paired answers; both are the binomial test of the pairs that differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExactTest {
    /// All preferences are 0 or 1.
    McNemar,
    /// There are ties or shades between 0 and 1; it counts which side did better, and drops equal pairs.
    Sign,
}

/// What a paired difference supports at 95%.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Support {
    /// The variant is better.
    Higher,
    /// The variant is worse.
    Lower,
    /// The interval contains 0.
    NoDifference,
    /// Fewer than [`PairedDifference::LEAST_DISCORDANT`] prompts differ, or there is no interval.
    TooLittleData,
}

impl PairedDifference {
    /// Below six prompts that differ, not even six equal signs reach 5% in the exact sign test (2 · 2⁻⁵ = 0.0625), so no
    /// bootstrap interval of them is taken at its word.
    pub const LEAST_DISCORDANT: usize = 6;

    /// The difference `variant − baseline`; seeds are matched by their number.
    ///
    /// # Errors
    /// Seeds that are not the same on both sides, or a prompt id that a seed has twice.
    pub fn over_seeds(
        variant: &[SeedOutcomes],
        baseline: &[SeedOutcomes],
        sharing: Sharing,
        bootstrap: &Bootstrap,
    ) -> Result<Self> {
        let seeds = |side: &[SeedOutcomes]| side.iter().map(|s| s.seed).collect::<Vec<_>>();
        if seeds(variant) != seeds(baseline) {
            return Err(Error::internal(format!(
                "a paired difference needs the same seeds on both sides, not {:?} and {:?}",
                seeds(variant),
                seeds(baseline)
            )));
        }
        let binary = variant
            .iter()
            .chain(baseline)
            .flat_map(|seed| &seed.value)
            .filter_map(|outcome| outcome.preference)
            .all(|p| p == 0.0 || p == 1.0);
        let lists = variant
            .iter()
            .zip(baseline)
            .map(|(ours, theirs)| differences(&ours.value, &theirs.value))
            .collect::<Result<Vec<_>>>()?;
        let differences = SeedValues::new(lists, sharing)?;
        let estimate = differences.estimate(bootstrap);
        let count = |which: fn(f64) -> bool| differences.values().filter(|&d| which(d)).count();
        let (better, worse) = (count(|d| d > 0.0), count(|d| d < 0.0));
        let p_value = if variant.len() == 1 {
            exact_sign_test(better, worse)
        } else {
            None
        };
        let enough = better + worse >= Self::LEAST_DISCORDANT;
        let p_bootstrap = if enough {
            differences.p_zero(bootstrap)
        } else {
            None
        };
        Ok(Self {
            difference: estimate.map(|e| e.value),
            se: estimate.and_then(|e| e.se),
            interval: estimate.and_then(|e| e.interval),
            n: differences.units(),
            better,
            worse,
            equal: count(|d| d == 0.0),
            p_value,
            test: p_value.map(|_| {
                if binary {
                    ExactTest::McNemar
                } else {
                    ExactTest::Sign
                }
            }),
            p_bootstrap,
            p_holm: None,
            seed_interval: t_interval(&differences.seed_means()),
        })
    }

    /// Sets `p_holm` of all differences of a comparison. One without a p-value counts as a test that found nothing.
    pub fn correct(differences: &mut [&mut Self]) {
        let raw: Vec<f64> = differences
            .iter()
            .map(|d| d.p_bootstrap.unwrap_or(1.0))
            .collect();
        for (difference, adjusted) in differences.iter_mut().zip(holm(&raw)) {
            difference.p_holm = difference.p_bootstrap.map(|_| adjusted);
        }
    }

    /// What the difference supports after Holm's correction, or before it where there is none: the interval must exclude 0
    /// and the corrected p-value must not exceed 5%.
    pub fn corrected_support(&self) -> Support {
        match self.support() {
            Support::Higher | Support::Lower if self.p_holm.is_some_and(|p| p > 0.05) => {
                Support::NoDifference
            }
            support => support,
        }
    }

    /// What the interval supports at 95%, for this difference alone.
    pub fn support(&self) -> Support {
        match self.interval {
            Some(interval) if self.better + self.worse >= Self::LEAST_DISCORDANT => {
                if interval.low > 0.0 {
                    Support::Higher
                } else if interval.high < 0.0 {
                    Support::Lower
                } else {
                    Support::NoDifference
                }
            }
            Some(interval) if interval.contains(0.0) => Support::NoDifference,
            _ => Support::TooLittleData,
        }
    }
}

/// Per prompt of `ours` the difference of preferences; `None` where either side has none.
fn differences<'a>(ours: &'a [Outcome], theirs: &[Outcome]) -> Result<Vec<(&'a str, Option<f64>)>> {
    let mut others = BTreeMap::new();
    for outcome in theirs {
        if others
            .insert(outcome.id.as_str(), outcome.preference)
            .is_some()
        {
            return Err(Error::internal(format!(
                "the id `{}` occurs twice in one seed",
                outcome.id
            )));
        }
    }
    let difference = |outcome: &Outcome| {
        let other = others.get(outcome.id.as_str()).copied().flatten()?;
        Some(outcome.preference? - other)
    };
    Ok(ours
        .iter()
        .map(|o| (o.id.as_str(), difference(o)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::over_seeds::Seeded;
    use crate::eval::win_rate::tests::outcomes;
    use finegrain_sdk::rng::Stream;

    fn difference(variant: &[&[Option<f64>]], baseline: &[&[Option<f64>]]) -> PairedDifference {
        let side = |lists: &[&[Option<f64>]]| -> Vec<SeedOutcomes> {
            lists
                .iter()
                .enumerate()
                .map(|(i, p)| Seeded {
                    seed: i as u64,
                    value: outcomes(p),
                })
                .collect()
        };
        let bootstrap = Bootstrap::new(Stream::new(5)).with_resamples(2000);
        PairedDifference::over_seeds(&side(variant), &side(baseline), Sharing::Shared, &bootstrap)
            .unwrap()
    }

    #[test]
    fn pairs_by_id_and_drops_what_failed_on_either_side() {
        let found = difference(
            &[&[Some(1.0), Some(0.5), None, Some(0.0), Some(1.0)]],
            &[&[Some(0.0), Some(0.5), Some(1.0), Some(1.0), None]],
        );
        assert_eq!(found.difference, Some(0.0));
        assert_eq!(
            (found.n, found.better, found.worse, found.equal),
            (3, 1, 1, 1)
        );
        assert_eq!(found.p_value, Some(1.0));
        assert_eq!(found.support(), Support::NoDifference);
    }

    #[test]
    fn supports_what_the_interval_excludes() {
        let (wins, losses) = (vec![Some(1.0); 30], vec![Some(0.0); 30]);
        assert_eq!(difference(&[&wins], &[&losses]).support(), Support::Higher);
        assert_eq!(difference(&[&losses], &[&wins]).support(), Support::Lower);
        assert_eq!(
            difference(&[&wins], &[&wins]).support(),
            Support::NoDifference
        );
        // Three unanimous prompts: the bootstrap interval is [1, 1] and means nothing.
        let few = difference(&[&wins[..3]], &[&losses[..3]]);
        assert_eq!(
            few.interval,
            Some(Interval {
                low: 1.0,
                high: 1.0
            })
        );
        assert_eq!(few.support(), Support::TooLittleData);
        assert_eq!(
            difference(&[&wins[..1]], &[&losses[..1]]).support(),
            Support::TooLittleData
        );
    }

    #[test]
    fn nothing_in_common_is_none() {
        let none = difference(&[&[None, Some(1.0)]], &[&[Some(1.0), None]]);
        assert_eq!(
            (none.difference, none.interval, none.p_value, none.n),
            (None, None, None, 0)
        );
        assert_eq!(none.support(), Support::TooLittleData);
    }

    #[test]
    fn several_seeds_have_no_sign_test_and_a_wider_interval() {
        let better: Vec<_> = (0..40)
            .map(|i| Some(if i % 4 == 0 { 0.0 } else { 1.0 }))
            .collect();
        let half = vec![Some(0.5); 40];
        let zero = vec![Some(0.0); 40];
        let one = difference(&[&better], &[&half]);
        let two = difference(&[&better, &zero], &[&half, &half]);
        assert_eq!((two.p_value, two.n, two.better + two.worse), (None, 40, 80));
        assert_eq!(one.support(), Support::Higher);
        assert_eq!(two.support(), Support::NoDifference);
    }

    #[test]
    fn yes_or_no_answers_are_mcnemars_and_ties_are_a_sign_test() {
        let ours: Vec<_> = (0..12).map(|i| Some(f64::from(i % 4 == 0))).collect();
        let theirs: Vec<_> = (0..12).map(|i| Some(f64::from(i % 4 != 0))).collect();
        let binary = difference(&[&ours], &[&theirs]);
        assert_eq!((binary.better, binary.worse), (3, 9));
        // mcnemar([[0, 3], [9, 0]], exact=True) of statsmodels.
        assert!((binary.p_value.unwrap() - 0.145_996_093_75).abs() < 1e-12);
        assert_eq!(binary.test, Some(ExactTest::McNemar));
        let half = vec![Some(0.5); 12];
        let test = difference(&[&ours], &[&half]).test;
        assert_eq!(test, Some(ExactTest::Sign));
    }

    #[test]
    fn the_correction_decides_what_is_supported() {
        let ours: Vec<_> = (0..40)
            .map(|i| Some(if i % 10 < 8 { 1.0 } else { 0.0 }))
            .collect();
        let half = vec![Some(0.5); 40];
        let mut strong = difference(&[&ours], &[&half]);
        let mut weak = strong.clone();
        let mut absent = difference(&[&half], &[&half]);
        assert_eq!(absent.p_bootstrap, None);
        let alone = strong.p_bootstrap.unwrap();
        assert!(alone < 0.05);
        weak.p_bootstrap = Some(0.04);
        PairedDifference::correct(&mut [&mut strong, &mut weak, &mut absent]);
        assert_eq!(strong.p_holm, Some(3.0 * alone));
        assert_eq!((weak.p_holm, absent.p_holm), (Some(0.08), None));
        assert_eq!(weak.support(), Support::Higher);
        assert_eq!(weak.corrected_support(), Support::NoDifference);
        assert_eq!(strong.corrected_support(), Support::Higher);
        assert_eq!(strong.seed_interval, None);
    }

    #[test]
    fn other_seeds_are_refused() {
        let bootstrap = Bootstrap::new(Stream::new(5)).with_resamples(10);
        let [a, b] = [1, 2].map(|seed| {
            [Seeded {
                seed,
                value: outcomes(&[Some(1.0)]),
            }]
        });
        assert!(PairedDifference::over_seeds(&a, &b, Sharing::Shared, &bootstrap).is_err());
    }
}
