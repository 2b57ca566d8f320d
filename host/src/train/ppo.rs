//! Proximal policy optimisation with a reward for every token. Equations, switches and presets: docs/ppo.md.
//!
//! `train` holds the loop; `kl`, `whiten`, `losses` and `rewards` are pure functions on slices.

pub mod config;
mod distributions;
pub mod kl;
pub mod losses;
mod metrics;
pub mod reward_scale;
pub mod rewards;
pub mod rollout;
#[cfg(test)]
mod tests;
pub mod train;
pub mod update;
pub mod whiten;

pub use config::{PpoConfig, PpoPreset};
pub use rollout::WeightedSource;
pub use train::{PpoInputs, PpoReport, run};
