//! The four kinds of plugin, one file each, and what all of them share.

mod advantage;
mod editor;
mod judge;
mod origin;
mod reward;

pub use advantage::{AdvantageEstimator, Advantages, Trajectories};
pub use editor::{EditOutcome, EditRequests, EditSink, Editor};
pub use judge::{Comparisons, Judge, JudgeSink, Verdict};
pub use origin::Origin;
pub use reward::{PairGradients, RewardScheme, Rollouts, ScoredPairs, ScoredSide};

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};

use crate::error::Result;
use crate::info::PluginInfo;

/// What every plugin says, whatever its kind.
pub trait Plugin: Send + Sync + Sized + 'static {
    /// The name that a configuration uses, in lower case with hyphens: `gae`, `token-average`.
    const NAME: &'static str;

    /// The options, as a plain struct: `#[derive(Deserialize, Serialize, JsonSchema)] #[serde(deny_unknown_fields,
    /// default)]`, every field with a doc comment, a default and, where it has one, `#[schemars(range(…))]`.
    type Options: DeserializeOwned + Serialize + JsonSchema + Default;

    /// Summary, papers, capabilities and examples.
    fn info() -> PluginInfo;

    /// An instance with these options.
    ///
    /// # Errors
    /// Options that parse but cannot be used together.
    fn new(options: Self::Options) -> Result<Self>;

    /// What this instance needs; the same as [`Plugin::info`] says unless the options decide it.
    fn capabilities(&self) -> crate::info::Capabilities {
        Self::info().capabilities
    }
}
