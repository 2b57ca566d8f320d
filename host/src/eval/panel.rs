//! Several judges asked about the same contests: the panel's preference is the mean of its members'.
//!
//! A member that fails on a contest has no say in it: the mean is over the members that answered in both orders, and a contest
//! has a preference where at least one did. A judge that is asked alone is a panel of one, and comes out as it would without.

use finegrain_sdk::CallContext;
use finegrain_sdk::rng::Stream;
use serde::{Deserialize, Serialize};

use super::judging::{Contest, Judge, Outcome, judge_both_orders, settle};
use super::statistics::mean;
use crate::error::Result;

/// What one judge of a panel said of a contest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemberOutcome {
    /// The judge's name in the panel.
    pub judge: String,
    /// As in [`Outcome`].
    pub preference: Option<f64>,
    /// As in [`Outcome`].
    pub verdicts: [Option<f64>; 2],
    /// As in [`Outcome`].
    pub flip: bool,
    /// As in [`Outcome`].
    pub failure: Option<String>,
    /// As in [`Outcome`].
    pub reasons: [String; 2],
}

impl Outcome {
    /// The outcome as one member of the panel saw it: what that judge alone would have made of the contest. `None` where it is
    /// no member; a contest of equal texts is one for every judge.
    pub fn seen_by(&self, judge: &str) -> Option<Self> {
        if self.identical {
            return Some(self.clone());
        }
        let member = self.member(judge)?;
        Some(Self {
            id: self.id.clone(),
            preference: member.preference,
            verdicts: member.verdicts,
            flip: member.flip,
            identical: false,
            failure: member.failure.clone(),
            reasons: member.reasons.clone(),
            length_model: self.length_model,
            length_reference: self.length_reference,
            members: Vec::new(),
        })
    }

    /// What a member of the panel made of the contest; `None` of a contest that nobody was asked about.
    pub fn member(&self, judge: &str) -> Option<&MemberOutcome> {
        self.members.iter().find(|member| member.judge == judge)
    }

    /// Whether some judges of a panel answered in both orders, and others did not.
    pub fn is_judged_by_some(&self) -> bool {
        let answered = self
            .members
            .iter()
            .filter(|member| member.preference.is_some())
            .count();
        answered > 0 && answered < self.members.len()
    }
}

/// Judges with names of their own.
pub struct Panel {
    members: Vec<(String, Box<dyn Judge>)>,
}

impl Panel {
    /// One judge, or several.
    pub fn new(members: Vec<(String, Box<dyn Judge>)>) -> Self {
        Self { members }
    }

    /// Asks every member about every contest in both orders, one member after the other.
    ///
    /// # Errors
    /// As [`judge_both_orders`], for any member.
    pub fn judge(
        &self,
        contests: &[Contest<'_>],
        context: &CallContext<'_>,
    ) -> Result<Vec<Outcome>> {
        if let [(_, only)] = self.members.as_slice() {
            return judge_both_orders(&**only, contests, context);
        }
        let count = self.members.len() as u64;
        let mut answered = Vec::with_capacity(self.members.len());
        for (at, (name, judge)) in (0..).zip(&self.members) {
            // The bar is of all members, as far as their batches are equal.
            let progress =
                |done: u64, total: u64| (context.progress)(at * total + done, count * total);
            let context = CallContext {
                seed: Stream::new(context.seed).child(name).seed(),
                progress: &progress,
                ..*context
            };
            let outcomes = judge_both_orders(&**judge, contests, &context)?;
            answered.push(outcomes.into_iter());
        }
        Ok(contests
            .iter()
            .map_while(|_| {
                let of_contest: Option<Vec<Outcome>> =
                    answered.iter_mut().map(Iterator::next).collect();
                of_contest.map(|outcomes| self.together(&outcomes))
            })
            .collect())
    }

    /// The panel's outcome of one contest from its members', in their order.
    fn together(&self, outcomes: &[Outcome]) -> Outcome {
        let names = self.members.iter().map(|(name, _)| name.as_str());
        let answered = || {
            outcomes
                .iter()
                .filter(|outcome| outcome.preference.is_some())
        };
        let of_order = |order: usize| {
            let verdicts: Vec<f64> = answered().filter_map(|o| o.verdicts[order]).collect();
            mean(&verdicts)
        };
        let verdicts = [of_order(0), of_order(1)];
        let whole = match verdicts {
            [Some(first), Some(second)] => Some(settle(first, second)),
            _ => None,
        };
        let failures: Vec<String> = names
            .clone()
            .zip(outcomes)
            .filter_map(|(name, outcome)| Some(format!("{name}: {}", outcome.failure.as_ref()?)))
            .collect();
        let first = &outcomes[0];
        if first.identical {
            return first.clone();
        }
        Outcome {
            id: first.id.clone(),
            preference: whole.map(|(preference, _)| preference),
            verdicts,
            flip: whole.is_some_and(|(_, flip)| flip),
            identical: false,
            failure: whole.is_none().then(|| failures.join("; ")),
            reasons: [String::new(), String::new()],
            length_model: first.length_model,
            length_reference: first.length_reference,
            members: names
                .map(str::to_owned)
                .zip(outcomes.iter().cloned())
                .map(|(judge, outcome)| MemberOutcome {
                    judge,
                    preference: outcome.preference,
                    verdicts: outcome.verdicts,
                    flip: outcome.flip,
                    failure: outcome.failure,
                    reasons: outcome.reasons,
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use finegrain_sdk::kinds::Verdict;

    use super::*;
    use crate::eval::judging::tests::{Rule, with_context};

    type Said = fn(&str, &str, &str) -> Verdict;

    fn longer(_: &str, a: &str, b: &str) -> Verdict {
        Verdict::Preference(if b.len() > a.len() { 1.0 } else { 0.0 })
    }

    fn always_first(_: &str, _: &str, _: &str) -> Verdict {
        Verdict::Preference(0.0)
    }

    fn fails_on_p1(id: &str, a: &str, b: &str) -> Verdict {
        if id == "p1/model-first" {
            return Verdict::Failed("503".to_owned());
        }
        longer(id, a, b)
    }

    fn outcomes(members: &[(&str, Said)]) -> Vec<Outcome> {
        let panel = Panel::new(
            members
                .iter()
                .map(|&(name, rule)| (name.to_owned(), Box::new(Rule(rule)) as Box<dyn Judge>))
                .collect(),
        );
        let contests = [
            ("p0", "longer", "short"),
            ("p1", "longer", "short"),
            ("p2", "x", "x"),
        ]
        .map(|(id, model, reference)| Contest {
            id,
            prompt: "prompt",
            model,
            reference,
        });
        with_context(|context| panel.judge(&contests, context)).unwrap()
    }

    #[test]
    fn one_judge_is_as_it_is_alone() {
        let [first, ..] = &outcomes(&[("only", longer)])[..] else {
            panic!("three outcomes")
        };
        assert_eq!((first.preference, first.members.len()), (Some(1.0), 0));
        assert_eq!(first.reasons[0], "short|longer");
    }

    #[test]
    fn preferences_are_averaged_and_every_member_is_kept() {
        let found = outcomes(&[("longer", longer), ("first", always_first)]);
        assert_eq!(found[0].preference, Some(0.75));
        // The reference first: 1 and 0; the model first: 1 and 1.
        assert_eq!(found[0].verdicts, [Some(0.5), Some(1.0)]);
        assert!(!found[0].flip);
        let first = found[0].seen_by("first").unwrap();
        assert_eq!((first.preference, first.flip), (Some(0.5), true));
        assert_eq!(found[0].seen_by("longer").unwrap().preference, Some(1.0));
        assert_eq!(found[0].seen_by("nobody"), None);
        assert!(found[2].identical && found[2].seen_by("first").unwrap().identical);
    }

    #[test]
    fn a_member_that_fails_on_a_contest_has_no_say_in_it() {
        let found = outcomes(&[("first", always_first), ("ill", fails_on_p1)]);
        assert_eq!(found[1].preference, Some(0.5));
        assert_eq!(found[1].failure, None);
        // Its answer in the other order does not count either.
        assert_eq!(found[1].verdicts, [Some(0.0), Some(1.0)]);
        let ill = found[1].seen_by("ill").unwrap();
        assert_eq!(ill.failure.as_deref(), Some("model-first: 503"));
        let by_some: Vec<bool> = found.iter().map(Outcome::is_judged_by_some).collect();
        assert_eq!(by_some, [false, true, false]);
        let found = outcomes(&[("a", fails_on_p1), ("b", fails_on_p1)]);
        assert_eq!(found[1].preference, None);
        let failure = "a: model-first: 503; b: model-first: 503";
        assert_eq!(found[1].failure.as_deref(), Some(failure));
    }
}
