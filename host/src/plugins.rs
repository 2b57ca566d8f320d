//! Plugins on the host side.
//!
//! ```text
//! discover ─ paths ─► trust ─ bytes, hash ─► stamp ─ SDK version ─► load ─ layout check ─► registry ─ options ─► instance
//! ```
//! Built-in plugins enter at the registry and go through the same ABI objects from there on.

pub mod describe;
pub mod discover;
pub mod identity;
pub mod instance;
mod load;
mod options;
pub mod registry;
pub mod scaffold;
pub mod stamp;
pub mod trust;

pub use discover::PluginSearch;
pub use identity::{Identity, PluginKind, Source};
pub use instance::{
    AdvantageInstance, Edit, EditorInstance, JudgeInstance, Judgement, PairLoss, RewardInstance,
};
pub use registry::{Listed, Registry};
