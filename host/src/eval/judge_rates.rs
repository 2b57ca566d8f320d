//! How a judge judged, whoever won: how often its two orders disagree, how often it prefers what stands first, and how often
//! the longer response.
//!
//! A judge without a bias of position prefers the first response in half of its verdicts, because each contest is asked in both
//! orders. A judge that prefers the longer response more often than people do may only count words; what people do can be
//! measured where their preferences are known (`finegrain judge calibrate`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::judging::Outcome;
use super::statistics::{Bootstrap, Estimate, Interval, wilson};

/// The outcomes of one judge by prompt: resamples draw prompts, whatever number of contests each has.
pub type ByPrompt<'a> = Vec<Vec<&'a Outcome>>;

/// Outcomes with equal keys together, in the order of the keys.
pub fn by_prompt<'a, K: Ord>(outcomes: impl IntoIterator<Item = (K, &'a Outcome)>) -> ByPrompt<'a> {
    let mut prompts: BTreeMap<K, Vec<&Outcome>> = BTreeMap::new();
    for (prompt, outcome) in outcomes {
        prompts.entry(prompt).or_default().push(outcome);
    }
    prompts.into_values().collect()
}

/// How a judge judged. Rates are fractions in [0, 1] with a 95% interval over prompts (percentile bootstrap, or Wilson where
/// resampling shows no spread); `n` in them counts prompts. A rate of nothing is `None`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct JudgeRates {
    /// Contests that were answered in both orders.
    pub n: usize,
    /// Share of these whose two orders preferred different responses.
    pub flips: Option<Estimate>,
    /// Share of single verdicts for either response that were for the one shown first; of contests that were answered in both
    /// orders, so that each response was first once.
    pub first_position: Option<Estimate>,
    /// Single verdicts for either response: what `first_position` is a share of. Ties are none.
    pub decided_verdicts: usize,
    /// Share of decided contests, whose responses differ in length, in which the longer one is preferred.
    pub longer_preferred: Option<Estimate>,
    /// What `longer_preferred` is a share of.
    pub of_different_length: usize,
    /// Contests that the judge failed on in either order.
    pub failures: usize,
    /// Contests of equal texts, which the judge is not asked about.
    pub identical: usize,
}

impl JudgeRates {
    /// The rates of one judge.
    pub fn of(prompts: &[Vec<&Outcome>], bootstrap: &Bootstrap) -> Self {
        let all = || prompts.iter().flatten();
        let rate = |of: fn(&Outcome) -> Share| -> (Option<Estimate>, usize) {
            let shares: Vec<Share> = prompts
                .iter()
                .map(|contests| contests.iter().map(|outcome| of(outcome)).sum())
                .collect();
            let parts: Vec<(f64, f64)> = shares
                .iter()
                .map(|share| (share.hits as f64, share.events as f64))
                .collect();
            let events = shares.iter().map(|share| share.events).sum();
            (bootstrap.ratio(&parts), events)
        };
        let (flips, n) = rate(flips);
        let (first_position, decided_verdicts) = rate(first);
        let (longer_preferred, of_different_length) = rate(longer);
        let flips = flips.map(Estimate::or_wilson);
        let is_steady = flips.is_some_and(|flips| flips.value == 0.0);
        let first_position = first_position.map(|first| {
            let first = if is_steady { balanced(first) } else { first };
            first.or_wilson()
        });
        let longer_preferred = longer_preferred.map(Estimate::or_wilson);
        Self {
            n,
            flips,
            first_position,
            decided_verdicts,
            longer_preferred,
            of_different_length,
            failures: all().filter(|outcome| outcome.preference.is_none()).count(),
            identical: all().filter(|outcome| outcome.identical).count(),
        }
    }
}

/// Where both orders of every contest agree, each response is first once and half of the verdicts are for the first: no resample
/// differs. What a next prompt may do is bounded by what is known of flips: none in n, each of which would shift one verdict of
/// two.
fn balanced(mut first: Estimate) -> Estimate {
    let no_spread = first
        .interval
        .is_none_or(|interval| interval.low == interval.high);
    if first.value == 0.5 && no_spread {
        first.interval = wilson(0.0, first.n).map(|flips| Interval {
            low: 0.5 - flips.high / 2.0,
            high: 0.5 + flips.high / 2.0,
        });
    }
    first
}

/// So many of so many.
#[derive(Clone, Copy, Default)]
struct Share {
    hits: usize,
    events: usize,
}

impl Share {
    fn one(hit: bool) -> Self {
        Self {
            hits: usize::from(hit),
            events: 1,
        }
    }
}

impl std::iter::Sum for Share {
    fn sum<I: Iterator<Item = Self>>(shares: I) -> Self {
        shares.fold(Self::default(), |sum, share| Self {
            hits: sum.hits + share.hits,
            events: sum.events + share.events,
        })
    }
}

/// Whether both orders were answered: a contest of equal texts was not asked.
fn is_answered(outcome: &Outcome) -> bool {
    outcome.preference.is_some() && !outcome.identical
}

fn flips(outcome: &Outcome) -> Share {
    if is_answered(outcome) {
        Share::one(outcome.flip)
    } else {
        Share::default()
    }
}

fn first(outcome: &Outcome) -> Share {
    match outcome.verdicts {
        // The reference stands first, then the model; both are how much the model is preferred.
        [Some(reference_first), Some(model_first)] => [1.0 - reference_first, model_first]
            .into_iter()
            .filter(|&for_first| for_first != 0.5)
            .map(|for_first| Share::one(for_first > 0.5))
            .sum(),
        _ => Share::default(),
    }
}

fn longer(outcome: &Outcome) -> Share {
    let (model, reference) = (outcome.length_model, outcome.length_reference);
    match outcome.preference {
        Some(preference) if preference != 0.5 && model != reference => {
            Share::one((preference > 0.5) == (model > reference))
        }
        _ => Share::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::judging::tests::judged;
    use crate::eval::statistics::wilson;
    use finegrain_sdk::kinds::Verdict;
    use finegrain_sdk::rng::Stream;

    /// Twelve contests about as many prompts: the model's response is the longer one in the first eight, and the last two are
    /// of equal texts.
    fn rates(rule: impl Fn(&str, &str, &str) -> Verdict) -> JudgeRates {
        let contests: Vec<(String, String, String)> = (0..12)
            .map(|i| {
                let model = if i < 8 { "a longer text" } else { "a text" };
                let reference = if i < 10 { "some text" } else { model };
                (format!("p{i}"), model.to_owned(), reference.to_owned())
            })
            .collect();
        let outcomes = judged(rule, &contests);
        let bootstrap = Bootstrap::new(Stream::new(3)).with_resamples(2000);
        let prompts = by_prompt(
            outcomes
                .iter()
                .map(|outcome| (outcome.id.as_str(), outcome)),
        );
        JudgeRates::of(&prompts, &bootstrap)
    }

    #[test]
    fn a_judge_that_always_says_first_flips_every_time_and_decides_nothing() {
        let rates = rates(|_, _, _| Verdict::Preference(0.0));
        let one = |estimate: Option<Estimate>| estimate.map(|e| (e.value, e.n, e.interval));
        assert_eq!((rates.n, rates.identical, rates.failures), (10, 2, 0));
        assert_eq!(one(rates.flips), Some((1.0, 10, wilson(10.0, 10))));
        assert_eq!(one(rates.first_position), Some((1.0, 10, wilson(10.0, 10))));
        assert_eq!(rates.decided_verdicts, 20);
        assert_eq!(
            (rates.longer_preferred, rates.of_different_length),
            (None, 0)
        );
    }

    #[test]
    fn a_judge_that_counts_characters_has_no_position() {
        let rates = rates(|_, a, b| Verdict::Preference(if b.len() > a.len() { 1.0 } else { 0.0 }));
        assert_eq!(rates.flips.unwrap().value, 0.0);
        // No flip in ten: up to 27.8% (Wilson), each of which would be half a verdict more or less for the first.
        let first = rates.first_position.unwrap();
        let interval = first.interval.unwrap();
        assert_eq!(first.value, 0.5);
        assert!((interval.low - 0.361_2).abs() < 1e-4, "{interval:?}");
        assert!((interval.high - 0.638_8).abs() < 1e-4, "{interval:?}");
        assert_eq!(rates.longer_preferred.unwrap().value, 1.0);
        assert_eq!(rates.of_different_length, 10);
    }

    #[test]
    fn ties_decide_nothing_and_half_a_failed_contest_does_not_count() {
        let rates = rates(|id, _, b| match id {
            "p0/model-first" => Verdict::Failed("no answer".to_owned()),
            // One order a tie, the other for the model.
            "p1/model-first" => Verdict::Tie,
            _ => Verdict::Preference(if b == "a longer text" || b == "a text" {
                0.9
            } else {
                0.2
            }),
        });
        assert_eq!((rates.n, rates.failures), (9, 1));
        assert_eq!(rates.flips.unwrap().value, 0.0);
        // Of 17 verdicts, the nine with the reference first are against the first; the eight others are for it.
        assert_eq!(rates.decided_verdicts, 17);
        assert!((rates.first_position.unwrap().value - 8.0 / 17.0).abs() < 1e-12);
        // Contests 1 to 7 are for the longer response, 8 and 9 for the shorter one.
        assert!((rates.longer_preferred.unwrap().value - 7.0 / 9.0).abs() < 1e-12);
    }

    #[test]
    fn contests_of_one_prompt_are_drawn_together() {
        let contests: Vec<(String, String, String)> = (0..40)
            .map(|i| (format!("p{i}"), "one".to_owned(), "other".to_owned()))
            .collect();
        let number = |id: &str| -> usize { id[1..].split('/').next().unwrap().parse().unwrap() };
        let outcomes = judged(
            |id, a, _| {
                let model_wins = number(id) % 2 == 0;
                Verdict::Preference(if (a == "one") == model_wins { 0.0 } else { 1.0 })
            },
            &contests,
        );
        let bootstrap = Bootstrap::new(Stream::new(3)).with_resamples(2000);
        // All contests of a prompt come out alike: four prompts say as little as four contests.
        let width = |prompts: usize| {
            let keyed = outcomes.iter().map(|o| (number(&o.id) % prompts, o));
            let rates = JudgeRates::of(&by_prompt(keyed), &bootstrap);
            assert_eq!(rates.n, 40);
            let interval = rates.longer_preferred.unwrap().interval.unwrap();
            interval.high - interval.low
        };
        assert!(width(4) > 2.0 * width(40));
    }
}
