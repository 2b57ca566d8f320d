//! What stands between a row of the host and a text model, both ways: the question about a row, and what its answer means.
//!
//! * [`edit::EditDialogue`] asks for a minimal edit of a response and reads the answer in one of three formats.
//! * [`judge::JudgeDialogue`] asks which of two responses is better and reads the verdict.
//! * [`template`] holds the prompts (ours, or a file of the user's), [`minimality`] what is checked of an edit,
//!   [`options`] the options that an editor or a judge flattens beside those of its client.
//!
//! Everything is a pure function of the row, the options and the answer: nothing is sent, stored or drawn here. So an answer
//! that was kept can be read again, and means the same. How often is asked, and what is kept of each try, is the caller's.
//!
//! ```
//! use finegrain_dialogue::edit::{EditDialogue, Outcome};
//! use finegrain_dialogue::options::{AnswerFormat, EditorOptions};
//!
//! let options = EditorOptions { format: AnswerFormat::Json, ..EditorOptions::default() };
//! let editor = EditDialogue::new(&options)?;
//! let (prompt, response) = ("What is the capital of France?", "The capital of France is Lyon, on the Seine.");
//! let question = editor.ask(prompt, response)?;
//! assert!(question.user.contains(response));
//! // … `question`, and `editor.schema()` where the server takes one, go to the model, and this comes back:
//! let answer = r#"{"reason": "wrong city", "edited": "The capital of France is Paris, on the Seine."}"#;
//! let reading = editor.read(prompt, response, answer);
//! assert_eq!(reading.outcome, Outcome::Edited("The capital of France is Paris, on the Seine.".into()));
//! // An answer that cannot be used says what to tell the model.
//! let Outcome::Problem(problem) = editor.read(prompt, response, "Paris!").outcome else { unreachable!() };
//! let turn = editor.again(prompt, response, &problem)?;
//! assert!(turn.contains("JSON"));
//! # Ok::<(), finegrain_sdk::Error>(())
//! ```

pub mod edit;
pub mod judge;
pub mod marks;
pub mod minimality;
pub mod options;
pub mod problem;
pub mod refusal;
pub mod template;
pub mod wrappers;

pub use problem::{Problem, ProblemKind};
pub use template::{Question, TemplateId};
