//! Stages, their store and what surrounds them.

pub mod atomic;
pub mod context;
