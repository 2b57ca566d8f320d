//! Asking for a minimal edit, and reading what came.
//!
//! Three formats ([`crate::options::AnswerFormat`]): the whole edited response between marks or bare ([`text`]), in JSON
//! ([`json`]), or replacements that are applied here ([`replacements`]). Whatever the format, an edit then goes through
//! [`crate::minimality`].

use finegrain_sdk::Result;
use finegrain_sdk::kinds::EditOutcome;
use finegrain_sdk::serde::{Deserialize, Serialize};
use finegrain_sdk::serde_json::Value as Json;
use minijinja::{Value, context};

use crate::marks::mark;
use crate::minimality::{Examination, examine};
use crate::options::{AnswerFormat, EditorOptions};
use crate::problem::{Problem, ProblemKind};
use crate::template::{Question, Template, TemplateId, TemplateKind};
use crate::wrappers::{self, Wrapper};

pub mod json;
mod render;
pub mod replacements;
pub mod restore;
pub mod revert;
pub mod text;

use restore::Restored;

/// What an answer comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A minimal edit: the edited response, whole.
    Edited(String),
    /// The response needs no edit.
    Unchanged,
    /// The model declined in prose; the answer.
    Refused(String),
    /// The answer cannot be used; there may be another try.
    Problem(Problem),
}

impl From<Outcome> for EditOutcome {
    /// What the host is told where there is no further try.
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Edited(text) => Self::Edited(text),
            Outcome::Unchanged => Self::Unchanged,
            Outcome::Refused(text) => Self::Refused(format!("in prose: {text}")),
            Outcome::Problem(problem) => Self::Rejected(problem.to_string()),
        }
    }
}

/// What was done to an answer before it counted as an edit, and what it said beside the edit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(crate = "finegrain_sdk::serde")]
pub struct Notes {
    /// What was taken off.
    pub stripped: Vec<Wrapper>,
    /// What was put back.
    pub restored: Restored,
    /// The model's reason, where it gave one.
    pub reason: Option<String>,
}

/// An answer, read.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// What it comes to.
    pub outcome: Outcome,
    /// What was done to it.
    pub notes: Notes,
    /// Figures and findings, where the answer holds an edit: also where that is not minimal.
    pub examination: Option<Examination>,
}

/// What a format makes of an answer.
enum Answer {
    /// The edited response as the model wrote it down.
    Whole(String),
    /// The edited response as it follows from replacements.
    Applied(String),
    /// No edit.
    Unchanged,
    /// Declined in prose.
    Refused(String),
}

/// The questions of an editor and the meaning of answers.
#[derive(Clone, Debug)]
pub struct EditDialogue {
    options: EditorOptions,
    template: Template,
}

impl EditDialogue {
    /// The dialogue that some options describe.
    ///
    /// # Errors
    /// A template that [`Template::load`] refuses.
    pub fn new(options: &EditorOptions) -> Result<Self> {
        let kind = match options.format {
            AnswerFormat::Text => TemplateKind::EditText,
            AnswerFormat::Json => TemplateKind::EditJson,
            AnswerFormat::Replacements => TemplateKind::EditReplacements,
        };
        let template = Template::load(kind, options.template.as_deref())?;
        Ok(Self {
            options: options.clone(),
            template,
        })
    }

    /// The template, to be kept beside every answer.
    pub fn template(&self) -> &TemplateId {
        self.template.id()
    }

    /// The files that questions depend on, for the plugin's capabilities.
    pub fn files(&self) -> Vec<String> {
        self.options.template.iter().cloned().collect()
    }

    /// The JSON schema of an answer, for servers that hold a model to one; `None` for format `text`.
    pub fn schema(&self) -> Option<Json> {
        match self.options.format {
            AnswerFormat::Text => None,
            AnswerFormat::Json => Some(json::schema()),
            AnswerFormat::Replacements => Some(replacements::schema()),
        }
    }

    /// The question about a row. The same row is asked the same question every time.
    ///
    /// # Errors
    /// A row that the template cannot render.
    pub fn ask(&self, prompt: &str, response: &str) -> Result<Question> {
        self.template.question(&variables(prompt, response, &[]))
    }

    /// The user's turn after an answer with a problem: it follows the question and that answer (the assistant's turn).
    /// Servers refuse a blank assistant's turn; after an empty answer, ask [`EditDialogue::ask`]'s question anew.
    ///
    /// # Errors
    /// A row that the template cannot render.
    pub fn again(&self, prompt: &str, response: &str, problem: &Problem) -> Result<String> {
        self.template
            .again(&variables(prompt, response, &problem.tell))
    }

    /// What an answer about a row means. Takes any text; the answer to [`EditDialogue::again`] is read in the same way.
    pub fn read(&self, prompt: &str, response: &str, answer: &str) -> Reading {
        let mut notes = Notes::default();
        let mut examination = None;
        let outcome = match self.parse(prompt, response, answer, &mut notes) {
            Err(problem) => Outcome::Problem(problem),
            Ok(Answer::Refused(text)) => Outcome::Refused(text),
            Ok(Answer::Unchanged) => Outcome::Unchanged,
            Ok(Answer::Applied(edited)) => self.checked(prompt, response, edited, &mut examination),
            Ok(Answer::Whole(mut edited)) => {
                if self.options.restore_white_space {
                    (edited, notes.restored) = restore::white_space(response, &edited);
                }
                if self.options.revert_typography {
                    (edited, notes.restored.typography) = revert::typography(response, &edited);
                }
                self.checked(prompt, response, edited, &mut examination)
            }
        };
        Reading {
            outcome,
            notes,
            examination,
        }
    }

    fn parse(
        &self,
        prompt: &str,
        response: &str,
        answer: &str,
        notes: &mut Notes,
    ) -> Result<Answer, Problem> {
        let marks = Marks::of(prompt, response);
        let bare = self.options.format == AnswerFormat::Text && !self.template.uses("open");
        let mut answer = answer;
        // A bare response may begin with thoughts of its own.
        if !(bare && response.trim_start().starts_with("<think>")) {
            if wrappers::thinks_on(answer) {
                return Err(Problem::new(
                    ProblemKind::Thoughts,
                    "thoughts that do not end, and no answer",
                    "Your answer consists of thoughts that do not end. Think less and give the answer.",
                ));
            }
            if let Some(rest) = wrappers::without_thoughts(answer) {
                notes.stripped.push(Wrapper::Thoughts);
                answer = rest;
            }
        }
        if answer.trim().is_empty() {
            return Err(Problem::new(
                ProblemKind::Empty,
                "an empty answer",
                "Your answer is empty.",
            ));
        }
        match self.options.format {
            AnswerFormat::Text if bare => Ok(text::bare(&marks, response, answer, notes)),
            AnswerFormat::Text => text::marked(&marks, response, answer, notes),
            AnswerFormat::Json => json::read(response, answer, notes),
            AnswerFormat::Replacements => replacements::read(response, answer, notes),
        }
    }

    /// Whether an edited response is one, and a minimal one.
    fn checked(
        &self,
        prompt: &str,
        response: &str,
        edited: String,
        examination: &mut Option<Examination>,
    ) -> Outcome {
        if edited == response {
            return Outcome::Unchanged;
        }
        if edited.trim().is_empty() {
            return Outcome::Problem(Problem::new(
                ProblemKind::Empty,
                "the edited response is empty",
                "Your edited response is empty.",
            ));
        }
        let mark = mark(&[prompt, response]);
        if edited.contains(&mark) {
            return Outcome::Problem(Problem::new(
                ProblemKind::Marks,
                "tags of the question stand in the edited response",
                format!(
                    "Your edited response holds a tag with {mark}. Leave these tags out of it."
                ),
            ));
        }
        if let Some(line) = self.echo(prompt, response, &edited) {
            return Outcome::Problem(Problem::new(
                ProblemKind::QuestionEcho,
                format!("words of the question stand in the edited response: {line}"),
                format!(
                    "Your edited response repeats words of this question, {line:?}. Write the response alone."
                ),
            ));
        }
        let found = examination.insert(examine(prompt, response, &edited, &self.options.limits));
        if found.findings.is_empty() {
            return Outcome::Edited(edited);
        }
        let findings = found.findings.iter();
        let reasons: Vec<String> = findings.clone().map(ToString::to_string).collect();
        Outcome::Problem(Problem {
            kind: ProblemKind::NotMinimal,
            reason: reasons.join(", "),
            tell: findings.map(|finding| finding.sentence.clone()).collect(),
        })
    }
}

impl EditDialogue {
    /// The first line of the question, of some length and neither the prompt's nor the response's, that an edit took over. Small
    /// models do that, and one such line behind a long response is a minimal edit by all figures.
    fn echo(&self, prompt: &str, response: &str, edited: &str) -> Option<String> {
        /// Shorter lines may stand in a response by chance.
        const SHORTEST: usize = 20;
        let question = self.ask(prompt, response).ok()?;
        let mut lines = question.user.lines().map(str::trim);
        let echoed = lines.find(|line| {
            line.chars().nth(SHORTEST - 1).is_some()
                && edited.contains(line)
                && !response.contains(line)
                && !prompt.contains(line)
        });
        echoed.map(str::to_owned)
    }
}

/// What stands around the texts of a row and between them.
struct Marks {
    /// The digits.
    mark: String,
    /// In front of an edited response.
    open: String,
    /// Behind it.
    close: String,
    /// The word for "no edit".
    unchanged: String,
}

impl Marks {
    fn of(prompt: &str, response: &str) -> Self {
        /// The word, unless the row speaks of it.
        const UNCHANGED: &str = "UNCHANGED";
        let mark = mark(&[prompt, response]);
        let taken = prompt.contains(UNCHANGED) || response.contains(UNCHANGED);
        Self {
            open: format!("<edited-{mark}>"),
            close: format!("</edited-{mark}>"),
            unchanged: if taken {
                format!("{UNCHANGED}-{mark}")
            } else {
                UNCHANGED.to_owned()
            },
            mark,
        }
    }
}

fn variables(prompt: &str, response: &str, complaints: &[String]) -> Value {
    let Marks {
        mark,
        open,
        close,
        unchanged,
    } = Marks::of(prompt, response);
    context! { prompt, response, mark, open, close, unchanged, complaints => complaints.to_vec() }
}

#[cfg(test)]
mod tests;
