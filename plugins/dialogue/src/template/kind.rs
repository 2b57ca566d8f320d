//! The kinds of templates: the built-in text of each, and what it may ask for.

use minijinja::{Value, context};

/// What a template asks a model for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplateKind {
    /// An edited response as text.
    EditText,
    /// An edited response in JSON.
    EditJson,
    /// Replacements in JSON.
    EditReplacements,
    /// A verdict.
    Judge,
}

impl TemplateKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [
        Self::EditText,
        Self::EditJson,
        Self::EditReplacements,
        Self::Judge,
    ];

    /// The name, which the first line of a file must say.
    pub fn name(self) -> &'static str {
        match self {
            Self::EditText => "edit-text",
            Self::EditJson => "edit-json",
            Self::EditReplacements => "edit-replacements",
            Self::Judge => "judge",
        }
    }

    /// The built-in template, as a file that can be copied and changed.
    pub fn built_in(self) -> &'static str {
        match self {
            Self::EditText => include_str!("../templates/edit-text.jinja"),
            Self::EditJson => include_str!("../templates/edit-json.jinja"),
            Self::EditReplacements => include_str!("../templates/edit-replacements.jinja"),
            Self::Judge => include_str!("../templates/judge.jinja"),
        }
    }

    /// The variables that a template may use:
    ///
    /// * `prompt` and `response`, or `prompt`, `a` and `b`: the texts of the row, as they are;
    /// * `mark`: hexadecimal digits that stand in none of the texts ([`crate::marks`]);
    /// * `complaints`: the sentences about the last answer; empty in the first question;
    /// * edit-text: `open` and `close`, the tags around the edited response, and `unchanged`, the word for "no edit". A
    ///   template that does not use the tags asks for the bare response, and the answer is read so;
    /// * judge: `verdict`, which is `json` or `line`.
    pub fn variables(self) -> &'static [&'static str] {
        match self {
            Self::EditText => &[
                "prompt",
                "response",
                "mark",
                "open",
                "close",
                "unchanged",
                "complaints",
            ],
            Self::EditJson | Self::EditReplacements => {
                &["prompt", "response", "mark", "complaints"]
            }
            Self::Judge => &["prompt", "a", "b", "mark", "verdict", "complaints"],
        }
    }

    /// The variables that a template must use.
    pub fn required(self) -> &'static [&'static str] {
        match self {
            Self::EditText => &["prompt", "response", "unchanged", "complaints"],
            Self::EditJson | Self::EditReplacements => &["prompt", "response", "complaints"],
            Self::Judge => &["prompt", "a", "b", "complaints"],
        }
    }

    /// Rows on which a template is tried when it is loaded: one for every way that the answer can be asked for.
    pub(super) fn samples(self) -> Vec<Value> {
        let complaints = Value::from(vec!["A sentence."]);
        match self {
            Self::EditText => vec![context! {
                prompt => "p", response => "r", mark => "0", open => "<x>", close => "</x>", unchanged => "U", complaints,
            }],
            Self::EditJson | Self::EditReplacements => {
                vec![context! { prompt => "p", response => "r", mark => "0", complaints }]
            }
            Self::Judge => ["json", "line"]
                .map(|verdict| {
                    context! { prompt => "p", a => "a", b => "b", mark => "0", verdict, complaints => complaints.clone() }
                })
                .to_vec(),
        }
    }
}
