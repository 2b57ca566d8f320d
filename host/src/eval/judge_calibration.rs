//! A judge held against preferences that are known: people's, or another judge's.
//!
//! The outcomes are of contests whose model's response is the one that is known to be preferred. Beside the judge's agreement
//! stands what needs no judge: on the same pairs, the longer response.

use serde::{Deserialize, Serialize};

use super::agreement::Agreement;
use super::judge_rates::{ByPrompt, JudgeRates};
use super::judging::Outcome;
use super::paired_difference::PairedDifference;
use super::statistics::{Bootstrap, Estimate};

/// How far one judge agrees with the known preferences. Rates are fractions; intervals are over prompts (percentile bootstrap,
/// or Wilson where resampling shows no spread), and `n` in the estimates counts prompts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JudgeCalibration {
    /// The judge; `panel` for all of a panel together.
    pub judge: String,
    /// Share of the pairs that it answered in both orders in which it prefers the response that is known to be preferred; half
    /// for a pair of which it prefers neither, orders that contradict each other included.
    pub agreement: Option<Estimate>,
    /// The same of a judge that prefers the longer response, by characters; half for equal lengths. On the same pairs.
    pub longer_wins: Option<Estimate>,
    /// The first minus the second, pair by pair.
    pub above_longer_wins: Option<Estimate>,
    /// How it judged; `n` in them is the number of pairs that it answered.
    pub rates: JudgeRates,
}

impl JudgeCalibration {
    /// How far the judge of these outcomes agrees.
    pub fn of(judge: &str, prompts: &ByPrompt<'_>, bootstrap: &Bootstrap) -> Self {
        let rate = |of: fn(&Outcome, f64) -> f64| {
            let parts: Vec<(f64, f64)> = prompts
                .iter()
                .map(|contests| {
                    let judged = contests
                        .iter()
                        .filter_map(|outcome| Some(of(outcome, outcome.preference?)));
                    judged.fold((0.0, 0.0), |(sum, n), value| (sum + value, n + 1.0))
                })
                .collect();
            bootstrap.ratio(&parts)
        };
        Self {
            judge: judge.to_owned(),
            agreement: rate(|_, preference| agrees(preference)).map(Estimate::or_wilson),
            longer_wins: rate(|outcome, _| longer(outcome)).map(Estimate::or_wilson),
            above_longer_wins: rate(above_longer).map(|above| Estimate {
                interval: above
                    .interval
                    .filter(|_| differ(prompts) >= PairedDifference::LEAST_DISCORDANT),
                ..above
            }),
            rates: JudgeRates::of(prompts, bootstrap),
        }
    }
}

/// 1 where the response that is known to be preferred is preferred, 0 where the other one is, half where neither is.
fn agrees(preference: f64) -> f64 {
    half_step(preference.total_cmp(&0.5))
}

/// The same of the longer response.
fn longer(outcome: &Outcome) -> f64 {
    half_step(outcome.length_model.cmp(&outcome.length_reference))
}

/// By how much the judge is above the longer response.
fn above_longer(outcome: &Outcome, preference: f64) -> f64 {
    agrees(preference) - longer(outcome)
}

/// Prompts on which the judge and the longer response agree with what is known to a different extent.
fn differ(prompts: &ByPrompt<'_>) -> usize {
    let above = |contests: &&Vec<&Outcome>| {
        let judged = contests.iter();
        let above = judged.filter_map(|outcome| Some(above_longer(outcome, outcome.preference?)));
        above.sum::<f64>() != 0.0
    };
    prompts.iter().filter(above).count()
}

fn half_step(order: std::cmp::Ordering) -> f64 {
    match order {
        std::cmp::Ordering::Greater => 1.0,
        std::cmp::Ordering::Equal => 0.5,
        std::cmp::Ordering::Less => 0.0,
    }
}

/// What `finegrain judge calibrate` finds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Pairs with a known preference that were asked about.
    pub pairs: usize,
    /// Their prompts.
    pub prompts: usize,
    /// The judge or, of a panel, the panel and then each of its judges.
    pub judges: Vec<JudgeCalibration>,
    /// How far the judges of a panel agree with each other, every two of them.
    pub agreements: Vec<Agreement>,
    /// Pairs that some judges of a panel answered and others failed on.
    pub judged_by_some: usize,
}

impl Calibration {
    /// Of one judge, or of the `members` of a panel.
    pub fn of(
        judge: &str,
        members: &[&str],
        prompts: &ByPrompt<'_>,
        bootstrap: &Bootstrap,
    ) -> Self {
        let mut judges = vec![JudgeCalibration::of(judge, prompts, bootstrap)];
        for member in members {
            let seen: Vec<Vec<Outcome>> = prompts
                .iter()
                .map(|contests| contests.iter().filter_map(|o| o.seen_by(member)).collect())
                .collect();
            let seen: ByPrompt<'_> = seen
                .iter()
                .map(|contests| contests.iter().collect())
                .collect();
            judges.push(JudgeCalibration::of(member, &seen, bootstrap));
        }
        let all = || prompts.iter().flatten();
        Self {
            pairs: all().count(),
            prompts: prompts.len(),
            judges,
            agreements: Agreement::of_all(members, prompts, bootstrap),
            judged_by_some: all().filter(|outcome| outcome.is_judged_by_some()).count(),
        }
    }
}

#[cfg(test)]
mod tests {
    use finegrain_sdk::kinds::Verdict;
    use finegrain_sdk::rng::Stream;

    use super::*;
    use crate::eval::by_prompt;
    use crate::eval::judging::tests::judged;

    /// Pairs whose preferred response is the longer one in the first `longer` of ten; the judge fails on the pair 9.
    fn calibration(longer: usize, rule: impl Fn(&str, &str, &str) -> Verdict) -> JudgeCalibration {
        let contests: Vec<(String, String, String)> = (0..10)
            .map(|i| {
                let (long, short) = ("a good long text".to_owned(), "good".to_owned());
                let (chosen, rejected) = if i < longer {
                    (long, "bad".to_owned())
                } else {
                    (short, "a bad long text".to_owned())
                };
                (format!("{i}"), chosen, rejected)
            })
            .collect();
        let rule = |id: &str, a: &str, b: &str| match id {
            "9/model-first" => Verdict::Failed("no answer".to_owned()),
            _ => rule(id, a, b),
        };
        let outcomes = judged(rule, &contests);
        let prompts = by_prompt(outcomes.iter().map(|o| (o.id.as_str(), o)));
        let bootstrap = Bootstrap::new(Stream::new(4)).with_resamples(2000);
        JudgeCalibration::of("rule", &prompts, &bootstrap)
    }

    fn value(estimate: Option<Estimate>) -> f64 {
        estimate.unwrap().value
    }

    #[test]
    fn a_judge_that_counts_characters_is_no_better_than_longer_wins() {
        let found = calibration(6, |_, a, b| {
            Verdict::Preference(if b.len() > a.len() { 1.0 } else { 0.0 })
        });
        assert_eq!((found.rates.n, found.rates.failures), (9, 1));
        assert_eq!(value(found.agreement), 6.0 / 9.0);
        assert_eq!(value(found.longer_wins), 6.0 / 9.0);
        let above = found.above_longer_wins.unwrap();
        assert_eq!((above.value, above.n), (0.0, 9));
    }

    #[test]
    fn a_judge_that_always_says_first_agrees_in_half_of_the_pairs() {
        let found = calibration(3, |_, _, _| Verdict::Preference(0.0));
        assert_eq!(value(found.agreement), 0.5);
        assert_eq!(value(found.rates.flips), 1.0);
        assert_eq!(value(found.rates.first_position), 1.0);
        assert!((value(found.above_longer_wins) - (0.5 - 3.0 / 9.0)).abs() < 1e-12);
    }

    #[test]
    fn a_good_judge_is_above_longer_wins_by_its_interval() {
        let found = calibration(3, |_, _, b| {
            Verdict::Preference(if b.contains("good") { 1.0 } else { 0.0 })
        });
        assert_eq!(value(found.agreement), 1.0);
        let interval = found.above_longer_wins.unwrap().interval.unwrap();
        assert!(interval.low > 0.0 && interval.high <= 1.0, "{interval:?}");
    }
}
