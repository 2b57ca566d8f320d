//! Records, files, tokens and batches.

pub mod alignment;
pub mod chat;
pub mod edit_pairs;
pub mod gguf;
pub mod jsonl;
mod python_json;
pub mod ragged;
pub mod records;
pub mod template;
pub mod tokenizer;
