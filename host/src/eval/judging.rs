//! Asking a judge which of two responses is better, in both orders.
//!
//! Judges favour a position (peers measured 0.49 to 0.75 for the first one), so each comparison is asked twice with the
//! responses swapped and both answers are averaged: a judge that only looks at the position comes out at one half.

use finegrain_sdk::CallContext;
use finegrain_sdk::kinds::{Comparisons, Verdict};
use serde::{Deserialize, Serialize};

use super::panel::MemberOutcome;
use crate::data::ragged::TextVec;
use crate::error::{Context, Error, Result};
use crate::plugins::JudgeInstance;

/// Whoever compares two responses: a plugin instance, or a reward model.
pub trait Judge {
    /// Name for reports.
    fn name(&self) -> String;

    /// One verdict and reason (or empty text) per row, in the order of the rows.
    fn compare(
        &self,
        comparisons: &Comparisons<'_>,
        context: &CallContext<'_>,
    ) -> Result<Vec<(Verdict, String)>>;
}

impl Judge for JudgeInstance {
    fn name(&self) -> String {
        self.identity().name.clone()
    }

    fn compare(
        &self,
        comparisons: &Comparisons<'_>,
        context: &CallContext<'_>,
    ) -> Result<Vec<(Verdict, String)>> {
        let judgements = self.compare_all(comparisons, context)?;
        Ok(judgements
            .into_iter()
            .map(|j| (j.verdict, j.reason))
            .collect())
    }
}

/// A response of the model and one of the reference to the same prompt.
#[derive(Clone, Copy, Debug)]
pub struct Contest<'a> {
    /// The prompt's id: outcomes of several variants are paired by it.
    pub id: &'a str,
    /// The prompt.
    pub prompt: &'a str,
    /// The response of the model that is evaluated.
    pub model: &'a str,
    /// The response that it is compared with.
    pub reference: &'a str,
}

/// What came of one contest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The prompt's id.
    pub id: String,
    /// How much the model is preferred, in [0, 1], averaged over both orders, ties half; `None` where the judge failed
    /// in either order, because one order alone carries the bias that the other cancels.
    pub preference: Option<f64>,
    /// How much the model is preferred in each order, in [0, 1]: reference first, model first. `None` where the judge failed
    /// or was not asked; both are `None` in outcomes that were stored before single verdicts were.
    #[serde(default)]
    pub verdicts: [Option<f64>; 2],
    /// The two orders prefer different responses.
    pub flip: bool,
    /// Both responses are the same text: a tie, and the judge was not asked.
    pub identical: bool,
    /// Why there is no preference.
    pub failure: Option<String>,
    /// The judge's reasons: reference first, model first. Empty where it gave none or was not asked.
    pub reasons: [String; 2],
    /// Length of the model's response in characters (Unicode scalar values).
    pub length_model: usize,
    /// Length of the reference's response in characters.
    pub length_reference: usize,
    /// What each judge of a panel said; empty for one judge, and where none was asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<MemberOutcome>,
}

/// The two orders, in the order of [`Outcome::reasons`]; they are part of a row's id, so that a judge that draws by id
/// draws for each order apart.
const ORDERS: [&str; 2] = ["reference-first", "model-first"];

/// Asks `judge` about every contest in both orders, in one call of two rows per contest.
///
/// # Errors
/// Whatever the judge's call returns; a wrong number of verdicts, or a preference outside [0, 1].
pub fn judge_both_orders(
    judge: &dyn Judge,
    contests: &[Contest<'_>],
    context: &CallContext<'_>,
) -> Result<Vec<Outcome>> {
    let asked: Vec<&Contest<'_>> = contests.iter().filter(|c| c.model != c.reference).collect();
    let mut verdicts = ask(judge, &asked, context)
        .context(format!("judge `{}`", judge.name()))?
        .into_iter();
    contests
        .iter()
        .map(|contest| {
            let both = if contest.model == contest.reference {
                None
            } else {
                verdicts.next()
            };
            Ok(outcome(contest, both))
        })
        .collect()
}

/// The preference for the second response `b`, or why there is none, and the judge's reason.
type Answer = (std::result::Result<f64, String>, String);

/// Two checked answers per contest, in [`ORDERS`].
fn ask(
    judge: &dyn Judge,
    contests: &[&Contest<'_>],
    context: &CallContext<'_>,
) -> Result<Vec<[Answer; 2]>> {
    if contests.is_empty() {
        return Ok(Vec::new());
    }
    let ids: TextVec = contests
        .iter()
        .flat_map(|c| ORDERS.map(|order| format!("{}/{order}", c.id)))
        .collect();
    let prompts: TextVec = contests.iter().flat_map(|c| [c.prompt; 2]).collect();
    let a: TextVec = contests
        .iter()
        .flat_map(|c| [c.reference, c.model])
        .collect();
    let b: TextVec = contests
        .iter()
        .flat_map(|c| [c.model, c.reference])
        .collect();
    let comparisons = Comparisons {
        ids: ids.view(),
        prompts: prompts.view(),
        a: a.view(),
        b: b.view(),
    };
    let verdicts = judge.compare(&comparisons, context)?;
    if verdicts.len() != contests.len() * 2 {
        return Err(Error::plugin(format!(
            "{} verdicts for {} comparisons; one per comparison is accepted",
            verdicts.len(),
            contests.len() * 2
        )));
    }
    let mut answers = verdicts
        .into_iter()
        .enumerate()
        .map(|(row, (verdict, reason))| {
            let preference = match verdict {
                Verdict::Preference(p) if (0.0..=1.0).contains(&p) => Ok(f64::from(p)),
                Verdict::Preference(p) => {
                    return Err(Error::plugin(format!(
                        "row {row} (id `{}`): preference {p}; a number from 0 to 1 is accepted",
                        comparisons.ids.row(row)
                    )));
                }
                Verdict::Tie => Ok(0.5),
                Verdict::Failed(why) => Err(why),
            };
            Ok((preference, reason))
        });
    let mut pairs = Vec::with_capacity(contests.len());
    while let (Some(first), Some(second)) = (answers.next(), answers.next()) {
        pairs.push([first?, second?]);
    }
    Ok(pairs)
}

/// How much the model is preferred and whether the orders prefer different responses, from how much it is in each.
pub(super) fn settle(reference_first: f64, model_first: f64) -> (f64, bool) {
    let flip = (reference_first - 0.5) * (model_first - 0.5) < 0.0;
    (f64::midpoint(reference_first, model_first), flip)
}

fn outcome(contest: &Contest<'_>, answers: Option<[Answer; 2]>) -> Outcome {
    let mut outcome = Outcome {
        id: contest.id.to_owned(),
        preference: Some(0.5),
        verdicts: [None; 2],
        flip: false,
        identical: answers.is_none(),
        failure: None,
        reasons: [String::new(), String::new()],
        length_model: contest.model.chars().count(),
        length_reference: contest.reference.chars().count(),
        members: Vec::new(),
    };
    let Some(
        [
            (reference_first, first_reason),
            (model_first, second_reason),
        ],
    ) = answers
    else {
        return outcome;
    };
    outcome.reasons = [first_reason, second_reason];
    outcome.verdicts = [
        reference_first.as_ref().ok().copied(),
        model_first
            .as_ref()
            .ok()
            .map(|for_reference| 1.0 - for_reference),
    ];
    match (reference_first, model_first) {
        (Ok(for_model), Ok(for_reference)) => {
            let (preference, flip) = settle(for_model, 1.0 - for_reference);
            outcome.preference = Some(preference);
            outcome.flip = flip;
        }
        (first, second) => {
            let failures: Vec<String> = ORDERS
                .iter()
                .zip([first, second])
                .filter_map(|(order, answer)| answer.err().map(|why| format!("{order}: {why}")))
                .collect();
            outcome.preference = None;
            outcome.failure = Some(failures.join("; "));
        }
    }
    outcome
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    /// A judge made of a function of (id, a, b).
    pub(in crate::eval) struct Rule<F>(pub(in crate::eval) F);

    impl<F: Fn(&str, &str, &str) -> Verdict> Judge for Rule<F> {
        fn name(&self) -> String {
            "rule".to_owned()
        }

        fn compare(
            &self,
            comparisons: &Comparisons<'_>,
            _: &CallContext<'_>,
        ) -> Result<Vec<(Verdict, String)>> {
            Ok((0..comparisons.ids.rows())
                .map(|i| {
                    let (a, b) = (comparisons.a.row(i), comparisons.b.row(i));
                    ((self.0)(comparisons.ids.row(i), a, b), format!("{a}|{b}"))
                })
                .collect())
        }
    }

    fn judge(rule: impl Fn(&str, &str, &str) -> Verdict) -> Result<Vec<Outcome>> {
        let contests = [
            ("p1", "good answer", "bad"),
            ("p2", "bad", "good"),
            ("p3", "same", "same"),
        ]
        .map(|(id, model, reference)| (id.to_owned(), model.to_owned(), reference.to_owned()));
        try_judged(rule, &contests)
    }

    /// The outcomes of contests of (id, model, reference) by a function of (id, a, b).
    pub(in crate::eval) fn judged(
        rule: impl Fn(&str, &str, &str) -> Verdict,
        contests: &[(String, String, String)],
    ) -> Vec<Outcome> {
        try_judged(rule, contests).unwrap()
    }

    fn try_judged(
        rule: impl Fn(&str, &str, &str) -> Verdict,
        contests: &[(String, String, String)],
    ) -> Result<Vec<Outcome>> {
        let contests: Vec<Contest<'_>> = contests
            .iter()
            .map(|(id, model, reference)| Contest {
                id,
                prompt: "prompt",
                model,
                reference,
            })
            .collect();
        with_context(|context| judge_both_orders(&Rule(rule), &contests, context))
    }

    /// What a call gives in a context of nothing.
    pub(in crate::eval) fn with_context<T>(call: impl FnOnce(&CallContext<'_>) -> T) -> T {
        call(&CallContext {
            seed: 0,
            step: 0,
            threads: 1,
            cancel: &AtomicBool::new(false),
            log: &|_, _| {},
            progress: &|_, _| {},
            answers: None,
        })
    }

    fn good_is_better(_: &str, a: &str, b: &str) -> Verdict {
        let score = |text: &str| i32::from(text.starts_with("good"));
        Verdict::Preference(if score(b) > score(a) { 1.0 } else { 0.0 })
    }

    #[test]
    fn a_consistent_judge_decides_and_identical_texts_are_not_asked() {
        let outcomes = judge(good_is_better).unwrap();
        let preferences: Vec<_> = outcomes.iter().map(|o| o.preference).collect();
        assert_eq!(preferences, [Some(1.0), Some(0.0), Some(0.5)]);
        assert!(outcomes.iter().all(|o| !o.flip && o.failure.is_none()));
        let verdicts: Vec<_> = outcomes.iter().map(|o| o.verdicts).collect();
        assert_eq!(verdicts, [[Some(1.0); 2], [Some(0.0); 2], [None; 2]]);
        assert_eq!(outcomes[0].reasons, ["bad|good answer", "good answer|bad"]);
        assert_eq!(
            (outcomes[0].length_model, outcomes[0].length_reference),
            (11, 3)
        );
        assert!(outcomes[2].identical && !outcomes[0].identical);
        assert_eq!(outcomes[2].reasons, ["", ""]);
    }

    #[test]
    fn a_judge_that_looks_at_the_position_only_ties_and_flips() {
        let outcomes = judge(|_, _, _| Verdict::Preference(0.8)).unwrap();
        for outcome in &outcomes[..2] {
            assert!((outcome.preference.unwrap() - 0.5).abs() < 1e-12);
            assert!(outcome.flip);
        }
        let ties = judge(|_, _, _| Verdict::Tie).unwrap();
        assert!(ties.iter().all(|o| o.preference == Some(0.5) && !o.flip));
    }

    #[test]
    fn a_tie_in_one_order_counts_half_and_is_no_flip() {
        let outcomes = judge(|id, a, b| {
            if id.ends_with("model-first") {
                Verdict::Tie
            } else {
                good_is_better(id, a, b)
            }
        });
        let outcomes = outcomes.unwrap();
        assert_eq!(
            (outcomes[0].preference, outcomes[0].flip),
            (Some(0.75), false)
        );
        assert_eq!(
            (outcomes[1].preference, outcomes[1].flip),
            (Some(0.25), false)
        );
    }

    #[test]
    fn one_failed_order_is_a_failure() {
        let outcomes = judge(|id, _, _| {
            if id == "p1/model-first" {
                Verdict::Failed("no answer".to_owned())
            } else {
                Verdict::Tie
            }
        });
        let outcomes = outcomes.unwrap();
        assert_eq!(outcomes[0].preference, None);
        assert_eq!(outcomes[0].verdicts, [Some(0.5), None]);
        assert_eq!(
            outcomes[0].failure.as_deref(),
            Some("model-first: no answer")
        );
        assert_eq!(outcomes[1].preference, Some(0.5));
    }

    #[test]
    fn refuses_what_breaks_the_contract() {
        for wrong in [1.5, -0.1, f32::NAN] {
            let error = judge(|_, _, _| Verdict::Preference(wrong)).unwrap_err();
            assert_eq!(error.exit_code(), 4);
            assert!(
                error
                    .to_string()
                    .starts_with("judge `rule`: row 0 (id `p1/reference-first`)")
            );
        }
    }

    #[test]
    fn outcomes_survive_json() {
        for outcome in judge(good_is_better).unwrap() {
            let json = serde_json::to_string(&outcome).unwrap();
            assert_eq!(serde_json::from_str::<Outcome>(&json).unwrap(), outcome);
        }
    }

    #[test]
    fn an_outcome_that_was_stored_without_single_verdicts_is_read() {
        let outcome = judge(good_is_better).unwrap().remove(0);
        let mut json = serde_json::to_value(&outcome).unwrap();
        json.as_object_mut().unwrap().remove("verdicts").unwrap();
        let found: Outcome = serde_json::from_value(json).unwrap();
        assert_eq!(found.verdicts, [None; 2]);
        assert_eq!(found.preference, outcome.preference);
    }
}
