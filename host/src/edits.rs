//! What is known of a set of edits: `finegrain edits stats`, `diff` and `check`.
//!
//! [`source`] reads edits of a run, of the store or of a file; [`figures`] measures one edit; [`stats`] counts and sums over
//! all; [`diff`] shows them; [`check`] holds them to the checks of minimality, and [`better`] has a judge compare them with
//! their originals.

pub mod better;
pub mod check;
pub mod diff;
pub mod distribution;
pub mod figures;
pub mod pieces;
pub mod reasons;
pub mod source;
pub mod stats;

#[cfg(test)]
mod tests;
