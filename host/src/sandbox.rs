//! The embedded sandbox: a task with ground truth, which needs no download, no key and no GPU. See docs/sandbox.md.

mod config;
mod corpus;
mod fresh_model;
mod ground_truth;
mod vocabulary;

pub use config::{ModelShape, SandboxConfig};
pub use corpus::{Corpus, generate};
pub use fresh_model::{fresh_model, save_fresh_model};
pub use ground_truth::{defect_marks, score};
pub use vocabulary::{LONGEST_PROMPT, LONGEST_RESPONSE, tokenizer};
