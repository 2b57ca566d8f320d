//! Verdicts by a model on a server.

use finegrain_dialogue::judge::{JudgeDialogue, Outcome};
use finegrain_dialogue::options::JudgeOptions;
use finegrain_model_server::{Answer, End, Question, Server, Settled, Step, ask, forecast};
use finegrain_sdk::kinds::{Comparisons, JudgeSink, Verdict};
use finegrain_sdk::{CallContext, Forecast, Result};

use crate::conversation::{after, first};
use crate::outcome::origin;

/// A judge whose model is on a server.
#[derive(Clone, Debug)]
pub struct RemoteJudge {
    server: Server,
    dialogue: JudgeDialogue,
    tries: u32,
}

impl RemoteJudge {
    /// A judge that asks `server`.
    ///
    /// # Errors
    /// A template that cannot be used.
    pub fn new(server: Server, options: &JudgeOptions) -> Result<Self> {
        Ok(Self {
            server,
            dialogue: JudgeDialogue::new(options)?,
            tries: options.tries,
        })
    }

    /// Files that the questions depend on, for the plugin's capabilities.
    pub fn files(&self) -> Vec<String> {
        self.dialogue.files()
    }

    /// Judges the comparisons, each with where its verdict came from; two responses that are the same text are a tie that nobody is asked about.
    ///
    /// # Errors
    /// Those of [`ask`]; comparisons that were not asked are not pushed.
    pub fn compare(
        &self,
        comparisons: &Comparisons<'_>,
        sink: &mut dyn JudgeSink,
        context: &CallContext<'_>,
    ) -> Result<()> {
        let mut asked = Vec::with_capacity(comparisons.ids.rows());
        for row in 0..comparisons.ids.rows() {
            match JudgeDialogue::settled(comparisons.a.row(row), comparisons.b.row(row)) {
                Some(choice) => sink.push(row, choice.into(), "the same text")?,
                None => asked.push(row),
            }
        }
        ask(
            &self.server,
            asked.len(),
            |at| self.question(comparisons, asked[at]),
            |at, tries| self.next(comparisons, asked[at], tries),
            &mut |at, settled| {
                let (verdict, reason) = self.verdict(&settled);
                match origin(&settled, |text| self.problem(text)) {
                    Some(origin) => sink.push_with_origin(asked[at], verdict, &reason, &origin),
                    None => sink.push(asked[at], verdict, &reason),
                }
            },
            context,
            context.answers,
        )
        .map(drop)
    }

    /// What [`RemoteJudge::compare`] would ask and what it would cost.
    ///
    /// # Errors
    /// Those of [`forecast`].
    pub fn forecast(
        &self,
        comparisons: &Comparisons<'_>,
        context: &CallContext<'_>,
    ) -> Result<Option<Forecast>> {
        let is_asked = |row: &usize| {
            JudgeDialogue::settled(comparisons.a.row(*row), comparisons.b.row(*row)).is_none()
        };
        let asked: Vec<usize> = (0..comparisons.ids.rows()).filter(is_asked).collect();
        forecast(
            &self.server,
            asked.len(),
            |at| self.question(comparisons, asked[at]),
            |at, tries| self.next(comparisons, asked[at], tries),
            self.tries,
            context,
            context.answers,
        )
        .map(Some)
    }

    fn question(&self, comparisons: &Comparisons<'_>, row: usize) -> Result<Question> {
        let [prompt, a, b] = texts(comparisons, row);
        Ok(first(
            comparisons.ids.row(row),
            self.dialogue.ask(prompt, a, b)?,
            self.dialogue.schema(),
            self.dialogue.template(),
            "verdict",
        ))
    }

    /// Another question where the last answer is no verdict and a try is left.
    fn next(&self, comparisons: &Comparisons<'_>, row: usize, tries: &[Answer]) -> Step {
        let said = tries.iter().filter(|answer| answer.text().is_some());
        if said.count() >= self.tries as usize {
            return Step::Done;
        }
        let [prompt, a, b] = texts(comparisons, row);
        let asked = self.question(comparisons, row).and_then(|question| {
            after(question, tries, |text| {
                match self.dialogue.read(text).outcome {
                    Outcome::Problem(problem) => {
                        self.dialogue.again(prompt, a, b, &problem).map(Some)
                    }
                    Outcome::Chosen(_) | Outcome::Refused(_) => Ok(None),
                }
            })
        });
        // A turn that cannot be rendered leaves the answer as it is; its problem is the row's end.
        match asked {
            Ok(Some(question)) => Step::Ask(question),
            Ok(None) | Err(_) => Step::Done,
        }
    }

    /// What the host is told of a row, and the model's reason.
    fn verdict(&self, settled: &Settled) -> (Verdict, String) {
        match &settled.end {
            End::Text(text) => {
                let reading = self.dialogue.read(text);
                (reading.outcome.into(), reading.reason)
            }
            End::Refused {
                category,
                explanation,
            } => (
                Verdict::Failed(format!("refused: {category}: {explanation}")),
                String::new(),
            ),
            End::Failed(failure) => (Verdict::Failed(failure.to_string()), String::new()),
        }
    }

    /// Why a text of the model is no verdict, where it is none.
    fn problem(&self, text: &str) -> Option<String> {
        match self.dialogue.read(text).outcome {
            Outcome::Problem(problem) => Some(problem.to_string()),
            Outcome::Chosen(_) | Outcome::Refused(_) => None,
        }
    }
}

fn texts<'a>(comparisons: &Comparisons<'a>, row: usize) -> [&'a str; 3] {
    [
        comparisons.prompts.row(row),
        comparisons.a.row(row),
        comparisons.b.row(row),
    ]
}
