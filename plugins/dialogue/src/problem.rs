//! An answer that cannot be used: why, and what to tell the model.

use std::fmt;

use finegrain_sdk::serde::{Deserialize, Serialize};

/// What is wrong with an answer; counts go by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(crate = "finegrain_sdk::serde", rename_all = "kebab-case")]
pub enum ProblemKind {
    /// Nothing, or nothing but white space.
    Empty,
    /// Thoughts that do not end.
    Thoughts,
    /// The marks around the edited response are missing, or are not there exactly once.
    Marks,
    /// Words of the question around the prompt and the response stand in the edited response.
    QuestionEcho,
    /// It is not the JSON that was asked for.
    Json,
    /// It says both that the response stays as it is and how it changes.
    Contradiction,
    /// A text to be found does not stand in the response.
    NotFound,
    /// A text to be found stands in the response more than once.
    Ambiguous,
    /// Two replacements touch the same characters.
    Overlap,
    /// It is an edit, and not a minimal one.
    NotMinimal,
    /// It has no verdict where the verdict must stand.
    NoVerdict,
    /// It has verdicts that differ.
    TwoVerdicts,
}

impl ProblemKind {
    /// The name under which problems of this kind are counted.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Thoughts => "thoughts",
            Self::Marks => "marks",
            Self::QuestionEcho => "question-echo",
            Self::Json => "json",
            Self::Contradiction => "contradiction",
            Self::NotFound => "not-found",
            Self::Ambiguous => "ambiguous",
            Self::Overlap => "overlap",
            Self::NotMinimal => "not-minimal",
            Self::NoVerdict => "no-verdict",
            Self::TwoVerdicts => "two-verdicts",
        }
    }
}

/// Why an answer cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(crate = "finegrain_sdk::serde")]
pub struct Problem {
    /// What is wrong.
    pub kind: ProblemKind,
    /// For people: one sentence fragment in lower case, without a full stop.
    pub reason: String,
    /// For the model, in a second try: whole sentences, at least one.
    pub tell: Vec<String>,
}

impl Problem {
    /// A problem of a kind, with its reason and the one sentence for the model.
    pub(crate) fn new(
        kind: ProblemKind,
        reason: impl Into<String>,
        tell: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            reason: reason.into(),
            tell: vec![tell.into()],
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.name(), self.reason)
    }
}

/// The beginning of a text in quotes, for messages: at most 60 characters, control characters escaped.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN: usize = 60;
    let short: String = text.chars().take(SHOWN).collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    format!("{short:?}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use finegrain_sdk::serde_json::to_value;

    #[test]
    fn a_problem_is_counted_under_the_name_it_is_written_with() {
        for kind in [
            ProblemKind::Empty,
            ProblemKind::NotFound,
            ProblemKind::TwoVerdicts,
        ] {
            assert_eq!(to_value(kind).unwrap(), kind.name());
        }
    }

    #[test]
    fn long_texts_are_shown_by_their_beginning() {
        assert_eq!(quoted("a\nb"), r#""a\nb""#);
        let text = quoted(&"é".repeat(61));
        assert!(
            text.ends_with("\"…") && text.chars().count() == 63,
            "{text}"
        );
    }
}
