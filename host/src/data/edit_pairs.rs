//! Edit pairs from any file: mapped by field paths or a layout, and split by id.

mod load;

pub use load::{EditPair, EditPairs, load};
