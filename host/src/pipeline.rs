//! Stages, their store and what surrounds them.

pub mod context;
