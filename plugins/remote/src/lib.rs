//! An editor and a judge whose model is on a server: `dialogue` says what is asked and what an answer means, `model-server` asks
//! and keeps the answers. Each of the plugins editor-claude, editor-openai, judge-claude and judge-openai is one of these two
//! over one of the two APIs.

mod api;
mod conversation;
pub mod editor;
pub mod judge;
mod outcome;
mod plugin;

pub use api::{Anthropic, Api, OpenAi};
pub use editor::RemoteEditor;
pub use judge::RemoteJudge;
pub use plugin::{EditorOver, JudgeOver, Options};
