//! Edits by a model on a server.

use finegrain_dialogue::edit::{EditDialogue, Outcome};
use finegrain_dialogue::options::EditorOptions;
use finegrain_model_server::{Answer, End, Question, Server, Settled, Step, ask, forecast};
use finegrain_sdk::kinds::{EditOutcome, EditRequests, EditSink};
use finegrain_sdk::{CallContext, Forecast, Result};

use crate::conversation::{after, first};
use crate::outcome::{is_answer, origin};

/// An editor whose model is on a server.
#[derive(Clone, Debug)]
pub struct RemoteEditor {
    server: Server,
    dialogue: EditDialogue,
    tries: u32,
}

impl RemoteEditor {
    /// An editor that asks `server`.
    ///
    /// # Errors
    /// A template that cannot be used.
    pub fn new(server: Server, options: &EditorOptions) -> Result<Self> {
        Ok(Self {
            server,
            dialogue: EditDialogue::new(options)?,
            tries: options.tries,
        })
    }

    /// Files that the questions depend on, for the plugin's capabilities.
    pub fn files(&self) -> Vec<String> {
        self.dialogue.files()
    }

    /// Edits the responses, each with where it came from. What the model said and is no minimal edit, after as many tries as the
    /// options allow, is rejected with the reason: it was answered, and asking again brings the same. A failure is what was not
    /// answered.
    ///
    /// # Errors
    /// Those of [`ask`]; rows that were not asked are not pushed.
    pub fn edit(
        &self,
        requests: &EditRequests<'_>,
        sink: &mut dyn EditSink,
        context: &CallContext<'_>,
    ) -> Result<()> {
        ask(
            &self.server,
            requests.ids.rows(),
            |row| self.question(requests, row),
            |row, tries| self.next(requests, row, tries),
            &mut |row, settled| {
                let outcome = self.outcome(requests, row, &settled);
                match origin(&settled, |text| self.problem(requests, row, text)) {
                    Some(origin) => sink.push_with_origin(row, outcome, &origin),
                    None => sink.push(row, outcome),
                }
            },
            context,
            context.answers,
        )
        .map(drop)
    }

    /// What [`RemoteEditor::edit`] would ask and what it would cost.
    ///
    /// # Errors
    /// Those of [`forecast`].
    pub fn forecast(
        &self,
        requests: &EditRequests<'_>,
        context: &CallContext<'_>,
    ) -> Result<Option<Forecast>> {
        forecast(
            &self.server,
            requests.ids.rows(),
            |row| self.question(requests, row),
            |row, tries| self.next(requests, row, tries),
            self.tries,
            context,
            context.answers,
        )
        .map(Some)
    }

    fn question(&self, requests: &EditRequests<'_>, row: usize) -> Result<Question> {
        let (prompt, response) = (requests.prompts.row(row), requests.responses.row(row));
        Ok(first(
            requests.ids.row(row),
            self.dialogue.ask(prompt, response)?,
            self.dialogue.schema(),
            self.dialogue.template(),
            "edit",
        ))
    }

    /// Another question where the last answer is no edit and a try is left.
    fn next(&self, requests: &EditRequests<'_>, row: usize, tries: &[Answer]) -> Step {
        let texts = tries.iter().filter(|answer| answer.text().is_some());
        if texts.count() >= self.tries as usize {
            return Step::Done;
        }
        let (prompt, response) = (requests.prompts.row(row), requests.responses.row(row));
        let asked = self.question(requests, row).and_then(|question| {
            after(question, tries, |text| {
                match self.dialogue.read(prompt, response, text).outcome {
                    Outcome::Problem(problem) => {
                        self.dialogue.again(prompt, response, &problem).map(Some)
                    }
                    Outcome::Edited(_) | Outcome::Unchanged | Outcome::Refused(_) => Ok(None),
                }
            })
        });
        // A turn that cannot be rendered leaves the answer as it is; its problem is the row's end.
        match asked {
            Ok(Some(question)) => Step::Ask(question),
            Ok(None) | Err(_) => Step::Done,
        }
    }

    /// What the host is told of a row.
    fn outcome(&self, requests: &EditRequests<'_>, row: usize, settled: &Settled) -> EditOutcome {
        let (prompt, response) = (requests.prompts.row(row), requests.responses.row(row));
        match &settled.end {
            End::Text(text) => self.dialogue.read(prompt, response, text).outcome.into(),
            End::Refused {
                category,
                explanation,
            } => EditOutcome::Refused(format!("{category}: {explanation}")),
            End::Failed(failure) if is_answer(failure.kind) => {
                EditOutcome::Rejected(failure.to_string())
            }
            End::Failed(failure) => EditOutcome::Failed(failure.to_string()),
        }
    }

    /// Why a text of the model is no edit that can be used, where it is none.
    fn problem(&self, requests: &EditRequests<'_>, row: usize, text: &str) -> Option<String> {
        let (prompt, response) = (requests.prompts.row(row), requests.responses.row(row));
        match self.dialogue.read(prompt, response, text).outcome {
            Outcome::Problem(problem) => Some(problem.to_string()),
            Outcome::Edited(_) | Outcome::Unchanged | Outcome::Refused(_) => None,
        }
    }
}
