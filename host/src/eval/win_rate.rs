//! The win rate of a model against the reference on the same prompts (Table 1 of the paper).

use serde::{Deserialize, Serialize};

use super::judging::Outcome;
use super::over_seeds::{OverSeeds, Seeded};
use super::statistics::{Bootstrap, Interval, SeedValues, Sharing, mean};
use crate::error::Result;

/// The outcomes of one seed, as [`judge_both_orders`](super::judging::judge_both_orders) returns them.
pub type SeedOutcomes = Seeded<Vec<Outcome>>;

/// A win rate. Rates are fractions in [0, 1]; reports print percent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WinRate {
    /// Mean preference for the model, ties half; `None` where nothing was judged.
    pub rate: Option<f64>,
    /// **One** standard error, s / √n over prompts (ddof 1): what AlpacaFarm and the paper print after ±.
    pub se: Option<f64>,
    /// The 95% interval: percentile bootstrap over prompts, or Wilson where all preferences are equal.
    pub interval: Option<Interval>,
    /// Prompts that were judged: wins + ties + losses.
    pub n: usize,
    /// Prompts with a preference above one half.
    pub wins: usize,
    /// Prompts with a preference of exactly one half.
    pub ties: usize,
    /// Prompts with a preference below one half.
    pub losses: usize,
    /// Prompts where the two orders preferred different responses; part of `n`.
    pub flips: usize,
    /// Prompts where both responses were the same text; part of `ties`.
    pub identical: usize,
    /// Prompts where the judge failed in either order; not part of `n`.
    pub failures: usize,
    /// Mean length of the model's judged responses in characters.
    pub mean_length_model: Option<f64>,
    /// Mean length of the reference's judged responses in characters.
    pub mean_length_reference: Option<f64>,
}

impl WinRate {
    /// The win rate of one run.
    pub fn of(outcomes: &[Outcome], bootstrap: &Bootstrap) -> Self {
        let preferences: Vec<f64> = outcomes.iter().filter_map(|o| o.preference).collect();
        let judged: Vec<&Outcome> = outcomes.iter().filter(|o| o.preference.is_some()).collect();
        let estimate = bootstrap
            .mean(&preferences)
            .map(super::statistics::Estimate::or_wilson);
        let length = |of: fn(&Outcome) -> usize| {
            mean(&judged.iter().map(|o| of(o) as f64).collect::<Vec<_>>())
        };
        Self {
            rate: estimate.map(|e| e.value),
            se: estimate.and_then(|e| e.se),
            interval: estimate.and_then(|e| e.interval),
            n: preferences.len(),
            wins: preferences.iter().filter(|&&p| p > 0.5).count(),
            ties: preferences.iter().filter(|&&p| p == 0.5).count(),
            losses: preferences.iter().filter(|&&p| p < 0.5).count(),
            flips: judged.iter().filter(|o| o.flip).count(),
            identical: judged.iter().filter(|o| o.identical).count(),
            failures: outcomes.len() - judged.len(),
            mean_length_model: length(|o| o.length_model),
            mean_length_reference: length(|o| o.length_reference),
        }
    }

    /// The win rates of several seeds and the mean over them, with the hierarchical interval.
    ///
    /// # Errors
    /// A prompt id that a seed has twice.
    pub fn over_seeds(
        seeds: &[SeedOutcomes],
        sharing: Sharing,
        bootstrap: &Bootstrap,
    ) -> Result<OverSeeds<Self>> {
        let preferences = SeedValues::new(
            seeds
                .iter()
                .map(|s| s.value.iter().map(|o| (o.id.as_str(), o.preference))),
            sharing,
        )?;
        Ok(OverSeeds {
            seeds: seeds
                .iter()
                .map(|s| Seeded {
                    seed: s.seed,
                    value: Self::of(&s.value, bootstrap),
                })
                .collect(),
            overall: preferences
                .estimate(bootstrap)
                .map(super::statistics::Estimate::or_wilson),
        })
    }
}

#[cfg(test)]
pub(in crate::eval) mod tests {
    use super::*;
    use crate::eval::statistics::wilson;
    use finegrain_sdk::rng::Stream;

    /// Outcomes with ids p0, p1, … and lengths 10 (model) and 8 (reference).
    pub(in crate::eval) fn outcomes(preferences: &[Option<f64>]) -> Vec<Outcome> {
        preferences
            .iter()
            .enumerate()
            .map(|(i, &preference)| Outcome {
                id: format!("p{i}"),
                preference,
                verdicts: [None; 2],
                flip: preference == Some(0.5),
                identical: false,
                failure: preference.is_none().then(|| "no answer".to_owned()),
                reasons: Default::default(),
                length_model: 10,
                length_reference: 8,
                members: Vec::new(),
            })
            .collect()
    }

    fn bootstrap() -> Bootstrap {
        Bootstrap::new(Stream::new(5)).with_resamples(2000)
    }

    #[test]
    fn counts_and_rate() {
        let win_rate = WinRate::of(
            &outcomes(&[Some(1.0), Some(0.5), None, Some(0.0), Some(1.0), Some(0.75)]),
            &bootstrap(),
        );
        assert_eq!(win_rate.rate, Some(0.65));
        assert_eq!((win_rate.n, win_rate.failures, win_rate.flips), (5, 1, 1));
        assert_eq!((win_rate.wins, win_rate.ties, win_rate.losses), (3, 1, 1));
        assert_eq!(
            (win_rate.mean_length_model, win_rate.mean_length_reference),
            (Some(10.0), Some(8.0))
        );
    }

    // AlpacaFarm's PPO row: 370 wins, 424 losses, 9 ties of 803; it prints 46.64 ± 1.75.
    // import numpy as np; from scipy import stats
    // v = np.array([1.0] * 370 + [0.5] * 9 + [0.0] * 424); print(100 * v.mean(), 100 * stats.sem(v))
    #[test]
    fn reproduces_a_row_of_alpacafarm() {
        let preferences = [(1.0, 370), (0.5, 9), (0.0, 424)];
        let preferences: Vec<_> = preferences
            .iter()
            .flat_map(|&(p, n)| vec![Some(p); n])
            .collect();
        let win_rate = WinRate::of(&outcomes(&preferences), &bootstrap());
        assert!(
            (win_rate.rate.unwrap() - 0.466_376).abs() < 1e-6,
            "{:?}",
            win_rate.rate
        );
        assert!(
            (win_rate.se.unwrap() - 0.017_51).abs() < 1e-5,
            "{:?}",
            win_rate.se
        );
        let interval = win_rate.interval.unwrap();
        assert!(
            (interval.low - 0.4321).abs() < 0.004 && (interval.high - 0.5007).abs() < 0.004,
            "{interval:?}"
        );
    }

    #[test]
    fn nothing_judged_is_none_and_one_prompt_has_a_wide_interval() {
        for none in [vec![], outcomes(&[None, None])] {
            let win_rate = WinRate::of(&none, &bootstrap());
            assert_eq!(
                (win_rate.rate, win_rate.se, win_rate.interval),
                (None, None, None)
            );
            assert_eq!(
                (win_rate.n, win_rate.failures, win_rate.mean_length_model),
                (0, none.len(), None)
            );
        }
        let one = WinRate::of(&outcomes(&[Some(1.0)]), &bootstrap());
        assert_eq!(
            (one.rate, one.se, one.interval),
            (Some(1.0), None, wilson(1.0, 1))
        );
    }

    #[test]
    fn seeds_are_averaged_and_kept() {
        let seeds = [
            (1, [Some(1.0), Some(1.0), Some(0.0), None]),
            (2, [Some(0.0), Some(0.0), Some(0.0), Some(1.0)]),
        ]
        .map(|(seed, preferences)| Seeded {
            seed,
            value: outcomes(&preferences),
        });
        let over = WinRate::over_seeds(&seeds, Sharing::Shared, &bootstrap()).unwrap();
        assert!((over.overall.unwrap().value - 11.0 / 24.0).abs() < 1e-12);
        assert_eq!(over.overall.unwrap().n, 4);
        assert_eq!(over.seeds[1].seed, 2);
        assert_eq!(over.seeds[1].value.rate, Some(0.25));
        let single = WinRate::over_seeds(&seeds[..1], Sharing::Shared, &bootstrap()).unwrap();
        assert_eq!(
            single.overall.unwrap().interval,
            single.seeds[0].value.interval
        );
    }
}
