//! Real input: edit pairs from any JSONL file, mapped by field paths and split by id.

mod config;
mod fields;
mod load;
mod splits;

pub use config::{EditPairsConfig, WhichEdits};
pub use load::{EditPair, EditPairs, load};
pub use splits::{Split, SplitFractions};
