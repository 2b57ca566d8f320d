//! When checkpoints are saved and how many are kept.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Checkpoints of SFT, reward models and PPO while they train. Results do not depend on them; a finished stage has none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointConfig {
    /// Save after every so many steps (optimizer steps of SFT and reward models, rollouts of PPO); 0 goes by time alone.
    pub every: u64,
    /// Save after the step at which so many seconds have gone by since the last, or twenty times as long as
    /// that took to save, whichever is more; 0 goes by steps alone. Where both are 0, an
    /// interrupt alone saves.
    #[schemars(range(min = 0.0))]
    pub every_seconds: f64,
    /// The newest that are kept. The older ones are there in case the newest is damaged.
    #[schemars(range(min = 1))]
    pub keep: usize,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self {
            every: 0,
            every_seconds: 60.0,
            keep: 2,
        }
    }
}

impl CheckpointConfig {
    /// Refuses values outside their ranges.
    pub fn validate(&self) -> Result<()> {
        if !(self.every_seconds >= 0.0 && self.every_seconds.is_finite()) {
            return Err(Error::input(format!(
                "checkpoints.every_seconds: {} is not accepted; a finite number of at least 0 is",
                self.every_seconds
            )));
        }
        if self.keep == 0 {
            return Err(
                Error::input("checkpoints.keep: 0 is not accepted; at least 1 is")
                    .hint("every = 0 and every_seconds = 0 save on interrupts alone"),
            );
        }
        Ok(())
    }
}
