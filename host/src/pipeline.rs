//! The pipeline: stages as functions of their inputs, the store of their results, runs and comparisons.
//!
//! ```text
//! data ─ sft ─ pairs ─ edits ─ reward_model ─ ppo ─ evaluate
//! ```
//! A stage asks the store for the artifact of its key and works only where there is none; that is how variants share
//! what they have in common, and how an interrupted run goes on.

pub mod adapters;
pub mod atomic;
pub mod base_model;
pub mod checkpoints;
pub mod comparison;
pub mod context;
pub mod encoding;
pub mod finished;
pub mod jobs;
pub mod judges;
pub mod observer;
pub mod origins;
pub mod plan;
pub mod report;
pub mod run_dir;
pub mod sampling;
pub mod self_preference;
pub mod session;
pub mod set_aside;
pub mod stages;
pub mod store;
pub mod variant;

pub use session::Session;
