//! Is an edit minimal? Figures about an edit, and what of them is over a limit.
//!
//! The host has the last word, on tokens (`alignment.max_changed`); the checks here work on text, need no tokenizer, and
//! come early enough that the model can be told and asked again. Each finding has the figure, the limit and a sentence for
//! the model.
//!
//! Words are those of Unicode's UAX #29, punctuation marks among them; a Chinese or Japanese character is a word of its own.
//! White space is none. Words are aligned by a shortest edit script ([`difference`]).

use std::fmt;

use finegrain_sdk::serde::{Deserialize, Serialize};

pub use limits::Limits;

pub mod commentary;
pub mod difference;
pub mod limits;
pub mod script;
mod sentences;
pub mod typography;

use difference::Difference;

/// A check, by the option that switches it or holds its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(crate = "finegrain_sdk::serde", rename_all = "kebab-case")]
pub enum Check {
    /// Too many words changed: `max_changed_words`.
    ChangedWords,
    /// Too many characters changed: `max_changed_characters`.
    ChangedCharacters,
    /// Too little of the response is left, an answer instead of an edit: `min_kept_words`.
    KeptWords,
    /// Too long: `max_length_ratio`.
    Longer,
    /// Too short: `min_length_ratio`.
    Shorter,
    /// Another script: `max_script_change`.
    Script,
    /// Nothing but quotes, dashes, ellipses and kinds of white space changed: `allow_noise_only`.
    NoiseOnly,
    /// A comment on the edit in the response: `allow_commentary`.
    Commentary,
    /// All of it in a code fence or in quotes: `allow_wrapping`.
    Wrapping,
    /// White space at the ends, or line ends, changed: `allow_white_space`.
    WhiteSpace,
    /// The prompt was copied into it: `allow_prompt_echo`.
    PromptEcho,
}

impl Check {
    /// The name under which findings of this check are counted.
    pub fn name(self) -> &'static str {
        match self {
            Self::ChangedWords => "changed-words",
            Self::ChangedCharacters => "changed-characters",
            Self::KeptWords => "kept-words",
            Self::Longer => "longer",
            Self::Shorter => "shorter",
            Self::Script => "script",
            Self::NoiseOnly => "noise-only",
            Self::Commentary => "commentary",
            Self::Wrapping => "wrapping",
            Self::WhiteSpace => "white-space",
            Self::PromptEcho => "prompt-echo",
        }
    }
}

/// A check that an edit did not pass.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(crate = "finegrain_sdk::serde")]
pub struct Finding {
    /// Which check.
    pub check: Check,
    /// What was found; 1 or a count where the check has no figure of its own.
    pub figure: f64,
    /// What is allowed; 0 where the check is a switch.
    pub limit: f64,
    /// What to tell the model: one or more sentences.
    pub sentence: String,
}

impl fmt::Display for Finding {
    /// For people: the check, the figure and the limit.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { figure, limit, .. } = self;
        write!(f, "{}", self.check.name())?;
        match self.check {
            Check::ChangedWords
            | Check::ChangedCharacters
            | Check::KeptWords
            | Check::Longer
            | Check::Shorter
            | Check::Script => write!(f, " {figure:.3} (limit {limit})"),
            _ => Ok(()),
        }
    }
}

/// Figures about an edit.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(crate = "finegrain_sdk::serde")]
pub struct Figures {
    /// Words of the response and of the edit.
    pub words: [usize; 2],
    /// The share of words of both sides that differ, in [0, 1], as the host counts tokens: (2 · substitutions + insertions +
    /// deletions) / words of both sides; 0 where there are none.
    pub changed_words: f64,
    /// The share of characters of words of both sides that differ, in [0, 1]: characters of words that were inserted or
    /// deleted, and where words stand against words, those that differ between them.
    pub changed_characters: f64,
    /// The share of the response's words that are left in the edit, in [0, 1]; 1 where it has none.
    pub kept_words: f64,
    /// Words that the edit touches: of each stretch, those of the longer side.
    pub touched_words: usize,
    /// Characters of the edit per character of the response; `None` where the response is empty.
    pub length_ratio: Option<f64>,
    /// Half the sum over scripts of the difference between their shares of the letters, in [0, 1]; 0 where a side has no
    /// letters.
    pub script_change: f64,
    /// Stretches of words that were changed.
    pub stretches: usize,
    /// Stretches that changed only in typography.
    pub noise: usize,
    /// Gaps between words that both sides have, in which the white space changed.
    pub gaps: usize,
}

/// What was found out about an edit.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(crate = "finegrain_sdk::serde")]
pub struct Examination {
    /// The figures.
    pub figures: Figures,
    /// The checks that it did not pass, in the order of [`Check`]; empty for a minimal edit.
    pub findings: Vec<Finding>,
}

/// Figures and findings of an edit that differs from the response.
///
/// An edit that touches at most `limits.free_words` words passes the checks of size and script: a one-word answer is
/// corrected by changing all of it. Takes any texts; the work grows with their length, not with its square
/// ([`difference`] says how).
pub fn examine(prompt: &str, response: &str, edited: &str, limits: &Limits) -> Examination {
    let figures = figures(response, edited);
    let mut findings = Vec::new();
    let mut find = |check, figure, limit| {
        findings.push(Finding {
            check,
            figure,
            limit,
            sentence: sentences::of(check, figure, limit),
        });
    };
    if figures.touched_words > limits.free_words as usize {
        let most = [
            (
                Check::ChangedWords,
                figures.changed_words,
                limits.max_changed_words,
            ),
            (
                Check::ChangedCharacters,
                figures.changed_characters,
                limits.max_changed_characters,
            ),
        ];
        for (check, figure, limit) in most {
            if figure > limit {
                find(check, figure, limit);
            }
        }
        if figures.kept_words < limits.min_kept_words {
            find(Check::KeptWords, figures.kept_words, limits.min_kept_words);
        }
        if let Some(ratio) = figures.length_ratio {
            if ratio > limits.max_length_ratio {
                find(Check::Longer, ratio, limits.max_length_ratio);
            }
            if ratio < limits.min_length_ratio {
                find(Check::Shorter, ratio, limits.min_length_ratio);
            }
        }
        if figures.script_change > limits.max_script_change {
            find(
                Check::Script,
                figures.script_change,
                limits.max_script_change,
            );
        }
    }
    let same = |text: &str| typography::plain(text);
    let noise = figures.noise == figures.stretches && same(response) == same(edited);
    let switches = [
        (Check::NoiseOnly, limits.allow_noise_only, noise),
        (
            Check::Commentary,
            limits.allow_commentary,
            commentary::found(response, edited),
        ),
        (
            Check::Wrapping,
            limits.allow_wrapping,
            commentary::wrapped(response, edited),
        ),
        (
            Check::WhiteSpace,
            limits.allow_white_space,
            typography::ends_differ(response, edited),
        ),
        (
            Check::PromptEcho,
            limits.allow_prompt_echo,
            echoes(prompt, response, edited),
        ),
    ];
    for (check, allowed, found) in switches {
        if found && !allowed {
            find(check, 1.0, 0.0);
        }
    }
    Examination { figures, findings }
}

fn figures(response: &str, edited: &str) -> Figures {
    let difference = Difference::of(response, edited);
    let (old, new) = (difference.old.len(), difference.new.len());
    let share = |part: usize, whole: usize, of_nothing: f64| match whole {
        0 => of_nothing,
        whole => part as f64 / whole as f64,
    };
    let characters = response.chars().count();
    let stretches = || difference.stretches();
    Figures {
        words: [old, new],
        changed_words: share(
            stretches().map(|s| s.old.len() + s.new.len()).sum(),
            old + new,
            0.0,
        ),
        changed_characters: difference.changed_characters(),
        kept_words: share(
            old - stretches().map(|s| s.old.len()).sum::<usize>(),
            old,
            1.0,
        ),
        touched_words: stretches().map(|s| s.old.len().max(s.new.len())).sum(),
        length_ratio: (characters > 0).then(|| share(edited.chars().count(), characters, 0.0)),
        script_change: script::change(response, edited),
        stretches: stretches().count(),
        noise: stretches()
            .filter(|s| {
                typography::plain(difference.old_text(s))
                    == typography::plain(difference.new_text(s))
            })
            .count(),
        gaps: difference.gaps(),
    }
}

/// Whether the edit holds a prompt of some length that the response does not hold.
fn echoes(prompt: &str, response: &str, edited: &str) -> bool {
    /// Shorter prompts may stand in a response by chance.
    const SHORTEST: usize = 20;
    let prompt = prompt.trim();
    prompt.chars().nth(SHORTEST - 1).is_some()
        && edited.contains(prompt)
        && !response.contains(prompt)
}

#[cfg(test)]
mod tests;
