//! Editor: imports edits that people have written, from JSONL.
