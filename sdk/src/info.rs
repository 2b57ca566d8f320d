//! What a plugin says about itself; `finegrain plugin info` prints it.

use serde::{Deserialize, Serialize};

/// A paper that a plugin implements.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// Title of the paper, and the sections or equations meant.
    pub title: String,
    /// Where it is: an arXiv id or an address.
    pub url: String,
}

/// What the host must provide and may assume. Fields that do not concern a kind keep their default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent answers, each a key of its own in JSON"
)]
pub struct Capabilities {
    /// Reward scheme: its rewards come from a reward model that is trained with its `preference_loss`. A rule on ids or
    /// text says `false`, and the reward-model stage is skipped.
    pub needs_reward_model: bool,
    /// Advantage estimator: `values` must be filled, so a critic is trained.
    pub needs_critic: bool,
    /// Advantage estimator: the least number of samples per prompt.
    pub samples_per_prompt: u32,
    /// The same input gives the same bits.
    pub deterministic: bool,
    /// The plugin talks to other machines.
    pub network: bool,
    /// Files, and folders with everything in them, that this instance reads and that its results depend on: paths as the
    /// instance opens them. The host hashes their content, so that a run after a change computes anew what the old content
    /// decided. Only [`crate::Plugin::capabilities`] can tell them, for the options say which they are.
    pub files: Vec<String>,
}

impl Default for Capabilities {
    fn default() -> Self {
        Self {
            needs_reward_model: true,
            needs_critic: true,
            samples_per_prompt: 1,
            deterministic: true,
            network: false,
            files: Vec::new(),
        }
    }
}

/// Metadata of a plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PluginInfo {
    /// One line: what it does.
    pub summary: String,
    /// A paragraph for `finegrain plugin info`: formulas and conventions.
    pub description: String,
    /// The papers it implements.
    pub references: Vec<Reference>,
    /// What it needs and promises.
    pub capabilities: Capabilities,
    /// Fragments of TOML that show how it is used.
    pub examples: Vec<String>,
}
