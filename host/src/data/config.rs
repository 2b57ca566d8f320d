//! The section `[data]`: which files hold what, and under which keys.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fields::FieldPath;
use super::layouts::Layout;
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

/// The user's files. Task `edit-pairs` has one, at `path`; task `preferences` has one to four, in the tables below. What is
/// read: JSONL, JSON, CSV, TSV, Parquet, and folders of them (docs/data.md).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// Edit pairs: the file, the folder, or a data set of the hub (`hf://datasets/ORG/NAME/FILE`); a relative path is meant from
    /// the configuration file's folder.
    pub path: PathBuf,
    /// Edit pairs: how rows are laid out; `auto` is `fields` where `original_field` or `edited_field` is set. With another
    /// layout than `fields`, whatever fields are set, the rejected response is the original and the chosen one its edit.
    pub layout: Layout,
    /// Edit pairs: the response before the edit.
    pub original_field: Option<FieldPath>,
    /// Edit pairs: the response after the edit, a text or a list of texts.
    pub edited_field: Option<FieldPath>,
    /// Edit pairs: the prompt. Without it, `prompt_words` is needed; where both are set, it is taken from here.
    pub prompt_field: Option<FieldPath>,
    /// Edit pairs: without a prompt field, the prompt is what original and edit have in common at their beginning, up to this
    /// many words; the responses are the rest, white space in front included.
    #[schemars(range(min = 1))]
    pub prompt_words: Option<usize>,
    /// Edit pairs: the id, a text or a number; without it, the number of the line.
    pub id_field: Option<FieldPath>,
    /// Rows with the same value here stay in one split. Without it, edit pairs in fields are split by their ids; those of a
    /// layout, and preferences, by their prompts.
    pub group_field: Option<FieldPath>,
    /// Edit pairs: which edits of a row are used where it has several.
    pub edits: WhichEdits,
    /// Edit pairs: read no more rows than this, from the top.
    #[schemars(range(min = 1))]
    pub max_rows: Option<usize>,
    /// Edit pairs: set aside what has more words in prompt and longer response together.
    #[schemars(range(min = 2))]
    pub max_words: Option<usize>,
    /// What share of the rows each split gets; for preferences, of those in `data.preferences`. The share of a split that has
    /// a file of its own goes to `reward`.
    pub splits: SplitFractions,
    /// Preferences: what SFT imitates. Without a file, the chosen responses of `splits.sft` of the preferences.
    pub demonstrations: FileConfig,
    /// Preferences: pairs of responses, one of them preferred. The one file that has to be there.
    pub preferences: FileConfig,
    /// Preferences: the prompts of PPO. Without a file, those of `splits.ppo` of the preferences.
    pub prompts: FileConfig,
    /// Preferences: the prompts of the final evaluation, with a reference model's outputs, which the policy's are compared
    /// with; without outputs, the SFT model's are. Without a file, the prompts of `splits.eval` of the preferences.
    pub evaluation: FileConfig,
}

/// A file or a folder of rows, and the mapping of their keys.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FileConfig {
    /// The file, the folder, or a data set of the hub (`hf://datasets/ORG/NAME/FILE`); none where it is empty. A relative path is
    /// meant from the configuration file's folder.
    pub path: PathBuf,
    /// How rows are laid out; `auto` goes by the keys of the first row, or is `fields` where one of the fields below is set.
    pub layout: Layout,
    /// Layout `fields`: the prompt; `prompt` where nothing is set.
    pub prompt_field: Option<FieldPath>,
    /// Layout `fields`: what the prompt is about, put behind it as Alpaca's input; may be empty in a row.
    pub input_field: Option<FieldPath>,
    /// Layout `fields`: the response, or the reference model's output; `response` where nothing is set.
    pub response_field: Option<FieldPath>,
    /// Layout `fields`: the preferred response; `chosen` where nothing is set.
    pub chosen_field: Option<FieldPath>,
    /// Layout `fields`: the other response; `rejected` where nothing is set.
    pub rejected_field: Option<FieldPath>,
    /// Layout `fields`, where rows hold two responses and a preference instead: the first of them.
    pub first_field: Option<FieldPath>,
    /// Layout `fields`: the second of them.
    pub second_field: Option<FieldPath>,
    /// Layout `fields`: which of them is preferred: 1 or 2; in between, whichever is nearer, and 1.5, like 0, is a tie.
    pub preference_field: Option<FieldPath>,
    /// The id, a text or a number; without it, the number of the row.
    pub id_field: Option<FieldPath>,
    /// Read no more rows than this, from the top.
    #[schemars(range(min = 1))]
    pub max_rows: Option<usize>,
    /// Set aside what has more words in prompt and longer response together.
    #[schemars(range(min = 1))]
    pub max_words: Option<usize>,
    /// Who wrote the responses, for tables: the reference model's name, in `data.evaluation`.
    pub title: String,
}

impl FileConfig {
    /// Whether there is such a file.
    pub fn is_there(&self) -> bool {
        !self.path.as_os_str().is_empty()
    }

    /// Whether a field of rows is named, so that rows are laid out as the fields say.
    pub fn names_fields(&self) -> bool {
        let fields = [
            &self.prompt_field,
            &self.input_field,
            &self.response_field,
            &self.chosen_field,
            &self.rejected_field,
            &self.first_field,
            &self.second_field,
            &self.preference_field,
        ];
        fields.iter().any(|field| field.is_some())
    }

    /// What rows mean, without where they lie and what they are called.
    #[must_use]
    pub fn mapping(&self) -> Self {
        Self {
            path: PathBuf::new(),
            title: String::new(),
            ..self.clone()
        }
    }
}

impl DataConfig {
    /// The four files of preferences, by the names of their tables.
    pub fn files(&self) -> [(&'static str, &FileConfig); 4] {
        [
            ("demonstrations", &self.demonstrations),
            ("preferences", &self.preferences),
            ("prompts", &self.prompts),
            ("evaluation", &self.evaluation),
        ]
    }

    /// Whether edit pairs lie in fields that are named, rather than in a layout with keys of its own.
    pub fn edits_are_fields(&self) -> bool {
        match self.layout {
            Layout::Auto => self.original_field.is_some() || self.edited_field.is_some(),
            layout => layout == Layout::Fields,
        }
    }

    /// Refuses what does not say where edit pairs are.
    ///
    /// # Errors
    /// No file, no fields, no prompt, or shares that are none.
    pub fn check_edit_pairs(&self) -> Result<()> {
        if self.path.as_os_str().is_empty() {
            return Err(Error::input("data.path: no file of edit pairs is named")
                .hint("--set data.path=FILE.jsonl"));
        }
        if self.edits_are_fields() {
            for (key, field) in [
                ("original_field", &self.original_field),
                ("edited_field", &self.edited_field),
            ] {
                if field.is_none() {
                    return Err(Error::input(format!(
                        "data.{key} is not set; accepted: the key of the response {}, or a data.layout",
                        if key == "original_field" {
                            "before the edit"
                        } else {
                            "after it"
                        }
                    )));
                }
            }
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
        }
        self.splits.validate()
    }

    /// Refuses what does not say where preferences are.
    ///
    /// # Errors
    /// No file, fields beside a layout that has its own, ranges, or shares that are none.
    pub fn check_preferences(&self) -> Result<()> {
        if !self.preferences.is_there() {
            return Err(
                Error::input("data.preferences.path: no file of preferences is named")
                    .hint("--set data.preferences.path=FILE; configs/preferences/base.toml says what else there is"),
            );
        }
        if self.path != Path::new("") {
            return Err(Error::input(
                "data.path: task \"preferences\" has its files in data.preferences and its neighbours; data.path is \
                 task \"edit-pairs\"'s",
            ));
        }
        for (name, file) in self.files() {
            if file.names_fields() && !matches!(file.layout, Layout::Auto | Layout::Fields) {
                return Err(Error::input(format!(
                    "data.{name}.layout: {} has its own keys, and fields are named beside it; accepted: one of both",
                    file.layout
                )));
            }
            if file.max_rows == Some(0) {
                return Err(Error::input(format!(
                    "data.{name}.max_rows is 0; accepted: at least 1"
                )));
            }
        }
        self.splits.validate()
    }
}
