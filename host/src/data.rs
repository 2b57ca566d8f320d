//! Records, files, tokens and batches.

pub mod alignment;
pub mod edit_pairs;
pub mod jsonl;
pub mod ragged;
pub mod records;
pub mod template;
pub mod tokenizer;
