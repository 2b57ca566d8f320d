//! The tasks: where the data come from, and what follows for the stages.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the data come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// The embedded sandbox, with ground truth.
    Sandbox,
    /// One file of edit pairs and a model; preference pairs are the SFT model's own samples.
    EditPairs,
    /// The paper's experiment on files: demonstrations, preference pairs, PPO prompts and evaluation prompts. An editor edits the
    /// less preferred responses.
    Preferences,
}

impl Task {
    /// Whether preference pairs are samples of the SFT model that an annotator ranks, rather than rows of a file.
    pub fn ranks_samples(self) -> bool {
        self != Self::Preferences
    }

    /// Whether edits come from an editor, rather than out of a file.
    pub fn has_editor(self) -> bool {
        self != Self::EditPairs
    }
}
