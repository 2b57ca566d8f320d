//! Rows through dialogue, client and kept answers, over both APIs, on a server of the tests' own.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use finegrain_dialogue::options::{AnswerFormat, EditorOptions, JudgeOptions};
use finegrain_model_server::Server;
use finegrain_model_server::options::{AnthropicOptions, OpenAiOptions, ServerOptions};
use finegrain_model_server::testing::{self, Act, Seen, TestServer};
use finegrain_remote::{RemoteEditor, RemoteJudge};
use finegrain_sdk::batch::TextBatch;
use finegrain_sdk::kinds::{
    Comparisons, EditOutcome, EditRequests, EditSink, JudgeSink, Origin, Verdict,
};
use finegrain_sdk::serde_json::{Value, json};
use finegrain_sdk::{CallContext, Result};

/// The two APIs.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Api {
    Anthropic,
    OpenAi,
}

impl Api {
    const BOTH: [Self; 2] = [Self::Anthropic, Self::OpenAi];

    fn server(self, base_url: &str, replay: bool) -> Server {
        let server = ServerOptions {
            model: "test".into(),
            base_url: base_url.into(),
            replay,
            ..ServerOptions::default()
        };
        match self {
            Self::Anthropic => {
                Server::anthropic("editor-claude", &server, &AnthropicOptions::default())
            }
            Self::OpenAi => Server::openai("editor-openai", &server, &OpenAiOptions::default()),
        }
        .expect("a server")
    }

    /// A whole answer with a text.
    fn text(self, text: &str) -> Act {
        Act::reply(
            200,
            match self {
                Self::Anthropic => {
                    let thinking = json!({"type": "thinking", "thinking": "hm", "signature": "s"});
                    let content = json!([thinking, {"type": "text", "text": text}]);
                    testing::anthropic("test", &content, "end_turn").to_string()
                }
                Self::OpenAi => testing::openai("test", text, "stop").to_string(),
            },
        )
    }

    /// An answer that declines.
    fn refusal(self) -> Act {
        Act::reply(
            200,
            match self {
                Self::Anthropic => {
                    let mut body = testing::anthropic("test", &json!([]), "refusal");
                    body["stop_details"] = json!({
                        "type": "refusal", "category": "frontier_llm", "explanation": "not this"
                    });
                    body.to_string()
                }
                Self::OpenAi => {
                    let mut body = testing::openai("test", "", "stop");
                    body["choices"][0]["message"]["refusal"] = "frontier_llm: not this".into();
                    body.to_string()
                }
            },
        )
    }

    /// A request that the server will never take.
    fn rejection(self) -> Act {
        Act::reply(
            400,
            match self {
                Self::Anthropic => {
                    testing::anthropic_error("invalid_request_error", "no such thing")
                }
                Self::OpenAi => {
                    testing::openai_error("invalid_request_error", "bad", None, "no such thing")
                }
            },
        )
    }
}

/// Texts one after the other, as batches have them.
struct Column(String, Vec<u64>);

impl Column {
    fn of<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut column = Self(String::new(), vec![0]);
        for text in texts {
            column.0 += text;
            column.1.push(column.0.len() as u64);
        }
        column
    }

    fn batch(&self) -> TextBatch<'_> {
        TextBatch::new(self.0.as_bytes(), &self.1).expect("offsets fit")
    }
}

struct Outcomes<T>(Vec<Option<T>>);

impl<T> Outcomes<T> {
    fn put(&mut self, row: usize, outcome: T) {
        assert!(self.0[row].replace(outcome).is_none(), "row {row} twice");
    }
}

impl EditSink for Outcomes<(EditOutcome, Option<Origin>)> {
    fn push(&mut self, row: usize, outcome: EditOutcome) -> Result<()> {
        self.put(row, (outcome, None));
        Ok(())
    }

    fn push_with_origin(
        &mut self,
        row: usize,
        outcome: EditOutcome,
        origin: &Origin,
    ) -> Result<()> {
        self.put(row, (outcome, Some(origin.clone())));
        Ok(())
    }
}

impl JudgeSink for Outcomes<(Verdict, String, Option<Origin>)> {
    fn push(&mut self, row: usize, verdict: Verdict, reason: &str) -> Result<()> {
        self.put(row, (verdict, reason.to_owned(), None));
        Ok(())
    }

    fn push_with_origin(
        &mut self,
        row: usize,
        verdict: Verdict,
        reason: &str,
        origin: &Origin,
    ) -> Result<()> {
        self.put(row, (verdict, reason.to_owned(), Some(origin.clone())));
        Ok(())
    }
}

fn with_context<T>(answers: &Path, work: impl FnOnce(&CallContext<'_>) -> T) -> T {
    work(&CallContext {
        seed: 1,
        step: 0,
        threads: 1,
        cancel: &AtomicBool::new(false),
        log: &|_, _| {},
        progress: &|_, _| {},
        answers: Some(answers),
    })
}

const RESPONSES: [&str; 6] = [
    "plain: the capital of the whole country of France is of course Lyon",
    "fine: the capital of the whole country of France is of course Paris",
    "second: the capital of the whole country of France is of course Lyon",
    "rewrite: the capital of the whole country of France is of course Lyon",
    "declined: the capital of the whole country of France is of course Lyon",
    "rejected: the capital of the whole country of France is of course Lyon",
];

fn edited(response: &str) -> String {
    response.replace("Lyon", "Paris")
}

/// What the server says to a question about one of the responses.
fn edit_behaviour(api: Api, seen: &Seen) -> Act {
    let body = seen.body.to_string();
    let response = RESPONSES
        .into_iter()
        .find(|response| body.contains(response))
        .expect("a question holds its response");
    let is_second = seen.body["messages"]
        .as_array()
        .expect("messages")
        .iter()
        .any(|message| message["role"] == "assistant");
    let answer = |fields: Value| api.text(&fields.to_string());
    let whole = |text: &str| answer(json!({"reason": "r", "unchanged": false, "edited": text}));
    match response.split(':').next().expect("a word") {
        "fine" => answer(json!({"reason": "", "unchanged": true, "edited": ""})),
        "second" if !is_second => api.text("I would say Paris."),
        "plain" | "second" => whole(&edited(response)),
        "rewrite" => whole(
            "An entirely different sentence about the weather in spring and the price of bread.",
        ),
        "declined" => api.refusal(),
        _ => api.rejection(),
    }
}

fn edit(
    server: Server,
    rows: usize,
    answers: &Path,
) -> Result<(Vec<EditOutcome>, Vec<Option<Origin>>)> {
    let options = EditorOptions {
        format: AnswerFormat::Json,
        ..EditorOptions::default()
    };
    let editor = RemoteEditor::new(server, &options)?;
    let ids = Column::of(["a", "b", "c", "d", "e", "f"].into_iter().take(rows));
    let prompts = Column::of(["What is the capital of France?"; 6].into_iter().take(rows));
    let responses = Column::of(RESPONSES.into_iter().take(rows));
    let requests = EditRequests {
        ids: ids.batch(),
        prompts: prompts.batch(),
        responses: responses.batch(),
    };
    let mut sink = Outcomes(vec![None; rows]);
    with_context(answers, |context| {
        editor.edit(&requests, &mut sink, context)
    })?;
    let rows = sink.0.into_iter();
    Ok(rows.map(|row| row.expect("every row")).unzip())
}

fn reason_of(outcome: &EditOutcome) -> &str {
    match outcome {
        EditOutcome::Rejected(reason) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_row_is_edited_told_why_not_rejected_refused_or_failed_and_never_asked_twice() {
    for api in Api::BOTH {
        let folder = tempfile::tempdir().expect("a folder");
        let server = TestServer::start(move |seen| edit_behaviour(api, seen)).expect("a port");
        let (outcomes, origins) =
            edit(api.server(&server.url(), false), 6, folder.path()).expect("a call");
        assert_eq!(
            outcomes[0],
            EditOutcome::Edited(edited(RESPONSES[0])),
            "{api:?}"
        );
        assert_eq!(outcomes[1], EditOutcome::Unchanged);
        assert_eq!(outcomes[2], EditOutcome::Edited(edited(RESPONSES[2])));
        let EditOutcome::Rejected(reason) = &outcomes[3] else {
            panic!("{outcomes:?}")
        };
        assert!(reason.starts_with("not-minimal: changed-words"), "{reason}");
        let EditOutcome::Refused(reason) = &outcomes[4] else {
            panic!("{outcomes:?}")
        };
        assert!(reason.contains("not this"), "{reason}");
        let EditOutcome::Failed(reason) = &outcomes[5] else {
            panic!("{outcomes:?}")
        };
        assert!(reason.contains("no such thing"), "{reason}");
        // One question a row, a second for two of them.
        assert_eq!(server.count(), 8);
        // The reason was told behind the model's own answer.
        let second = server.requests().into_iter().find(|seen| {
            seen.body.to_string().contains("I would say Paris.") && seen.text().contains("JSON")
        });
        assert!(second.is_some(), "{api:?}");

        // Where each came from: one answer a row, two where the first could not be used, none where nothing was answered.
        let tries = origins.iter().map(|origin| Some(origin.as_ref()?.tries));
        let expected = [Some(1), Some(1), Some(2), Some(2), Some(1), None];
        assert_eq!(tries.collect::<Vec<_>>(), expected, "{api:?}");
        let [second, rewritten] = [2, 3].map(|row: usize| origins[row].clone().expect("answered"));
        assert_eq!(second.model, "test");
        assert_eq!(second.rejected.len(), 1, "{second:?}");
        assert!(second.rejected[0].starts_with("json:"), "{second:?}");
        assert_eq!(rewritten.rejected, [reason_of(&outcomes[3]); 2]);
        let one = origins[0].clone().expect("answered");
        assert_eq!(
            second.input_tokens,
            one.input_tokens.map(|tokens| 2 * tokens)
        );
        assert!(one.input_tokens.is_some() && one.output_tokens.is_some());
        // The model has no price.
        assert_eq!((one.picodollars, one.rejected), (None, Vec::new()));

        // Again: what was answered comes from the folder, what failed is asked again.
        let again = edit(api.server(&server.url(), false), 6, folder.path()).expect("a call");
        assert_eq!(again, (outcomes.clone(), origins.clone()));
        assert_eq!(server.count(), 9);

        // Without the server: the same, and a row that is not there is an error with its id.
        let url = server.url();
        drop(server);
        let kept = edit(api.server(&url, true), 5, folder.path()).expect("all are kept");
        assert_eq!(kept, (outcomes[..5].to_vec(), origins[..5].to_vec()));
        let error = edit(api.server(&url, true), 6, folder.path()).expect_err("one is not");
        assert!(error.message.contains('f'), "{error}");
    }
}

#[test]
fn a_comparison_has_a_verdict_a_tie_or_a_reason_why_not() {
    let pairs = [
        ("first is better", "worse"),
        ("worse", "second is better"),
        ("tie", "tie too"),
        ("the same", "the same"),
        ("mumbled", "something"),
    ];
    for api in Api::BOTH {
        let folder = tempfile::tempdir().expect("a folder");
        let server = TestServer::start(move |seen| {
            let body = seen.body.to_string();
            let verdict = |verdict: &str| {
                api.text(&json!({"reason": "because", "verdict": verdict}).to_string())
            };
            if body.contains("mumbled") {
                api.text("Both have their merits.")
            } else if body.contains("tie too") {
                verdict("tie")
            } else if body.contains("first is better") {
                verdict("A")
            } else {
                verdict("B")
            }
        })
        .expect("a port");
        let judge = RemoteJudge::new(api.server(&server.url(), false), &JudgeOptions::default())
            .expect("a judge");
        let ids = Column::of(["0", "1", "2", "3", "4"]);
        let prompts = Column::of(["q"; 5]);
        let (a, b) = (
            Column::of(pairs.iter().map(|(a, _)| *a)),
            Column::of(pairs.iter().map(|(_, b)| *b)),
        );
        let comparisons = Comparisons {
            ids: ids.batch(),
            prompts: prompts.batch(),
            a: a.batch(),
            b: b.batch(),
        };
        let mut sink = Outcomes(vec![None; 5]);
        with_context(folder.path(), |context| {
            judge.compare(&comparisons, &mut sink, context)
        })
        .expect("a call");
        let rows: Vec<_> = sink.0.into_iter().flatten().collect();
        let tries = rows.iter().map(|(.., origin)| Some(origin.as_ref()?.tries));
        let expected = [Some(1), Some(1), Some(1), None, Some(2)];
        assert_eq!(tries.collect::<Vec<_>>(), expected);
        let verdicts: Vec<(Verdict, String)> = rows
            .into_iter()
            .map(|(verdict, reason, _)| (verdict, reason))
            .collect();
        assert_eq!(verdicts[0], (Verdict::Preference(0.0), "because".into()));
        assert_eq!(verdicts[1], (Verdict::Preference(1.0), "because".into()));
        assert_eq!(verdicts[2], (Verdict::Tie, "because".into()));
        assert_eq!(verdicts[3].0, Verdict::Tie);
        assert!(matches!(verdicts[4].0, Verdict::Failed(_)), "{verdicts:?}");
        // Nobody is asked about two texts that are the same; a mumbled answer is asked about twice.
        assert_eq!(server.count(), 5);
    }
}
