//! A verdict as the last line of prose: `Verdict: A`, `Verdict: B` or `Verdict: tie`.

use super::Choice;
use crate::problem::{Problem, ProblemKind, quoted};
use crate::refusal::refuses;

/// The choice of a line that is a verdict and nothing else. Case does not matter; asterisks of emphasis and a full stop at
/// the end are let pass.
pub fn choice(line: &str) -> Option<Choice> {
    let plain = line.replace('*', "");
    let (label, name) = plain.trim().split_once(':')?;
    let name = name.trim();
    let name = name.strip_suffix('.').unwrap_or(name);
    let named = |choice: &Choice| choice.name().eq_ignore_ascii_case(name);
    label
        .trim_end()
        .eq_ignore_ascii_case("verdict")
        .then(|| Choice::ALL.into_iter().find(named))
        .flatten()
}

/// A choice and what stands in front of it; `None` for a refusal in prose. An earlier verdict that differs is a problem.
pub(super) fn read(answer: &str) -> Result<Option<(Choice, String)>, Problem> {
    let answer = answer.trim();
    let (before, last) = answer.rsplit_once('\n').unwrap_or(("", answer));
    let Some(chosen) = choice(last) else {
        if refuses(answer) {
            return Ok(None);
        }
        return Err(Problem::new(
            ProblemKind::NoVerdict,
            format!("the last line is {} and no verdict", quoted(last)),
            "The last line of your answer is no verdict. It must be \"Verdict: A\", \"Verdict: B\" or \"Verdict: tie\" and nothing else.",
        ));
    };
    if let Some(other) = before
        .lines()
        .filter_map(choice)
        .find(|other| *other != chosen)
    {
        return Err(Problem::new(
            ProblemKind::TwoVerdicts,
            format!("two verdicts, {} and {}", other.name(), chosen.name()),
            "You gave two verdicts that differ. Give one, as the last line.",
        ));
    }
    Ok(Some((chosen, before.trim().to_owned())))
}

pub(super) fn answer(choice: Choice, reason: &str) -> String {
    format!("{reason}\nVerdict: {}", choice.name())
}
