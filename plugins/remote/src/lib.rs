//! An editor and a judge whose model is on a server: `dialogue` says what is asked and what an answer means, `model-server` asks
//! and keeps the answers. Each of the plugins editor-claude, editor-openai, judge-claude and judge-openai is one of these two
//! behind one of the two APIs.

mod conversation;
pub mod editor;
pub mod judge;
mod outcome;

pub use editor::RemoteEditor;
pub use judge::RemoteJudge;
