//! What a paired difference does and does not support, in words: one paragraph a variant.
//!
//! The verdict follows the Holm-corrected p-value. Everything that limits it is said in the same paragraph: the number of
//! training runs, the judge, the length of the answers, and, where no difference is shown, how large a one is excluded.

use serde::{Deserialize, Serialize};

use super::paired_difference::{ExactTest, PairedDifference, Support};
use super::statistics::{Estimate, Interval};

/// Below this many seeds the hierarchical bootstrap covers noticeably less than 95%.
pub const FEW_SEEDS: usize = 5;

/// Mean lengths that differ by more than this share are worth a sentence.
const LENGTH_SHARE: f64 = 0.1;

/// What a difference is judged by, beside its own figures.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// Name of the variant.
    pub variant: &'a str,
    /// Name of the baseline.
    pub baseline: &'a str,
    /// Training runs of each.
    pub seeds: usize,
    /// Variants that are compared with the baseline.
    pub comparisons: usize,
    /// The judge is a reward model.
    pub judge_is_reward_model: bool,
    /// Mean length of the variant's answers over that of the baseline's.
    pub length_ratio: Option<f64>,
    /// The difference at equal lengths.
    pub length_controlled: Option<Estimate>,
}

/// Why less follows than the verdict seems to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// One training run on each side.
    OneSeed,
    /// Fewer than five training runs on each side.
    FewSeeds,
    /// Over the seeds alone (t interval), no difference is shown.
    NotShownOverSeeds,
    /// The interval excludes 0, and the correction for several comparisons takes that back.
    LostByCorrection,
    /// The judge is a reward model.
    RewardModelJudge,
    /// The answers' lengths differ by more than a tenth.
    LengthsDiffer,
    /// At equal lengths the data support something else.
    LengthControlDisagrees,
}

/// What the data support, as data and in words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// After correction for several comparisons.
    pub support: Support,
    /// Differences (as fractions) outside of this are excluded at 95%, uncorrected.
    pub not_excluded: Option<Interval>,
    /// What limits it.
    pub limits: Vec<Limit>,
    /// One paragraph.
    pub text: String,
}

impl Verdict {
    /// The verdict on a difference, whose `p_holm` has been set.
    pub fn of(difference: &PairedDifference, about: &Circumstances<'_>) -> Self {
        let support = difference.corrected_support();
        let mut limits = Vec::new();
        let mut parts = vec![finding(difference, support, about, &mut limits)];
        if difference.difference.is_some() {
            parts.extend(exact(difference));
            parts.extend(seeds(difference, support, about, &mut limits));
            parts.extend(lengths(difference, support, about, &mut limits));
            if about.judge_is_reward_model {
                limits.push(Limit::RewardModelJudge);
                parts.push(
                    "The judge is a reward model: this says what it prefers, not what people would."
                        .to_owned(),
                );
            }
        }
        Self {
            support,
            not_excluded: difference
                .interval
                .filter(|_| support != Support::TooLittleData),
            limits,
            text: parts.join(" "),
        }
    }
}

fn finding(
    difference: &PairedDifference,
    support: Support,
    about: &Circumstances<'_>,
    limits: &mut Vec<Limit>,
) -> String {
    let Circumstances {
        variant, baseline, ..
    } = about;
    let Some(value) = difference.difference else {
        return format!(
            "{variant} and {baseline}: no prompt was judged for both, so the data say nothing."
        );
    };
    let figures = [
        difference
            .interval
            .map(|i| format!("95% interval {}", range(i))),
        Some(sample(difference, about.seeds)),
    ];
    let figures = figures.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let lead = format!(
        "{variant}'s win rate is {} {baseline}'s ({figures}{})",
        gap(value),
        p_values(difference, about.comparisons)
    );
    match support {
        Support::Higher | Support::Lower => {
            format!("{lead}: the data support a difference with these prompts and this judge.")
        }
        Support::TooLittleData => format!(
            "{lead}: only {} answers differ in preference, and fewer than {} cannot support a difference either way.",
            difference.better + difference.worse,
            PairedDifference::LEAST_DISCORDANT
        ),
        Support::NoDifference => {
            let lost = difference.support() != Support::NoDifference;
            let reason = if lost {
                limits.push(Limit::LostByCorrection);
                "the interval alone excludes 0, but after correction for several comparisons the data do not support a \
                 difference"
            } else {
                "the data do not support a difference, which is no evidence that there is none"
            };
            format!("{lead}: {reason}.{}", excluded(difference.interval))
        }
    }
}

/// What an interval rules out.
fn excluded(interval: Option<Interval>) -> String {
    let Some(Interval { low, high }) = interval else {
        return String::new();
    };
    let size = |v: f64| format!("{:.1}", 100.0 * v.abs());
    match (low < 0.0, high > 0.0) {
        (true, true) => format!(
            " Excluded at 95%: more than {} points better or {} points worse.",
            size(high),
            size(low)
        ),
        (false, true) => format!(" Excluded at 95%: more than {} points better.", size(high)),
        (true, false) => format!(" Excluded at 95%: more than {} points worse.", size(low)),
        (false, false) => String::new(),
    }
}

fn p_values(difference: &PairedDifference, comparisons: usize) -> String {
    match (difference.p_holm, difference.p_bootstrap) {
        (Some(adjusted), Some(raw)) if comparisons > 1 => format!(
            "; Holm-adjusted {}, unadjusted {}",
            p(adjusted),
            p(raw).trim_start_matches("p ").trim_start_matches("= ")
        ),
        (_, Some(raw)) => format!("; {}", p(raw)),
        _ => String::new(),
    }
}

fn exact(difference: &PairedDifference) -> Option<String> {
    let name = match difference.test? {
        ExactTest::McNemar => "McNemar's exact test",
        ExactTest::Sign => "Exact sign test, ties dropped",
    };
    Some(format!(
        "{name}: better on {}, worse on {}, {} (uncorrected).",
        difference.better,
        difference.worse,
        p(difference.p_value?)
    ))
}

fn seeds(
    difference: &PairedDifference,
    support: Support,
    about: &Circumstances<'_>,
    limits: &mut Vec<Limit>,
) -> Option<String> {
    if about.seeds == 1 {
        limits.push(Limit::OneSeed);
        return Some("One seed: it says nothing about other training runs.".to_owned());
    }
    let own = difference.seed_interval?;
    let found = matches!(support, Support::Higher | Support::Lower);
    let unshown = found && own.contains(0.0);
    if unshown {
        limits.push(Limit::NotShownOverSeeds);
    }
    let shown = if unshown {
        ", which contains 0: for training runs in general a difference is not shown"
    } else {
        ""
    };
    if about.seeds < FEW_SEEDS {
        limits.push(Limit::FewSeeds);
        return Some(format!(
            "With {} seeds the spread between training runs is hardly known, and the interval is too narrow for it; a t \
             interval over the seeds alone is {}{shown}.",
            number(about.seeds),
            range(own)
        ));
    }
    unshown.then(|| {
        format!(
            "A t interval over the seeds alone is {}{shown}.",
            range(own)
        )
    })
}

fn lengths(
    difference: &PairedDifference,
    support: Support,
    about: &Circumstances<'_>,
    limits: &mut Vec<Limit>,
) -> Option<String> {
    let differ = about
        .length_ratio
        .filter(|r| (r - 1.0).abs() > LENGTH_SHARE);
    if differ.is_some() {
        limits.push(Limit::LengthsDiffer);
    }
    let answers = differ.map(|ratio| {
        let share = 100.0 * (ratio - 1.0).abs();
        let side = if ratio > 1.0 { "longer" } else { "shorter" };
        format!("Its answers are {share:.0}% {side}.")
    });
    let Some((control, interval)) = about
        .length_controlled
        .and_then(|c| Some((c, c.interval?)))
        .filter(|_| support != Support::TooLittleData)
    else {
        return answers;
    };
    // Uncorrected against uncorrected: the same question at equal lengths.
    let sign = |i: Interval| i8::from(i.low > 0.0) - i8::from(i.high < 0.0);
    let disagrees = difference
        .interval
        .is_some_and(|raw| sign(raw) != sign(interval));
    if !disagrees && answers.is_none() {
        return None;
    }
    let says = if disagrees {
        limits.push(Limit::LengthControlDisagrees);
        if interval.contains(0.0) {
            "so length may explain what is seen"
        } else {
            "unlike the plain win rate, which length draws the other way"
        }
    } else {
        "the same conclusion before correction"
    };
    let at_equal = format!(
        "At equal lengths (length-controlled) it is {} ({}): {says}.",
        gap(control.value)
            .replace(" above", " higher")
            .replace(" below", " lower")
            .replace("level with", "level"),
        range(interval)
    );
    Some(answers.map_or_else(|| at_equal.clone(), |a| format!("{a} {at_equal}")))
}

/// How many prompts, and how the seeds share them.
fn sample(difference: &PairedDifference, seeds: usize) -> String {
    let n = difference.n;
    let answers = difference.better + difference.worse + difference.equal;
    match seeds {
        1 => format!("n = {n} prompts"),
        _ if answers > n => format!("n = {n} prompts × {seeds} seeds"),
        _ => format!("n = {n} prompts over {seeds} seeds"),
    }
}

fn gap(value: f64) -> String {
    let points = 100.0 * value;
    if points.abs() < 0.05 {
        "level with".to_owned()
    } else if points > 0.0 {
        format!("{points:.1} points above")
    } else {
        format!("{:.1} points below", -points)
    }
}

/// An interval in points: `1.2 to 7.0`, `−2.0 to 0.3`.
fn range(interval: Interval) -> String {
    let end = |v: f64| {
        let text = format!("{:.1}", 100.0 * v);
        match text.strip_prefix('-') {
            Some("0.0") => "0.0".to_owned(),
            Some(size) => format!("−{size}"),
            None => text,
        }
    };
    format!("{} to {}", end(interval.low), end(interval.high))
}

fn p(p: f64) -> String {
    if p < 0.001 {
        "p < 0.001".to_owned()
    } else {
        format!("p = {p:.3}")
    }
}

fn number(n: usize) -> String {
    match n {
        2 => "two".to_owned(),
        3 => "three".to_owned(),
        4 => "four".to_owned(),
        n => n.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(low: f64, high: f64, p_holm: f64) -> PairedDifference {
        PairedDifference {
            difference: Some(f64::midpoint(low, high)),
            se: None,
            interval: Some(Interval { low, high }),
            n: 400,
            better: 500,
            worse: 300,
            equal: 400,
            p_value: None,
            test: None,
            p_bootstrap: Some(p_holm / 2.0),
            p_holm: Some(p_holm),
            seed_interval: Some(Interval {
                low: low - 0.03,
                high: high + 0.03,
            }),
        }
    }

    const ABOUT: Circumstances<'_> = Circumstances {
        variant: "fine",
        baseline: "base",
        seeds: 3,
        comparisons: 2,
        judge_is_reward_model: false,
        length_ratio: Some(1.02),
        length_controlled: None,
    };

    fn estimate(value: f64, half: f64) -> Estimate {
        Estimate {
            value,
            se: None,
            interval: Some(Interval {
                low: value - half,
                high: value + half,
            }),
            n: 400,
        }
    }

    #[test]
    fn a_difference_with_its_limits() {
        let found = Verdict::of(&difference(0.012, 0.07, 0.02), &ABOUT);
        assert_eq!(
            found.text,
            "fine's win rate is 4.1 points above base's (95% interval 1.2 to 7.0, n = 400 prompts × 3 seeds; \
             Holm-adjusted p = 0.020, unadjusted 0.010): the data support a difference with these prompts and this judge. \
             With three seeds the spread between training runs is hardly known, and the interval is too narrow for it; a t \
             interval over the seeds alone is −1.8 to 10.0, which contains 0: for training runs in general a difference is \
             not shown."
        );
        assert_eq!(found.support, Support::Higher);
        assert_eq!(found.limits, [Limit::NotShownOverSeeds, Limit::FewSeeds]);
    }

    #[test]
    fn no_difference_says_what_is_excluded() {
        let found = Verdict::of(&difference(-0.02, 0.05, 0.6), &ABOUT);
        assert!(
            found.text.contains(
                ": the data do not support a difference, which is no evidence that there is none. Excluded at 95%: more \
                 than 5.0 points better or 2.0 points worse."
            ),
            "{}",
            found.text
        );
        let lost = Verdict::of(&difference(0.001, 0.05, 0.08), &ABOUT);
        assert_eq!(lost.support, Support::NoDifference);
        assert!(lost.limits.contains(&Limit::LostByCorrection));
        assert!(
            lost.text
                .contains("after correction for several comparisons the data do not support")
                && lost.text.ends_with("is −2.9 to 8.0."),
            "{}",
            lost.text
        );
    }

    #[test]
    fn one_seed_a_reward_model_and_little_data() {
        let mut one = difference(-0.09, -0.01, 0.01);
        (one.seed_interval, one.n, one.better, one.worse, one.equal) = (None, 50, 5, 15, 30);
        (one.p_value, one.test) = (Some(0.041_389), Some(ExactTest::McNemar));
        let about = Circumstances {
            seeds: 1,
            comparisons: 1,
            judge_is_reward_model: true,
            ..ABOUT
        };
        let found = Verdict::of(&one, &about);
        assert_eq!(
            found.text,
            "fine's win rate is 5.0 points below base's (95% interval −9.0 to −1.0, n = 50 prompts; p = 0.005): the data \
             support a difference with these prompts and this judge. McNemar's exact test: better on 5, worse on 15, p = \
             0.041 (uncorrected). One seed: it says nothing about other training runs. The judge is a reward model: this \
             says what it prefers, not what people would."
        );
        assert_eq!(found.limits, [Limit::OneSeed, Limit::RewardModelJudge]);
        (one.better, one.worse, one.p_bootstrap, one.p_holm) = (1, 4, None, None);
        let few = Verdict::of(&one, &about);
        assert_eq!(
            (few.support, few.not_excluded),
            (Support::TooLittleData, None)
        );
        assert!(few.text.contains("only 5 answers differ in preference"));
        one.difference = None;
        one.interval = None;
        let none = Verdict::of(&one, &about);
        assert_eq!(
            none.text,
            "fine and base: no prompt was judged for both, so the data say nothing."
        );
    }

    #[test]
    fn length_has_its_say() {
        let about = Circumstances {
            length_ratio: Some(1.3),
            length_controlled: Some(estimate(0.001, 0.02)),
            ..ABOUT
        };
        let found = Verdict::of(&difference(0.012, 0.07, 0.02), &about);
        assert!(
            found.text.ends_with(
                "Its answers are 30% longer. At equal lengths (length-controlled) it is 0.1 points higher (−1.9 to 2.1): so \
                 length may explain what is seen."
            ),
            "{}",
            found.text
        );
        assert!(found.limits.contains(&Limit::LengthControlDisagrees));
        let same = Circumstances {
            length_controlled: Some(estimate(0.04, 0.02)),
            ..ABOUT
        };
        let same = Verdict::of(&difference(0.012, 0.07, 0.02), &same);
        assert!(!same.text.contains("At equal lengths"), "nothing to add");
    }

    #[test]
    fn five_seeds_that_agree_need_no_warning() {
        let mut five = difference(0.04, 0.07, 0.001);
        five.seed_interval = Some(Interval {
            low: 0.03,
            high: 0.08,
        });
        let about = Circumstances { seeds: 5, ..ABOUT };
        assert_eq!(Verdict::of(&five, &about).limits, []);
    }
}
