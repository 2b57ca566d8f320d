//! The records that files hold between stages, one JSON object a line.

use std::collections::BTreeMap;

use finegrain_sdk::kinds::{EditOutcome, Origin};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A record of a JSONL file.
pub trait Record: Serialize + DeserializeOwned {
    /// What it is, with its article, for messages.
    const KIND: &'static str;

    /// The fields that a line must have.
    const REQUIRED: &'static [&'static str];

    /// A name that is unique in its file.
    fn id(&self) -> &str;

    /// The texts that must not be blank, by field.
    fn texts(&self) -> Vec<(&'static str, &str)>;
}

/// A prompt with a response that SFT imitates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demonstration {
    /// A name that is unique in its file.
    pub id: String,
    /// The prompt, before the template.
    pub prompt: String,
    /// The response.
    pub response: String,
}

impl Record for Demonstration {
    const KIND: &'static str = "a demonstration";
    const REQUIRED: &'static [&'static str] = &["id", "prompt", "response"];

    fn id(&self) -> &str {
        &self.id
    }

    fn texts(&self) -> Vec<(&'static str, &str)> {
        vec![("prompt", &self.prompt), ("response", &self.response)]
    }
}

/// A prompt to be answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptRecord {
    /// A name that is unique in its file.
    pub id: String,
    /// The prompt, before the template.
    pub prompt: String,
}

impl Record for PromptRecord {
    const KIND: &'static str = "a prompt";
    const REQUIRED: &'static [&'static str] = &["id", "prompt"];

    fn id(&self) -> &str {
        &self.id
    }

    fn texts(&self) -> Vec<(&'static str, &str)> {
        vec![("prompt", &self.prompt)]
    }
}

/// Where a pair comes from.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum PairSource {
    /// Two responses of the model to the same prompt, ranked by an annotator.
    Pairs,
    /// An edited response (chosen) and its original (rejected).
    Edits,
}

impl std::fmt::Display for PairSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Pairs => "pairs",
            Self::Edits => "edits",
        })
    }
}

/// Two responses to a prompt, one of them preferred.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// A name that is unique in its file.
    pub id: String,
    /// The prompt, before the template.
    pub prompt: String,
    /// The preferred response.
    pub chosen: String,
    /// The other response.
    pub rejected: String,
    /// Whether the preferred response ends with EOS, rather than at a length limit.
    #[serde(default = "yes")]
    pub chosen_ended: bool,
    /// Whether the other response ends with EOS.
    #[serde(default = "yes")]
    pub rejected_ended: bool,
    /// Whether label noise turned the annotator's preference round.
    #[serde(default)]
    pub flipped: bool,
    /// Where the pair comes from.
    pub source: PairSource,
    /// The ids of both responses where both were sampled: their texts may encode to other ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampled: Option<SampledIds>,
}

/// The ids of a pair's responses as they were sampled, EOS included where they ended. Other special tokens are left out, as in
/// their texts: the texts were ranked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampledIds {
    /// Of the preferred response.
    pub chosen: Vec<u32>,
    /// Of the other response.
    pub rejected: Vec<u32>,
}

/// Responses of people and of most files are whole.
fn yes() -> bool {
    true
}

impl Record for Pair {
    const KIND: &'static str = "a pair";
    const REQUIRED: &'static [&'static str] = &["id", "prompt", "chosen", "rejected", "source"];

    fn id(&self) -> &str {
        &self.id
    }

    fn texts(&self) -> Vec<(&'static str, &str)> {
        // A policy may answer nothing at all: its responses may be empty, and still be ranked and edited.
        vec![("prompt", &self.prompt)]
    }
}

/// What came of one request to an editor, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum Outcome {
    /// The edited response, whole.
    Edited {
        /// Its text.
        response: String,
    },
    /// The response needs no edit.
    Unchanged,
    /// The editor declined.
    Refused {
        /// Its reason.
        reason: String,
    },
    /// The editor tried and failed.
    Failed {
        /// The error.
        error: String,
    },
    /// The editor has an answer that cannot be used as a minimal edit.
    Rejected {
        /// Why not.
        reason: String,
    },
}

impl From<EditOutcome> for Outcome {
    fn from(outcome: EditOutcome) -> Self {
        match outcome {
            EditOutcome::Edited(response) => Self::Edited { response },
            EditOutcome::Unchanged => Self::Unchanged,
            EditOutcome::Refused(reason) => Self::Refused { reason },
            EditOutcome::Failed(error) => Self::Failed { error },
            EditOutcome::Rejected(reason) => Self::Rejected { reason },
        }
    }
}

/// A response and what an editor made of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EditRecord {
    /// The id of what was edited.
    pub id: String,
    /// The prompt, before the template.
    pub prompt: String,
    /// The response as it was.
    pub original: String,
    /// What came of it.
    pub outcome: Outcome,
    /// Where the outcome came from, where the editor says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

impl Record for EditRecord {
    const KIND: &'static str = "an edit";
    const REQUIRED: &'static [&'static str] = &["id", "prompt", "original", "outcome"];

    fn id(&self) -> &str {
        &self.id
    }

    fn texts(&self) -> Vec<(&'static str, &str)> {
        vec![("prompt", &self.prompt)]
    }
}

impl EditRecord {
    /// The pair (edited, original), where there is an edit.
    pub fn pair(&self) -> Option<Pair> {
        let Outcome::Edited { response } = &self.outcome else {
            return None;
        };
        Some(Pair {
            id: self.id.clone(),
            prompt: self.prompt.clone(),
            chosen: response.clone(),
            rejected: self.original.clone(),
            chosen_ended: true,
            rejected_ended: true,
            flipped: false,
            source: PairSource::Edits,
            sampled: None,
        })
    }
}

/// Why a row is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SetAsideReason {
    /// The row stands in its file in a way that cannot be read.
    Unreadable,
    /// A field is not there, or not a text.
    MissingField,
    /// A conversation has turns that the mapping or the template does not take.
    MoreTurns,
    /// Two conversations differ before their last turns: they are no two responses to one prompt.
    PartsEarlier,
    /// Neither response is preferred.
    Tie,
    /// There is no prompt.
    EmptyPrompt,
    /// There is no response on one side.
    EmptyResponse,
    /// More words or tokens than the limit.
    TooLong,
    /// A text holds the name of a special token that the tokenizer cannot read as text.
    SpecialToken,
    /// A text has a token that the model has no embedding for.
    BeyondTheTable,
    /// The edit changed nothing.
    Identical,
    /// The edit changed more than the limit: not an edit any more.
    Rewritten,
    /// The editor declined.
    Refused,
    /// The editor failed.
    Failed,
    /// The editor's answer cannot be used as a minimal edit.
    Rejected,
}

impl SetAsideReason {
    /// Its name, as files write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::MissingField => "missing-field",
            Self::MoreTurns => "more-turns",
            Self::PartsEarlier => "parts-earlier",
            Self::Tie => "tie",
            Self::EmptyPrompt => "empty-prompt",
            Self::EmptyResponse => "empty-response",
            Self::TooLong => "too-long",
            Self::SpecialToken => "special-token",
            Self::BeyondTheTable => "beyond-the-table",
            Self::Identical => "identical",
            Self::Rewritten => "rewritten",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
        }
    }

    /// Whether it is the model that cannot take the row, rather than the row that is none.
    pub fn is_of_model(self) -> bool {
        matches!(self, Self::TooLong | Self::SpecialToken)
    }
}

/// A row that is not used, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAside {
    /// The row's id.
    pub id: String,
    /// Why.
    pub reason: SetAsideReason,
    /// What was found, in words; may be empty.
    #[serde(default)]
    pub detail: String,
}

impl Record for SetAside {
    const KIND: &'static str = "a row set aside";
    const REQUIRED: &'static [&'static str] = &["id", "reason"];

    fn id(&self) -> &str {
        &self.id
    }

    fn texts(&self) -> Vec<(&'static str, &str)> {
        Vec::new()
    }
}

impl SetAside {
    /// A row that is not used.
    pub fn new(id: impl Into<String>, reason: SetAsideReason, detail: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            reason,
            detail: detail.into(),
        }
    }
}

/// How often each reason was met, the most frequent first: `12 identical, 3 refused`.
pub fn counted(set_aside: &[SetAside]) -> String {
    let mut counts: BTreeMap<SetAsideReason, usize> = BTreeMap::new();
    for row in set_aside {
        *counts.entry(row.reason).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    let counts = counts
        .iter()
        .map(|(reason, n)| format!("{n} {}", reason.name()));
    counts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_survives_its_file() {
        for (outcome, json) in [
            (
                EditOutcome::Edited("a b".into()),
                r#"{"kind":"edited","response":"a b"}"#,
            ),
            (EditOutcome::Unchanged, r#"{"kind":"unchanged"}"#),
            (
                EditOutcome::Refused("no".into()),
                r#"{"kind":"refused","reason":"no"}"#,
            ),
            (
                EditOutcome::Failed("late".into()),
                r#"{"kind":"failed","error":"late"}"#,
            ),
            (
                EditOutcome::Rejected("too much".into()),
                r#"{"kind":"rejected","reason":"too much"}"#,
            ),
        ] {
            let stored = Outcome::from(outcome);
            assert_eq!(serde_json::to_string(&stored).unwrap(), json);
            assert_eq!(serde_json::from_str::<Outcome>(json).unwrap(), stored);
        }
    }

    #[test]
    fn only_an_edit_makes_a_pair_and_the_edit_is_preferred() {
        let mut record = EditRecord {
            id: "7".into(),
            prompt: "p".into(),
            original: "old".into(),
            outcome: Outcome::Edited {
                response: "new".into(),
            },
            origin: None,
        };
        let pair = record.pair().unwrap();
        assert_eq!(
            (&*pair.chosen, &*pair.rejected, pair.source),
            ("new", "old", PairSource::Edits)
        );
        record.outcome = Outcome::Unchanged;
        assert_eq!(record.pair(), None);
    }

    #[test]
    fn reasons_are_written_by_their_names() {
        for reason in [
            SetAsideReason::Unreadable,
            SetAsideReason::MissingField,
            SetAsideReason::MoreTurns,
            SetAsideReason::PartsEarlier,
            SetAsideReason::Tie,
            SetAsideReason::EmptyPrompt,
            SetAsideReason::EmptyResponse,
            SetAsideReason::TooLong,
            SetAsideReason::SpecialToken,
            SetAsideReason::Identical,
            SetAsideReason::Rewritten,
            SetAsideReason::Refused,
            SetAsideReason::Failed,
            SetAsideReason::Rejected,
        ] {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.name());
        }
    }
}
