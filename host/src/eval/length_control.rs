//! The length-controlled win rate: what the win rate would be if both sides wrote equally much.
//!
//! A logistic regression of the preference for the model on the difference in length, after AlpacaEval 2 (Dubois et al.
//! 2024, "Length-Controlled AlpacaEval"):
//!
//! ```text
//! P(model preferred) = σ(θ₀ + θ₁ · tanh(Δ / std(Δ))),   Δ = length of the model's response − the reference's, in characters
//! ```
//!
//! and the rate is σ(θ₀), its value at Δ = 0. It is simpler than AlpacaEval's: no term for the difficulty of the
//! instruction (theirs is fitted over a leaderboard of models, and there is none here), no L1 penalty chosen by
//! cross-validation, no artificial "gamed" rows. In return the interval refits the model on every resample; AlpacaEval's
//! standard error leaves the error of the fit out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::judging::Outcome;
use super::over_seeds::{OverSeeds, Seeded};
use super::statistics::{Bootstrap, Estimate, Interval, SeedValues, Sharing, mean};
use super::win_rate::SeedOutcomes;
use crate::error::Result;

/// Ridge penalty on θ₁ alone, in units of one prompt's log-likelihood: keeps the slope finite where length separates wins
/// from losses, and moves nothing otherwise.
const RIDGE: f64 = 0.01;

/// A length-controlled win rate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LengthControl {
    /// The win rate at equal lengths, a fraction in [0, 1].
    pub rate: f64,
    /// Its standard error, from the bootstrap.
    pub se: Option<f64>,
    /// Its 95% interval: percentile bootstrap over prompts, refitted on every resample.
    pub interval: Option<Interval>,
    /// θ₁: above 0, the judge prefers the longer response.
    pub slope: f64,
    /// Prompts that were judged.
    pub n: usize,
}

/// One prompt of the regression.
#[derive(Clone, Copy, Debug)]
struct Point {
    /// tanh(Δ / std(Δ)).
    feature: f64,
    preference: f64,
}

/// A prompt's id and its points on both sides, where both have one.
type PairedPoint<'a> = (&'a str, Option<(Point, Point)>);

impl LengthControl {
    /// The length-controlled win rates of several seeds, and the mean over them with the hierarchical interval.
    ///
    /// A seed has none where nothing was judged, or where all differences in length are the same and not 0: then no
    /// prompt says what a difference of 0 would do.
    ///
    /// # Errors
    /// A prompt id that a seed has twice.
    pub fn over_seeds(
        seeds: &[SeedOutcomes],
        sharing: Sharing,
        bootstrap: &Bootstrap,
    ) -> Result<OverSeeds<Option<Self>>> {
        let lists: Vec<_> = seeds.iter().map(points).collect();
        let points = SeedValues::new(lists.iter().map(|list| list.iter().copied()), sharing)?;
        let own: Vec<Option<Self>> = (0..seeds.len())
            .map(|seed| Self::fit_seed(points.row(seed), bootstrap))
            .collect();
        let rates: Vec<f64> = own.iter().flatten().map(|c| c.rate).collect();
        let overall = match own.as_slice() {
            [only] => only.map(Self::estimate),
            _ => mean(&rates).map(|value| {
                let spread = bootstrap.hierarchical(&points.design(), |seed, drawn| {
                    fit(drawn.iter().filter_map(|&unit| points.row(seed)[unit]))
                        .map(|(rate, _)| rate)
                });
                Estimate {
                    value,
                    se: spread.map(|s| s.se),
                    interval: spread.map(|s| s.interval),
                    n: points.units(),
                }
            }),
        };
        let seeds = seeds.iter().zip(own).map(|(s, value)| Seeded {
            seed: s.seed,
            value,
        });
        Ok(OverSeeds {
            seeds: seeds.collect(),
            overall,
        })
    }

    /// The difference of two length-controlled win rates, variant − baseline, on the prompts that both have; every resample
    /// refits both sides on the same prompts. Seeds are matched by position; seeds where a side has none are left out.
    ///
    /// # Errors
    /// A prompt id that a seed has twice.
    pub fn difference_over_seeds(
        variant: &[SeedOutcomes],
        baseline: &[SeedOutcomes],
        sharing: Sharing,
        bootstrap: &Bootstrap,
    ) -> Result<Option<Estimate>> {
        let lists: Vec<Vec<PairedPoint<'_>>> = variant
            .iter()
            .zip(baseline)
            .map(|(ours, theirs)| {
                let others: BTreeMap<&str, Option<Point>> = points(theirs).into_iter().collect();
                let both =
                    |id: &str, own: Option<Point>| Some((own?, others.get(id).copied().flatten()?));
                points(ours)
                    .into_iter()
                    .map(|(id, own)| (id, both(id, own)))
                    .collect()
            })
            .collect();
        let pairs = SeedValues::new(lists.iter().map(|list| list.iter().copied()), sharing)?;
        let of = |pairs: &[(Point, Point)]| {
            let (ours, _) = fit(pairs.iter().map(|p| p.0))?;
            let (theirs, _) = fit(pairs.iter().map(|p| p.1))?;
            Some(ours - theirs)
        };
        let own: Vec<f64> = (0..variant.len().min(baseline.len()))
            .filter_map(|seed| {
                of(&pairs
                    .row(seed)
                    .iter()
                    .copied()
                    .flatten()
                    .collect::<Vec<_>>())
            })
            .collect();
        let spread = bootstrap.hierarchical(&pairs.design(), |seed, drawn| {
            let row = pairs.row(seed);
            of(&drawn
                .iter()
                .filter_map(|&unit| row[unit])
                .collect::<Vec<_>>())
        });
        Ok(mean(&own).map(|value| Estimate {
            value,
            se: spread.map(|s| s.se),
            interval: spread.map(|s| s.interval),
            n: pairs.units(),
        }))
    }

    fn fit_seed(row: &[Option<Point>], bootstrap: &Bootstrap) -> Option<Self> {
        let present: Vec<Point> = row.iter().copied().flatten().collect();
        let (rate, slope) = fit(present.iter().copied())?;
        let spread = bootstrap.spread(present.len(), |drawn| {
            fit(drawn.iter().map(|&i| present[i])).map(|(rate, _)| rate)
        });
        let estimate = Estimate {
            value: rate,
            se: spread.map(|s| s.se),
            interval: spread.map(|s| s.interval),
            n: present.len(),
        };
        let estimate = estimate.or_wilson();
        Some(Self {
            rate,
            se: estimate.se,
            interval: estimate.interval,
            slope,
            n: present.len(),
        })
    }

    fn estimate(self) -> Estimate {
        Estimate {
            value: self.rate,
            se: self.se,
            interval: self.interval,
            n: self.n,
        }
    }
}

/// The points of a seed, by prompt id; none at all where all lengths differ by the same amount that is not 0.
fn points(outcomes: &SeedOutcomes) -> Vec<(&str, Option<Point>)> {
    let delta = |o: &Outcome| o.length_model as f64 - o.length_reference as f64;
    let judged: Vec<f64> = outcomes
        .value
        .iter()
        .filter(|o| o.preference.is_some())
        .map(delta)
        .collect();
    let scale = mean(&judged).map_or(0.0, |centre| {
        // Divided by n, as NumPy's std.
        (judged.iter().map(|d| (d - centre).powi(2)).sum::<f64>() / judged.len() as f64).sqrt()
    });
    let controllable = scale > 0.0 || judged.iter().all(|&d| d == 0.0);
    let point = |o: &Outcome| {
        let feature = if scale > 0.0 {
            (delta(o) / scale).tanh()
        } else {
            0.0
        };
        let preference = o.preference.filter(|_| controllable)?;
        Some(Point {
            feature,
            preference,
        })
    };
    outcomes
        .value
        .iter()
        .map(|o| (o.id.as_str(), point(o)))
        .collect()
}

/// σ(θ₀) and θ₁ of the penalised maximum likelihood; `None` of no points.
///
/// Newton's method with step halving on a strictly convex function of two parameters.
fn fit(points: impl Iterator<Item = Point>) -> Option<(f64, f64)> {
    let points: Vec<Point> = points.collect();
    let start = mean(&points.iter().map(|p| p.preference).collect::<Vec<_>>())?;
    if start <= 0.0 || start >= 1.0 {
        // The likelihood has no maximum in θ₀ where all preferences are 0 or all 1; its limit is that rate.
        return Some((start, 0.0));
    }
    let loss = |intercept: f64, slope: f64| -> f64 {
        let sum: f64 = points
            .iter()
            .map(|p| {
                let z = intercept + slope * p.feature;
                // ln(1 + e^z) − y z, without overflow.
                z.max(0.0) + (-z.abs()).exp().ln_1p() - p.preference * z
            })
            .sum();
        sum + 0.5 * RIDGE * slope * slope
    };
    let (mut intercept, mut slope) = ((start / (1.0 - start)).ln(), 0.0);
    let mut current = loss(intercept, slope);
    // Newton needs about six steps; the bound only guards against a loop that rounding keeps alive.
    for _ in 0..100 {
        let (mut g0, mut g1) = (0.0, RIDGE * slope);
        let (mut h00, mut h01, mut h11) = (0.0, 0.0, RIDGE);
        for p in &points {
            let rate = sigmoid(intercept + slope * p.feature);
            let (residual, weight) = (rate - p.preference, rate * (1.0 - rate));
            g0 += residual;
            g1 += residual * p.feature;
            h00 += weight;
            h01 += weight * p.feature;
            h11 += weight * p.feature * p.feature;
        }
        let determinant = h00 * h11 - h01 * h01;
        if determinant <= 0.0 {
            break;
        }
        let step0 = (h11 * g0 - h01 * g1) / determinant;
        let step1 = (h00 * g1 - h01 * g0) / determinant;
        let mut scale = 1.0;
        let mut next = loss(intercept - step0, slope - step1);
        while next > current && scale > 1e-6 {
            scale *= 0.5;
            next = loss(intercept - scale * step0, slope - scale * step1);
        }
        if next > current {
            break;
        }
        intercept -= scale * step0;
        slope -= scale * step1;
        current = next;
        if step0.abs().max(step1.abs()) < 1e-10 {
            break;
        }
    }
    Some((sigmoid(intercept), slope))
}

fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::win_rate::tests::outcomes;
    use finegrain_sdk::rng::Stream;

    fn bootstrap() -> Bootstrap {
        Bootstrap::new(Stream::new(11)).with_resamples(500)
    }

    /// Outcomes of (preference, length of the model's response); the reference's length is 100.
    fn seed(rows: &[(f64, usize)]) -> SeedOutcomes {
        let mut value = outcomes(&rows.iter().map(|r| Some(r.0)).collect::<Vec<_>>());
        for (outcome, row) in value.iter_mut().zip(rows) {
            outcome.length_model = row.1;
            outcome.length_reference = 100;
        }
        Seeded { seed: 1, value }
    }

    fn single(rows: &[(f64, usize)]) -> Option<LengthControl> {
        let over = LengthControl::over_seeds(&[seed(rows)], Sharing::Shared, &bootstrap()).unwrap();
        assert_eq!(
            over.overall,
            over.seeds[0].value.map(LengthControl::estimate)
        );
        over.seeds[0].value
    }

    const ROWS: [(f64, usize); 8] = [
        (1.0, 180),
        (1.0, 150),
        (0.5, 120),
        (0.0, 90),
        (1.0, 95),
        (0.25, 60),
        (0.0, 130),
        (0.75, 200),
    ];

    // import numpy as np; from scipy.optimize import minimize
    // y = np.array([1, 1, .5, 0, 1, .25, 0, .75]); d = np.array([180, 150, 120, 90, 95, 60, 130, 200]) - 100.0
    // x = np.tanh(d / d.std())
    // f = lambda t: (np.logaddexp(0, t[0] + t[1] * x) - y * (t[0] + t[1] * x)).sum() + 0.005 * t[1] ** 2
    // r = lambda t: 1 / (1 + np.exp(-t[0] - t[1] * x)) - y
    // gradient = lambda t: np.array([r(t).sum(), (r(t) * x).sum() + 0.01 * t[1]])
    // t = minimize(f, [0, 0], method="BFGS", jac=gradient, options={"gtol": 1e-13}).x; print(1 / (1 + np.exp(-t[0])), t[1])
    #[test]
    fn agrees_with_scipy() {
        let found = single(&ROWS).unwrap();
        assert!(
            (found.rate - 0.448_166_697_051_256_4).abs() < 1e-7,
            "{found:?}"
        );
        assert!(
            (found.slope - 1.420_171_327_955_728_2).abs() < 1e-6,
            "{found:?}"
        );
        assert!(found.interval.unwrap().contains(found.rate));
    }

    #[test]
    fn a_judge_that_counts_characters_is_controlled_to_one_half() {
        // Preference σ(2 tanh(Δ / std(Δ))): length alone decides, and the model writes longer three times out of four.
        let lengths: Vec<usize> = (0..40)
            .map(|i| if i % 4 == 0 { 60 + i } else { 140 + i })
            .collect();
        let deltas: Vec<f64> = lengths.iter().map(|&l| l as f64 - 100.0).collect();
        let centre = mean(&deltas).unwrap();
        let std = (deltas.iter().map(|d| (d - centre).powi(2)).sum::<f64>() / 40.0).sqrt();
        let rows: Vec<(f64, usize)> = deltas
            .iter()
            .zip(&lengths)
            .map(|(delta, &length)| (sigmoid(2.0 * (delta / std).tanh()), length))
            .collect();
        let raw = rows.iter().map(|r| r.0).sum::<f64>() / 40.0;
        let found = single(&rows).unwrap();
        assert!(raw > 0.6, "{raw}");
        assert!(
            (found.rate - 0.5).abs() < 1e-3 && (found.slope - 2.0).abs() < 1e-2,
            "{found:?}"
        );
    }

    #[test]
    fn equal_lengths_leave_the_win_rate_alone() {
        let found = single(&[(1.0, 100), (0.5, 100), (1.0, 100), (0.0, 100)]).unwrap();
        assert!((found.rate - 0.625).abs() < 1e-12);
        assert_eq!(found.slope, 0.0);
    }

    #[test]
    fn unanimous_preferences_have_a_finite_answer_and_an_honest_interval() {
        let found = single(&[(1.0, 100), (1.0, 150), (1.0, 90)]).unwrap();
        assert_eq!((found.rate, found.slope), (1.0, 0.0));
        assert!(found.interval.unwrap().low < 0.5);
    }

    #[test]
    fn what_cannot_be_controlled_is_none() {
        assert_eq!(single(&[]), None);
        assert_eq!(single(&[(1.0, 150)]), None);
        assert_eq!(single(&[(1.0, 150), (0.0, 150)]), None);
    }

    #[test]
    fn a_difference_that_is_all_length_vanishes_at_equal_lengths() {
        // Both sides are preferred by length alone; the variant's answers are longer more often.
        let side = |longer: usize| {
            let rows: Vec<(f64, usize)> = (0..80)
                .map(|i| {
                    let length = if i % 8 < longer { 130 + i } else { 70 - i / 4 };
                    (if length > 100 { 0.8 } else { 0.2 }, length)
                })
                .collect();
            seed(&rows)
        };
        let (ours, theirs) = (side(6), side(2));
        let mean_of = |s: &SeedOutcomes| {
            mean(
                &s.value
                    .iter()
                    .filter_map(|o| o.preference)
                    .collect::<Vec<_>>(),
            )
            .unwrap()
        };
        assert!(mean_of(&ours) - mean_of(&theirs) > 0.25);
        let found = LengthControl::difference_over_seeds(
            std::slice::from_ref(&ours),
            std::slice::from_ref(&theirs),
            Sharing::Shared,
            &bootstrap(),
        );
        let found = found.unwrap().unwrap();
        assert!(found.value.abs() < 0.1, "{found:?}");
        assert!(found.interval.unwrap().contains(0.0), "{found:?}");
        // It is the difference of the two rates where all prompts are judged on both sides.
        let rate = |s: SeedOutcomes| {
            LengthControl::over_seeds(&[s], Sharing::Shared, &bootstrap())
                .unwrap()
                .overall
                .unwrap()
                .value
        };
        assert!((found.value - (rate(ours) - rate(theirs))).abs() < 1e-12);
    }

    #[test]
    fn seeds_are_averaged() {
        let mut second = seed(&[(0.0, 100), (0.0, 120), (1.0, 90), (0.5, 100)]);
        second.seed = 2;
        let first = seed(&ROWS);
        let over =
            LengthControl::over_seeds(&[first, second], Sharing::PerSeed, &bootstrap()).unwrap();
        let rates: Vec<f64> = over.seeds.iter().map(|s| s.value.unwrap().rate).collect();
        let overall = over.overall.unwrap();
        assert_eq!(overall.value, f64::midpoint(rates[0], rates[1]));
        assert_eq!(overall.n, 12);
        assert!(overall.interval.unwrap().contains(overall.value));
    }
}
