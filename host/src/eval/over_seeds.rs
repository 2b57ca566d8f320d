//! One figure under several seeds: the value of every seed, and the estimate over all of them.

use serde::{Deserialize, Serialize};

use super::statistics::Estimate;

/// What one seed gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seeded<T> {
    /// The seed of the run.
    pub seed: u64,
    /// What it gave.
    pub value: T,
}

/// A figure under one or several seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OverSeeds<T> {
    /// Every seed's own figure.
    pub seeds: Vec<Seeded<T>>,
    /// The mean over seeds; with one seed that seed's figure, and its interval says nothing about other seeds.
    /// `None` where no seed has a value.
    pub overall: Option<Estimate>,
}
