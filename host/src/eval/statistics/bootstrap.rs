//! The percentile bootstrap (Efron & Tibshirani 1993, chapter 13), over units and over seeds × units.
//!
//! Resample b draws from `stream.index(b)`, so the result depends neither on threads nor on what was resampled before.

use finegrain_sdk::rng::Stream;
use rand::RngExt;
use rayon::prelude::*;

use super::intervals::{Estimate, Interval, mean, standard_error};

/// What resampling says of a statistic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Standard deviation of the statistic over the resamples.
    pub se: f64,
    /// Its 2.5% and 97.5% quantiles over the resamples.
    pub interval: Interval,
    /// Two-sided p-value against 0 that the interval implies: twice the smaller share of resamples on one side of 0, those
    /// at 0 on both sides, at most 1. The observed sample counts as one more resample, so it is never 0.
    pub p_zero: f64,
}

/// How seeds and units (prompts, pairs, responses) are crossed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Design {
    /// Every seed was measured on the same units. A resample draws seeds, then **one** set of units for all of them:
    /// units drawn anew for every seed would average away the variance that the seeds share.
    Crossed {
        /// How many seeds.
        seeds: usize,
        /// How many units.
        units: usize,
    },
    /// Every seed has units of its own, this many. A resample draws seeds, then units for every drawn seed.
    Nested(Vec<usize>),
}

impl Design {
    fn seeds(&self) -> usize {
        match self {
            Self::Crossed { seeds, .. } => *seeds,
            Self::Nested(units) => units.len(),
        }
    }

    /// The most units that a seed has; below two nothing can be resampled.
    fn most_units(&self) -> usize {
        match self {
            Self::Crossed { units, .. } => *units,
            Self::Nested(units) => units.iter().copied().max().unwrap_or(0),
        }
    }
}

/// A deterministic bootstrap.
#[derive(Clone, Copy, Debug)]
pub struct Bootstrap {
    stream: Stream,
    resamples: usize,
}

impl Bootstrap {
    /// Resamples of a new bootstrap: the ends of a 95% interval then vary by about 1% of its width between streams.
    pub const RESAMPLES: usize = 10_000;

    /// A bootstrap that draws from `stream`.
    pub fn new(stream: Stream) -> Self {
        Self {
            stream,
            resamples: Self::RESAMPLES,
        }
    }

    /// The same bootstrap with another number of resamples, at least 1.
    #[must_use]
    pub fn with_resamples(mut self, resamples: usize) -> Self {
        self.resamples = resamples.max(1);
        self
    }

    /// Standard error and interval of a statistic of `units` units: it gets the indices that a resample drew, and says
    /// `None` where it is not defined on them.
    ///
    /// `None` below two units, and where fewer than half of the resamples have a value.
    pub fn spread(
        &self,
        units: usize,
        statistic: impl Fn(&[usize]) -> Option<f64> + Sync,
    ) -> Option<Spread> {
        let design = Design::Crossed { seeds: 1, units };
        self.hierarchical(&design, |_, drawn| statistic(drawn))
    }

    /// Standard error and interval of the mean over seeds of a statistic of (seed, drawn units).
    ///
    /// Undefined as in [`Bootstrap::spread`]. With one seed it is the plain bootstrap over units and says nothing about
    /// the variation between seeds; with S seeds it understates that variation by √((S − 1) / S).
    pub fn hierarchical(
        &self,
        design: &Design,
        statistic: impl Fn(usize, &[usize]) -> Option<f64> + Sync,
    ) -> Option<Spread> {
        if design.seeds() == 0 || design.most_units() < 2 {
            return None;
        }
        let values: Vec<Option<f64>> = (0..self.resamples)
            .into_par_iter()
            .map(|resample| self.resample(resample, design, &statistic))
            .collect();
        let mut values: Vec<f64> = values.into_iter().flatten().collect();
        if values.len() * 2 < self.resamples {
            return None;
        }
        values.sort_by(f64::total_cmp);
        Some(Spread {
            se: standard_error(&values).map_or(0.0, |se| se * (values.len() as f64).sqrt()),
            interval: Interval {
                low: quantile(&values, 0.025),
                high: quantile(&values, 0.975),
            },
            p_zero: p_zero(&values),
        })
    }

    fn resample(
        &self,
        resample: usize,
        design: &Design,
        statistic: &impl Fn(usize, &[usize]) -> Option<f64>,
    ) -> Option<f64> {
        let mut rng = self.stream.index(resample as u64).rng();
        let mut draw =
            |n: usize| -> Vec<usize> { (0..n).map(|_| rng.random_range(0..n)).collect() };
        let seeds = draw(design.seeds());
        let values: Vec<f64> = match design {
            Design::Crossed { units, .. } => {
                let drawn = draw(*units);
                let each = seeds.iter().map(|&seed| statistic(seed, &drawn));
                each.flatten().collect()
            }
            Design::Nested(units) => {
                let each = seeds
                    .iter()
                    .map(|&seed| statistic(seed, &draw(units[seed])));
                each.flatten().collect()
            }
        };
        mean(&values)
    }

    /// The mean of `values` with its standard error (s / √n, ddof 1) and the percentile interval; `None` of no values.
    pub fn mean(&self, values: &[f64]) -> Option<Estimate> {
        let spread = self.spread(values.len(), |drawn| {
            Some(drawn.iter().map(|&i| values[i]).sum::<f64>() / drawn.len() as f64)
        });
        Some(Estimate {
            value: mean(values)?,
            se: standard_error(values),
            interval: spread.map(|s| s.interval),
            n: values.len(),
        })
    }

    /// The mean of `first − second`, unit by unit: differences are resampled, so what both sides share cancels.
    ///
    /// Only as many units as both have count; `None` of no units.
    pub fn paired_difference(&self, first: &[f64], second: &[f64]) -> Option<Estimate> {
        let differences: Vec<f64> = first.iter().zip(second).map(|(a, b)| a - b).collect();
        self.mean(&differences)
    }
}

/// [`Spread::p_zero`] of the resampled values.
fn p_zero(values: &[f64]) -> f64 {
    let below = values.iter().filter(|&&v| v <= 0.0).count();
    let above = values.iter().filter(|&&v| v >= 0.0).count();
    let share = (below.min(above) + 1) as f64 / (values.len() + 1) as f64;
    (2.0 * share).min(1.0)
}

/// The quantile of sorted values, linear between order statistics (NumPy's default). `sorted` is not empty.
pub(crate) fn quantile(sorted: &[f64], probability: f64) -> f64 {
    let position = probability * (sorted.len() - 1) as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (position - below as f64) * (sorted[above] - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bootstrap() -> Bootstrap {
        Bootstrap::new(Stream::new(7).child("bootstrap")).with_resamples(4000)
    }

    /// 200 values with mean 0.5 and a known spread.
    fn grid() -> Vec<f64> {
        (0..200).map(|i| f64::from(i) / 199.0).collect()
    }

    // import numpy as np
    // [np.quantile([1, 2, 4, 8, 16], q) for q in (0, 0.025, 0.3, 0.975, 1)]   # 1, 1.1, 2.4, 15.2, 16
    #[test]
    fn quantiles_are_those_of_numpy() {
        let sorted = [1.0, 2.0, 4.0, 8.0, 16.0];
        for (probability, expected) in [
            (0.0, 1.0),
            (0.025, 1.1),
            (0.3, 2.4),
            (0.975, 15.2),
            (1.0, 16.0),
        ] {
            assert!((quantile(&sorted, probability) - expected).abs() < 1e-12);
        }
        assert_eq!(quantile(&[3.0], 0.975), 3.0);
    }

    #[test]
    fn interval_of_a_mean_agrees_with_the_normal_approximation() {
        let values = grid();
        let estimate = bootstrap().mean(&values).unwrap();
        let se = estimate.se.unwrap();
        let interval = estimate.interval.unwrap();
        // Order statistics of 4000 resamples: the ends have a standard error of about 0.04 se; 0.15 se is beyond four.
        assert!(
            (interval.low - (0.5 - 1.96 * se)).abs() < 0.15 * se,
            "{interval:?}"
        );
        assert!(
            (interval.high - (0.5 + 1.96 * se)).abs() < 0.15 * se,
            "{interval:?}"
        );
        assert!((estimate.value - 0.5).abs() < 1e-12);
        assert_eq!(estimate.n, 200);
    }

    // import numpy as np; from scipy import stats
    // i = np.arange(120); e = ((i * 37) % 11 - 4.2) / 10
    // b = stats.bootstrap((e,), np.mean, n_resamples=400_000, batch=2000, method="percentile", rng=np.random.default_rng(1))
    // d = b.bootstrap_distribution
    // e.mean(), b.confidence_interval, 2 * min((d <= 0).mean(), (d >= 0).mean())
    //     # 0.0783333, [0.0216667, 0.1350000], 0.007055
    // Tolerance: the ends of 20 000 resamples have a standard error of about 0.019 se = 0.0006; four of them.
    // The p-value: that of a share of 0.0035 in 20 000 draws is 0.0004, twice it 0.0008; four of them.
    #[test]
    fn percentile_interval_and_p_value_agree_with_scipy() {
        let values: Vec<f64> = (0..120)
            .map(|i| (f64::from((i * 37) % 11) - 4.2) / 10.0)
            .collect();
        let bootstrap = bootstrap().with_resamples(20_000);
        let spread = bootstrap
            .spread(120, |drawn| {
                mean(&drawn.iter().map(|&i| values[i]).collect::<Vec<_>>())
            })
            .unwrap();
        assert!(
            (spread.interval.low - 0.021_666_7).abs() < 0.0024,
            "{spread:?}"
        );
        assert!((spread.interval.high - 0.135).abs() < 0.0024, "{spread:?}");
        assert!((spread.p_zero - 0.007_055).abs() < 0.0034, "{spread:?}");
        assert_eq!(p_zero(&[0.0; 9]), 1.0);
        assert_eq!(p_zero(&[1.0; 9]), 0.2);
    }

    // a = ((i * 7) % 5) / 4; c = ((i * 13) % 5 + i % 2) / 8
    // stats.bootstrap((a, c), lambda x, y, axis: np.mean(x - y, axis=axis), paired=True, n_resamples=100_000,
    //     method="percentile", rng=np.random.default_rng(1))        # 0.1875, [0.1166667, 0.259375], se 0.036402
    // Tolerance as above: se 0.0364, so 4 · 0.019 · 0.0364 = 0.0028.
    #[test]
    fn paired_bootstrap_agrees_with_scipy() {
        let first: Vec<f64> = (0..120).map(|i| f64::from((i * 7) % 5) / 4.0).collect();
        let second: Vec<f64> = (0..120)
            .map(|i| f64::from((i * 13) % 5 + i % 2) / 8.0)
            .collect();
        let found = bootstrap()
            .with_resamples(20_000)
            .paired_difference(&first, &second)
            .unwrap();
        let interval = found.interval.unwrap();
        assert!((found.value - 0.1875).abs() < 1e-12);
        assert!((interval.low - 0.116_666_7).abs() < 0.0028, "{found:?}");
        assert!((interval.high - 0.259_375).abs() < 0.0028, "{found:?}");
        assert!(
            (found.se.unwrap() / 0.036_402 - 1.0).abs() < 0.01,
            "{found:?}"
        );
    }

    // rng = np.random.default_rng(1); x = np.array([e, e + 0.06 * (i % 3 - 1) + 0.03, e / 2 - 0.02]); r = rng.integers
    // one = lambda s, u: x[s][:, u].mean()
    // crossed = [one(r(3, size=3), r(120, size=120)) for _ in range(100_000)]
    // nested = [np.mean([x[k][r(120, size=120)].mean() for k in r(3, size=3)]) for _ in range(50_000)]
    // np.std(., ddof=1), np.quantile(., [0.025, 0.975])
    //     # crossed 0.032555 [0.010417, 0.136333], nested 0.025878 [0.019167, 0.119528]
    // Tolerance: 4 · 0.019 · se, and 2% of the standard error (its own is 0.5%).
    #[test]
    fn hierarchical_bootstrap_agrees_with_numpy() {
        let e: Vec<f64> = (0..120)
            .map(|i| (f64::from((i * 37) % 11) - 4.2) / 10.0)
            .collect();
        let seed = |of: &dyn Fn(usize, f64) -> f64| -> Vec<f64> {
            e.iter().enumerate().map(|(i, &v)| of(i, v)).collect()
        };
        let x = [
            e.clone(),
            seed(&|i, v| v + 0.06 * ((i % 3) as f64 - 1.0) + 0.03),
            seed(&|_, v| v / 2.0 - 0.02),
        ];
        let crossed = Design::Crossed {
            seeds: 3,
            units: 120,
        };
        for (design, se, low, high) in [
            (crossed, 0.032_555, 0.010_417, 0.136_333),
            (
                Design::Nested(vec![120; 3]),
                0.025_878,
                0.019_167,
                0.119_528,
            ),
        ] {
            let spread = bootstrap()
                .with_resamples(20_000)
                .hierarchical(&design, |seed, drawn| {
                    mean(&drawn.iter().map(|&i| x[seed][i]).collect::<Vec<_>>())
                })
                .unwrap();
            assert!((spread.se / se - 1.0).abs() < 0.02, "{spread:?}");
            assert!((spread.interval.low - low).abs() < 0.0025, "{spread:?}");
            assert!((spread.interval.high - high).abs() < 0.0025, "{spread:?}");
        }
    }

    #[test]
    fn the_same_stream_gives_the_same_bits_and_another_does_not() {
        let values = grid();
        assert_eq!(bootstrap().mean(&values), bootstrap().mean(&values));
        let other = Bootstrap::new(Stream::new(8)).with_resamples(4000);
        assert_ne!(bootstrap().mean(&values), other.mean(&values));
    }

    #[test]
    fn pairing_removes_what_both_sides_share() {
        let second = grid();
        let first: Vec<f64> = second
            .iter()
            .enumerate()
            .map(|(i, v)| v + 0.1 + 0.01 * (i % 3) as f64)
            .collect();
        let paired = bootstrap().paired_difference(&first, &second).unwrap();
        assert!(paired.se.unwrap() < 0.1 * standard_error(&second).unwrap());
        assert!(!paired.interval.unwrap().contains(0.0));
    }

    #[test]
    fn too_few_units_have_no_interval() {
        assert_eq!(bootstrap().mean(&[]), None);
        let one = bootstrap().mean(&[0.25]).unwrap();
        assert_eq!(
            (one.value, one.se, one.interval, one.n),
            (0.25, None, None, 1)
        );
        assert_eq!(bootstrap().spread(5, |_| None), None);
        let design = Design::Nested(vec![]);
        assert_eq!(bootstrap().hierarchical(&design, |_, _| Some(1.0)), None);
    }

    #[test]
    fn crossed_seeds_keep_the_variance_of_shared_prompts_and_nested_ones_average_it() {
        // Four seeds that agree on every prompt: more of them say nothing new about the prompts.
        let values = grid();
        let statistic =
            |_: usize, drawn: &[usize]| mean(&drawn.iter().map(|&i| values[i]).collect::<Vec<_>>());
        let crossed = Design::Crossed {
            seeds: 4,
            units: 200,
        };
        let crossed = bootstrap().hierarchical(&crossed, statistic).unwrap();
        let nested = bootstrap()
            .hierarchical(&Design::Nested(vec![200; 4]), statistic)
            .unwrap();
        let single = standard_error(&values).unwrap();
        assert!(
            (crossed.se / single - 1.0).abs() < 0.06,
            "{}",
            crossed.se / single
        );
        assert!(
            (nested.se / single - 0.5).abs() < 0.06,
            "{}",
            nested.se / single
        );
    }

    #[test]
    fn seeds_that_disagree_widen_the_interval() {
        // Seed means 0 and 1, no variance inside: the mean of two drawn seeds has standard deviation √(1/8).
        let design = Design::Crossed {
            seeds: 2,
            units: 10,
        };
        let spread = bootstrap()
            .hierarchical(&design, |seed, _| Some(seed as f64))
            .unwrap();
        assert!((spread.se - 0.125_f64.sqrt()).abs() < 0.01);
        assert_eq!(
            spread.interval,
            Interval {
                low: 0.0,
                high: 1.0
            }
        );
    }
}
