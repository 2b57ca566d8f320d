//! Configuration: TOML files with a base, overrides from the command line, validation with the nearest known names.
//!
//! A file names its `base`; tables merge key by key, later layers win, arrays are replaced whole. Every key and its
//! default is in docs/config.md, which is generated from the types.

mod judge;
mod layers;
mod load;
mod nearest;
mod overrides;
mod reference;
mod sweep;
mod task;
mod types;

pub use judge::{JudgeConfig, PanelMember, SingleJudge};
pub use load::{load, load_variants};
pub use nearest::nearest;
pub use reference::reference_markdown;
pub use task::Task;
pub use types::{
    CheckpointChoice, Config, EditorConfig, EvaluationConfig, ModelConfig, PairsConfig,
    PluginChoice, PluginsConfig, RewardChoice,
};
