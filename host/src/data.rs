//! Records, files, tokens and batches.

pub mod alignment;
pub mod asked;
pub mod chat;
pub mod config;
pub mod draw;
pub mod edit_pairs;
pub mod fields;
pub mod gguf;
pub mod hub;
pub mod jsonl;
pub mod layouts;
pub mod overlap;
pub mod preferences;
mod python_json;
pub mod ragged;
pub mod records;
pub mod rows;
pub mod splits;
pub mod template;
pub mod tokenizer;
pub mod turns;
