//! How far two judges agree on the same contests, as wins, ties and losses of the model.

use serde::{Deserialize, Serialize};

use super::judge_rates::ByPrompt;
use super::judging::Outcome;
use super::statistics::{Bootstrap, Estimate, cohen_kappa};

/// The agreement of two judges of a panel. Contests of equal texts, which no judge is asked about, and those that either failed
/// on are left out. Intervals are over prompts; `n` in the estimates counts prompts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// One of them.
    pub first: String,
    /// The other.
    pub second: String,
    /// Contests that both answered in both orders.
    pub n: usize,
    /// Share of these that both put into the same class: win, tie or loss.
    pub same: Option<Estimate>,
    /// Cohen's κ over the three classes; `None` where both have one class alone.
    pub kappa: Option<Estimate>,
}

/// The classes of a preference: below, at and above one half.
const CLASSES: usize = 3;

fn class(preference: f64) -> usize {
    match preference {
        p if p > 0.5 => 2,
        p if p < 0.5 => 0,
        _ => 1,
    }
}

impl Agreement {
    /// The agreement of two members of the panel whose outcomes these are.
    pub fn of(first: &str, second: &str, prompts: &ByPrompt<'_>, bootstrap: &Bootstrap) -> Self {
        let both = |outcome: &Outcome| {
            let preference = |judge: &str| outcome.member(judge)?.preference;
            let asked = !outcome.identical;
            asked.then(|| Some((class(preference(first)?), class(preference(second)?))))?
        };
        let classes: Vec<Vec<(usize, usize)>> = prompts
            .iter()
            .map(|contests| {
                contests
                    .iter()
                    .filter_map(|&outcome| both(outcome))
                    .collect()
            })
            .filter(|contests: &Vec<_>| !contests.is_empty())
            .collect();
        let parts: Vec<(f64, f64)> = classes
            .iter()
            .map(|contests| {
                let same = contests.iter().filter(|(one, other)| one == other).count();
                (same as f64, contests.len() as f64)
            })
            .collect();
        let kappa = |drawn: &mut dyn Iterator<Item = usize>| {
            let mut counts = [[0; CLASSES]; CLASSES];
            for prompt in drawn {
                for &(one, other) in &classes[prompt] {
                    counts[one][other] += 1;
                }
            }
            cohen_kappa(&counts)
        };
        // Where no resample differs, the interval would be a point, which says nothing of other prompts.
        let spread = bootstrap
            .spread(classes.len(), |drawn| kappa(&mut drawn.iter().copied()))
            .filter(|spread| spread.interval.low < spread.interval.high);
        Self {
            first: first.to_owned(),
            second: second.to_owned(),
            n: classes.iter().map(Vec::len).sum(),
            same: bootstrap.ratio(&parts).map(Estimate::or_wilson),
            kappa: kappa(&mut (0..classes.len())).map(|value| Estimate {
                value,
                se: spread.map(|s| s.se),
                interval: spread.map(|s| s.interval),
                n: classes.len(),
            }),
        }
    }

    /// The agreement of every two of these members.
    pub fn of_all(judges: &[&str], prompts: &ByPrompt<'_>, bootstrap: &Bootstrap) -> Vec<Self> {
        let pairs = judges.iter().enumerate().flat_map(|(at, first)| {
            let others = judges[at + 1..].iter();
            others.map(move |second| (*first, *second))
        });
        pairs
            .map(|(first, second)| Self::of(first, second, prompts, bootstrap))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use finegrain_sdk::rng::Stream;

    use super::*;
    use crate::eval::MemberOutcome;
    use crate::eval::by_prompt;
    use crate::eval::win_rate::tests::outcomes;

    /// Outcomes of a panel of `a` and `b` with these preferences.
    fn panel(preferences: &[(Option<f64>, Option<f64>)]) -> Vec<Outcome> {
        let mut all = outcomes(&vec![Some(0.5); preferences.len()]);
        for (outcome, &(a, b)) in all.iter_mut().zip(preferences) {
            let member = |judge: &str, preference: Option<f64>| MemberOutcome {
                judge: judge.to_owned(),
                preference,
                verdicts: [preference; 2],
                flip: false,
                failure: None,
                reasons: Default::default(),
            };
            outcome.members = vec![member("a", a), member("b", b)];
        }
        all
    }

    fn agreement(preferences: &[(Option<f64>, Option<f64>)]) -> Agreement {
        let outcomes = panel(preferences);
        let prompts = by_prompt(outcomes.iter().map(|o| (o.id.as_str(), o)));
        let bootstrap = Bootstrap::new(Stream::new(2)).with_resamples(4000);
        let all = Agreement::of_all(&["a", "b"], &prompts, &bootstrap);
        assert_eq!(all.len(), 1);
        all[0].clone()
    }

    // The table 12 3 1 / 2 6 2 / 4 1 9 of `statistics/kappa.rs`; its interval, by
    // import numpy as np
    // c = np.repeat([(i, j) for i in range(3) for j in range(3)], [12, 3, 1, 2, 6, 2, 4, 1, 9], axis=0)
    // def kappa(c):
    //     t = np.zeros((3, 3)); np.add.at(t, (c[:, 0], c[:, 1]), 1); n = t.sum(); e = (t.sum(0) * t.sum(1)).sum() / n ** 2
    //     return (np.trace(t) / n - e) / (1 - e)
    // rng = np.random.default_rng(1); k = [kappa(c[rng.integers(0, 40, 40)]) for _ in range(200_000)]
    // kappa(c), np.std(k), np.quantile(k, [0.025, 0.975])   # 0.50192, 0.1132, [0.2692, 0.7116]
    // Tolerance: the ends of 4000 resamples have a standard error of about 0.042 se; four of them.
    #[test]
    fn kappa_and_its_interval_of_a_known_table() {
        let table = [[12, 3, 1], [2, 6, 2], [4, 1, 9]];
        let shades = [0.25, 0.5, 0.75];
        let mut preferences = Vec::new();
        for (row, &a) in table.iter().zip(&shades) {
            for (&count, &b) in row.iter().zip(&shades) {
                preferences.extend(vec![(Some(a), Some(b)); count]);
            }
        }
        // What either failed on does not count.
        preferences.extend([(None, Some(1.0)), (Some(0.0), None)]);
        let found = agreement(&preferences);
        let kappa = found.kappa.unwrap();
        let interval = kappa.interval.unwrap();
        assert_eq!((found.n, kappa.n), (40, 40));
        assert!((found.same.unwrap().value - 27.0 / 40.0).abs() < 1e-12);
        assert!((kappa.value - 524.0 / 1044.0).abs() < 1e-12);
        assert!((kappa.se.unwrap() - 0.113_2).abs() < 0.01, "{kappa:?}");
        assert!((interval.low - 0.269_2).abs() < 0.02, "{interval:?}");
        assert!((interval.high - 0.711_6).abs() < 0.02, "{interval:?}");
    }

    #[test]
    fn judges_that_know_one_class_alone_have_no_kappa() {
        let found = agreement(&[(Some(1.0), Some(1.0)); 5]);
        assert_eq!((found.n, found.kappa), (5, None));
        assert_eq!(found.same.unwrap().value, 1.0);
        assert_eq!(agreement(&[(None, None)]).same, None);
    }
}
