//! What an edit may change at most, as options.

use finegrain_sdk::schemars::JsonSchema;
use finegrain_sdk::serde::{Deserialize, Serialize};

/// Limits of an edit. docs/editing-prompts.md gives the reasons for the defaults.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(crate = "finegrain_sdk::serde", deny_unknown_fields, default)]
#[schemars(crate = "finegrain_sdk::schemars")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent switches, each a key of its own"
)]
pub struct Limits {
    /// An edit that touches at most this many words passes the checks of size and script, whatever its shares are.
    #[schemars(range(min = 0, max = 100))]
    pub free_words: u32,
    /// The largest share of words of both sides that may differ.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub max_changed_words: f64,
    /// The largest share of characters of both sides that may differ.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub max_changed_characters: f64,
    /// The smallest share of the response's words that must be left; an edit with less is an answer of its own.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_kept_words: f64,
    /// The largest length of an edit, in lengths of the response.
    #[schemars(range(min = 1.0, max = 100.0))]
    pub max_length_ratio: f64,
    /// The smallest length of an edit, in lengths of the response.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_length_ratio: f64,
    /// The largest share of letters that may go over to other scripts (Latin, Cyrillic, Han, …).
    #[schemars(range(min = 0.0, max = 1.0))]
    pub max_script_change: f64,
    /// Whether an edit may change nothing but quotes, dashes, ellipses and kinds of white space.
    pub allow_noise_only: bool,
    /// Whether an edit may hold a comment on itself.
    pub allow_commentary: bool,
    /// Whether an edit may put the whole response into a code fence or quotes.
    pub allow_wrapping: bool,
    /// Whether an edit may change white space at the ends of the response, or its line ends. With `restore_white_space`
    /// nothing is left to be found.
    pub allow_white_space: bool,
    /// Whether an edit may copy the prompt into the response.
    pub allow_prompt_echo: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            free_words: 4,
            max_changed_words: 0.4,
            max_changed_characters: 0.4,
            min_kept_words: 0.5,
            max_length_ratio: 1.5,
            min_length_ratio: 0.5,
            max_script_change: 0.2,
            allow_noise_only: false,
            allow_commentary: false,
            allow_wrapping: false,
            allow_white_space: false,
            allow_prompt_echo: false,
        }
    }
}
