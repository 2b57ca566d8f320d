//! Records, files, tokens and batches.

pub mod ragged;
pub mod tokenizer;
