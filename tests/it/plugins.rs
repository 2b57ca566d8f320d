//! Plugins as a user meets them: built by cargo, found by path or by environment, loaded, called, refused.
//!
//! `tests/fixtures` is a workspace of its own: plugins that depend on the SDK alone.

mod batches;
mod build;
mod fixtures;
mod guide;
mod in_a_run;
mod misbehaviour;
mod other_sdk;
mod refusals;
mod same_bits;
mod scaffold;
