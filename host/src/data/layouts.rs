//! How rows of public and private files are laid out, and what each layout says: a prompt and its responses.
//!
//! | layout | keys |
//! |---|---|
//! | `trl` | `prompt`, `chosen`, `rejected`, `completion`, `messages`: texts or lists of turns, the prompt explicit or implicit |
//! | `hh-rlhf` | `chosen`, `rejected`: transcripts, whose last answer is the response |
//! | `ultrafeedback` | `instruction`, `completions` with `response` and `overall_score` |
//! | `alpaca-farm` | `instruction`, `input`, `output`; `output_1`, `output_2`, `preference` |
//! | `fields` | those that the configuration names |

mod alpaca_farm;
mod common_prompt;
mod detect;
mod hh_rlhf;
mod mapped;
mod preference;
mod trl;
mod ultrafeedback;

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(super) use common_prompt::cut_prompt;

use crate::data::config::FileConfig;
use crate::data::jsonl::kind;
use crate::data::records::SetAsideReason;
use crate::data::rows::Rows;
use crate::data::turns;
use crate::error::{Error, Result};

/// How rows are laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// Told by the keys of the first row.
    #[default]
    Auto,
    /// As the fields say that the configuration names.
    Fields,
    /// TRL's formats, standard and conversational, which most public sets have.
    Trl,
    /// Anthropic's transcripts of `Human:` and `Assistant:`.
    HhRlhf,
    /// UltraFeedback as published: several scored completions.
    Ultrafeedback,
    /// AlpacaFarm's: instruction, input, outputs.
    AlpacaFarm,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Fields => "fields",
            Self::Trl => "trl",
            Self::HhRlhf => "hh-rlhf",
            Self::Ultrafeedback => "ultrafeedback",
            Self::AlpacaFarm => "alpaca-farm",
        })
    }
}

/// What is asked of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A prompt.
    Prompt,
    /// A prompt with a response to it.
    Response,
    /// A prompt, and a response where there is one.
    Reference,
    /// A prompt with two responses, one of them preferred.
    Pair,
}

/// What a row says. The response is the preferred one of a pair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Example {
    pub(super) prompt: String,
    pub(super) response: Option<String>,
    pub(super) rejected: Option<String>,
}

impl Example {
    fn of_prompt(prompt: impl Into<String>) -> Self {
        Self {
            prompt: prompt.into(),
            ..Self::default()
        }
    }

    fn with_response(mut self, response: impl Into<String>) -> Self {
        self.response = Some(response.into());
        self
    }

    fn with_rejected(mut self, rejected: impl Into<String>) -> Self {
        self.rejected = Some(rejected.into());
        self
    }
}

/// Why a row is not used.
pub(super) type Refusal = (SetAsideReason, String);

/// What a row says, or why it says nothing.
pub(super) type Reading = Result<Example, Refusal>;

/// The layout of rows: the one that is named or, where that is `auto`, the one that the keys of the first row tell.
///
/// # Errors
/// Keys that no layout has.
pub(super) fn of_rows(named: Layout, rows: &Rows, wanted: Wanted) -> Result<Layout> {
    match (named, rows.rows.first()) {
        (Layout::Auto, Some(first)) => detect::detect(&first.values, wanted).map_err(|found| {
            Error::input(format!("{}: {found}", rows.place(first)))
                .hint("docs/data.md has the layouts, and how fields are named")
        }),
        // Without a row that can be read, the layout decides nothing.
        (named, _) => Ok(named),
    }
}

/// What stands around rows: the fields of layout `fields`, and what prompts may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    pub(super) fields: &'a FileConfig,
    pub(super) layout: Layout,
    pub(super) wanted: Wanted,
    /// Whether the template of prompts takes several turns.
    pub(super) several_turns: bool,
}

impl Reader<'_> {
    /// What a row says, checked: no text is empty, responses differ, and it is not too long.
    pub(super) fn read(&self, row: &Value) -> Reading {
        let read = match self.layout {
            // Detected before rows are read.
            Layout::Auto | Layout::Fields => mapped::read,
            Layout::Trl => trl::read,
            Layout::HhRlhf => hh_rlhf::read,
            Layout::Ultrafeedback => ultrafeedback::read,
            Layout::AlpacaFarm => alpaca_farm::read,
        };
        let example = read(self, row)?;
        let names = match self.wanted {
            Wanted::Pair => ["chosen", "rejected"],
            _ => ["", ""],
        };
        let responses = [&example.response, &example.rejected];
        let responses = names
            .into_iter()
            .zip(responses)
            .filter_map(|(name, text)| Some((name, text.as_deref()?)));
        check(
            &example.prompt,
            &responses.collect::<Vec<_>>(),
            self.fields.max_words,
        )?;
        if !self.several_turns && turns::are_several(&example.prompt) {
            return Err((
                SetAsideReason::MoreTurns,
                "the prompt has several turns, which prompt_template = \"chat\" alone takes"
                    .to_owned(),
            ));
        }
        Ok(example)
    }
}

/// Refuses what is no use to any stage: an empty prompt, an empty response, equal responses, too many words. Responses come with
/// the words that tell them apart.
pub(super) fn check(
    prompt: &str,
    responses: &[(&str, &str)],
    max_words: Option<usize>,
) -> Result<(), Refusal> {
    let words = |text: &str| text.split_whitespace().count();
    if words(prompt) == 0 {
        return Err((
            SetAsideReason::EmptyPrompt,
            "the prompt is empty".to_owned(),
        ));
    }
    for (name, response) in responses {
        if words(response) == 0 {
            let name = if name.is_empty() {
                String::new()
            } else {
                format!("{name} ")
            };
            let detail = format!("the {name}response is empty");
            return Err((SetAsideReason::EmptyResponse, detail));
        }
    }
    if let [(_, one), (_, other)] = responses
        && one == other
    {
        return Err((
            SetAsideReason::Identical,
            "both responses are the same".to_owned(),
        ));
    }
    let longest = words(prompt)
        + responses
            .iter()
            .map(|(_, text)| words(text))
            .max()
            .unwrap_or(0);
    match max_words.filter(|&limit| longest > limit) {
        Some(limit) => Err((
            SetAsideReason::TooLong,
            format!("{longest} words, limit {limit}"),
        )),
        None => Ok(()),
    }
}

fn missing(detail: impl Into<String>) -> Refusal {
    (SetAsideReason::MissingField, detail.into())
}

/// The text under a key.
fn text<'a>(row: &'a Value, key: &str) -> Result<&'a str, Refusal> {
    match row.get(key) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(missing(format!("`{key}` is {}, not a text", kind(other)))),
        None => Err(missing(format!("no key `{key}`"))),
    }
}

/// The text under a key; `None` where the key is absent or null.
fn optional_text<'a>(row: &'a Value, key: &str) -> Result<Option<&'a str>, Refusal> {
    match row.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(_) => text(row, key).map(Some),
    }
}

#[cfg(test)]
mod tests;
