//! Which fields of which file hold the original, the edit and the prompt.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fields::FieldPath;
use super::splits::SplitFractions;
use crate::error::{Error, Result};

/// Which edits of a row are used where it has several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WhichEdits {
    /// The first: every original once.
    #[default]
    First,
    /// All of them, a pair each; the pairs of a row stay in one split.
    All,
}

/// A JSONL file of edit pairs. Fields are dotted paths: `original.hypothesis`, `edited.0.hypothesis`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EditPairsConfig {
    /// The file; a relative path is meant from the configuration file's folder.
    pub path: PathBuf,
    /// The response before the edit.
    pub original_field: FieldPath,
    /// The response after the edit: a text or a list of texts.
    pub edited_field: FieldPath,
    /// The prompt. Without it, `prompt_words` is needed; where both are set, it is taken from here.
    #[serde(default)]
    pub prompt_field: Option<FieldPath>,
    /// Without a prompt field, the prompt is what original and edit have in common at their beginning, up to this many
    /// words; the responses are the rest, white space in front included.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub prompt_words: Option<usize>,
    /// The id, a text or a number; without it, the number of the line.
    #[serde(default)]
    pub id_field: Option<FieldPath>,
    /// Rows with the same value here stay in one split (the prompt, where prompts repeat); without it, every row is
    /// split by its id.
    #[serde(default)]
    pub group_field: Option<FieldPath>,
    /// Which edits of a row are used where it has several.
    #[serde(default)]
    pub edits: WhichEdits,
    /// Read no more rows than this, from the top.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub max_rows: Option<usize>,
    /// Set aside what has more words in prompt and longer response together.
    #[serde(default)]
    #[schemars(range(min = 2))]
    pub max_words: Option<usize>,
    /// What share of the rows each split gets.
    #[serde(default)]
    pub splits: SplitFractions,
}

impl EditPairsConfig {
    /// Refuses a configuration that does not say where the prompt is, and fractions that are none.
    pub fn validate(&self) -> Result<()> {
        match (&self.prompt_field, self.prompt_words) {
            (_, Some(0)) => {
                return Err(Error::input("prompt_words is 0; accepted: at least 1"));
            }
            // Both: a field that is named over a configuration with prompt_words comes first, because no flag unsets a key.
            (Some(_), _) | (None, Some(_)) => {}
            (None, None) => {
                return Err(Error::input(
                    "neither prompt_field nor prompt_words is set; accepted: one of them",
                )
                .hint(
                    "prompt_words = 4 takes up to four words that original and edit begin with as the prompt",
                ));
            }
        }
        self.splits.validate()
    }
}
