//! Asking which of two responses is better, and reading the verdict.
//!
//! A verdict is JSON ([`json`]) or the last line of prose ([`mod@line`]); anything else is a problem with its reason, and never
//! a guess. The host asks in both orders; each order is a question of its own.

use finegrain_sdk::Result;
use finegrain_sdk::kinds::Verdict;
use finegrain_sdk::serde::{Deserialize, Serialize};
use finegrain_sdk::serde_json::Value as Json;
use minijinja::{Value, context};

use crate::marks::mark;
use crate::options::{JudgeOptions, VerdictFormat};
use crate::problem::{Problem, ProblemKind};
use crate::template::{Question, Template, TemplateId, TemplateKind};
use crate::wrappers::{self, Wrapper};

pub mod json;
pub mod line;

/// Which response is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(crate = "finegrain_sdk::serde")]
pub enum Choice {
    /// The first.
    A,
    /// The second.
    B,
    /// Neither.
    #[serde(rename = "tie")]
    Tie,
}

impl Choice {
    /// All choices.
    pub const ALL: [Self; 3] = [Self::A, Self::B, Self::Tie];

    /// The name, as the model writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
            Self::Tie => "tie",
        }
    }
}

impl From<Choice> for Verdict {
    /// The preference for b: A is 0, B is 1.
    fn from(choice: Choice) -> Self {
        match choice {
            Choice::A => Self::Preference(0.0),
            Choice::B => Self::Preference(1.0),
            Choice::Tie => Self::Tie,
        }
    }
}

/// What an answer comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A verdict.
    Chosen(Choice),
    /// The model declined in prose; the answer.
    Refused(String),
    /// The answer cannot be used; there may be another try.
    Problem(Problem),
}

impl From<Outcome> for Verdict {
    /// What the host is told where there is no further try.
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Chosen(choice) => choice.into(),
            Outcome::Refused(text) => Self::Failed(format!("refused in prose: {text}")),
            Outcome::Problem(problem) => Self::Failed(problem.to_string()),
        }
    }
}

/// An answer, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// What it comes to.
    pub outcome: Outcome,
    /// The model's reason; empty where it gave none.
    pub reason: String,
    /// What was taken off the answer.
    pub stripped: Vec<Wrapper>,
}

/// The questions of a judge and the meaning of answers.
#[derive(Clone, Debug)]
pub struct JudgeDialogue {
    options: JudgeOptions,
    template: Template,
}

impl JudgeDialogue {
    /// The dialogue that some options describe.
    ///
    /// # Errors
    /// A template that [`Template::load`] refuses.
    pub fn new(options: &JudgeOptions) -> Result<Self> {
        let template = Template::load(TemplateKind::Judge, options.template.as_deref())?;
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

    /// The JSON schema of an answer, for servers that hold a model to one; `None` where the verdict is a line.
    pub fn schema(&self) -> Option<Json> {
        match self.options.verdict {
            VerdictFormat::Json => Some(json::schema()),
            VerdictFormat::Line => None,
        }
    }

    /// What needs no question: two responses that are the same text are a tie.
    pub fn settled(a: &str, b: &str) -> Option<Choice> {
        (a == b).then_some(Choice::Tie)
    }

    /// The question about a comparison. The same texts in the same order are asked the same question every time.
    ///
    /// # Errors
    /// A comparison that the template cannot render.
    pub fn ask(&self, prompt: &str, a: &str, b: &str) -> Result<Question> {
        self.template.question(&self.variables([prompt, a, b], &[]))
    }

    /// The user's turn after an answer with a problem: it follows the question and that answer (the assistant's turn).
    /// Servers refuse a blank assistant's turn; after an empty answer, ask [`JudgeDialogue::ask`]'s question anew.
    ///
    /// # Errors
    /// A comparison that the template cannot render.
    pub fn again(&self, prompt: &str, a: &str, b: &str, problem: &Problem) -> Result<String> {
        self.template
            .again(&self.variables([prompt, a, b], &problem.tell))
    }

    /// What an answer means. Takes any text; the answer to [`JudgeDialogue::again`] is read in the same way.
    pub fn read(&self, answer: &str) -> Reading {
        let mut reading = Reading {
            outcome: Outcome::Refused(String::new()),
            reason: String::new(),
            stripped: Vec::new(),
        };
        let parsed = self.parse(answer, &mut reading);
        reading.outcome = match parsed {
            Ok(Some(choice)) => Outcome::Chosen(choice),
            Ok(None) => Outcome::Refused(answer.to_owned()),
            Err(problem) => Outcome::Problem(problem),
        };
        reading
    }

    /// What a model answers that does as it is told: for tests, and for stand-ins of a server.
    pub fn answer(&self, choice: Choice, reason: &str) -> String {
        match self.options.verdict {
            VerdictFormat::Json => json::answer(choice, reason),
            VerdictFormat::Line => line::answer(choice, reason),
        }
    }

    /// A choice, `None` for a refusal.
    fn parse(&self, answer: &str, reading: &mut Reading) -> Result<Option<Choice>, Problem> {
        let mut answer = answer;
        if wrappers::thinks_on(answer) {
            return Err(Problem::new(
                ProblemKind::Thoughts,
                "thoughts that do not end, and no verdict",
                "Your answer consists of thoughts that do not end. Think less and give the verdict.",
            ));
        }
        if let Some(rest) = wrappers::without_thoughts(answer) {
            reading.stripped.push(Wrapper::Thoughts);
            answer = rest;
        }
        if answer.trim().is_empty() {
            return Err(Problem::new(
                ProblemKind::Empty,
                "an empty answer",
                "Your answer is empty.",
            ));
        }
        let read = match self.options.verdict {
            VerdictFormat::Json => json::read(answer, &mut reading.stripped)?,
            VerdictFormat::Line => line::read(answer)?,
        };
        Ok(read.map(|(choice, reason)| {
            reading.reason = reason;
            choice
        }))
    }

    fn variables(&self, texts: [&str; 3], complaints: &[String]) -> Value {
        let [prompt, a, b] = texts;
        let verdict = match self.options.verdict {
            VerdictFormat::Json => "json",
            VerdictFormat::Line => "line",
        };
        context! { prompt, a, b, verdict, complaints => complaints.to_vec(), mark => mark(&texts) }
    }
}

#[cfg(test)]
mod tests;
