//! Everything that the author of a finegrain plugin needs: read this page and one file of [`kinds`].
//!
//! A plugin is a type that implements one of the four traits of [`kinds`] on plain slices, one [`register!`] line a type,
//! and one [`export_plugin!`] line a crate. The same code is linked into the host or loaded from a shared library.
//!
//! A whole plugin, in a crate with `crate-type = ["cdylib"]` that depends on this crate alone:
//!
//! ```
//! use finegrain_sdk::kinds::{AdvantageEstimator, Advantages, Trajectories};
//! use finegrain_sdk::schemars::JsonSchema;
//! use finegrain_sdk::serde::{Deserialize, Serialize};
//! use finegrain_sdk::{CallContext, Plugin, PluginInfo, Result};
//!
//! /// Every advantage is the discounted return: REINFORCE without a baseline.
//! struct MonteCarlo(Options);
//!
//! #[derive(Clone, Deserialize, Serialize, JsonSchema)]
//! #[serde(crate = "finegrain_sdk::serde", deny_unknown_fields, default)]
//! #[schemars(crate = "finegrain_sdk::schemars")]
//! struct Options {
//!     /// Discount per token.
//!     #[schemars(range(min = 0.0, max = 1.0))]
//!     gamma: f32,
//! }
//!
//! impl Default for Options {
//!     fn default() -> Self {
//!         Self { gamma: 1.0 }
//!     }
//! }
//!
//! impl Plugin for MonteCarlo {
//!     const NAME: &'static str = "monte-carlo";
//!     type Options = Options;
//!
//!     fn info() -> PluginInfo {
//!         let mut info = PluginInfo::default();
//!         info.summary = "the discounted return of every token".into();
//!         info.capabilities.needs_critic = false;
//!         info
//!     }
//!
//!     fn new(options: Options) -> Result<Self> {
//!         Ok(Self(options))
//!     }
//! }
//!
//! impl AdvantageEstimator for MonteCarlo {
//!     fn estimate(&self, batch: &Trajectories<'_>, out: Advantages<'_>, _: &CallContext<'_>) -> Result<()> {
//!         for row in 0..batch.rewards.rows() {
//!             let mut future = 0.0;
//!             for token in batch.rewards.range(row).rev() {
//!                 future = batch.rewards.values()[token] + self.0.gamma * future;
//!                 out.advantages[token] = future;
//!                 out.returns[token] = future;
//!             }
//!         }
//!         Ok(())
//!     }
//! }
//!
//! finegrain_sdk::register!(AdvantageEstimator, MonteCarlo);
//! finegrain_sdk::export_plugin!();
//!
//! # let context = CallContext {
//! #     seed: 1, step: 0, threads: 1, cancel: &false.into(), log: &|_, _| {}, progress: &|_, _| {},
//! #     answers: None,
//! # };
//! # use finegrain_sdk::abi::{advantage::AdvantageObject, root::Contents};
//! # let entries = Contents::built_in().unwrap().advantages;
//! # assert_eq!(entries[0].descriptor().unwrap().options_defaults["gamma"], 1.0);
//! # let object = AdvantageObject(entries[0].construct(r#"{"gamma": 0.5}"#).unwrap());
//! # let batch = Trajectories {
//! #     rewards: finegrain_sdk::Ragged::new(&[0.0, 1.0, 4.0], &[0, 2, 3]).unwrap(),
//! #     values: None,
//! #     groups: &[0, 2],
//! # };
//! # let (mut advantages, mut returns) = ([0.0; 3], [0.0; 3]);
//! # let out = Advantages { advantages: &mut advantages, returns: &mut returns };
//! # object.estimate(&batch, out, &context).unwrap();
//! # assert_eq!(advantages, [0.5, 1.0, 4.0]);
//! ```
//!
//! What the host takes care of: it checks the options against the schema that [`schemars`] derives from the struct before
//! it calls [`Plugin::new`]; a panic ends the call and not the process; outputs that are unwritten, not finite or of rows
//! outside the batch are refused with the plugin's name and the row. What it cannot do is protect itself: a plugin has all
//! the rights of the process.
//!
//! Rules: `&self` methods may be called from several threads; use at most [`CallContext::threads`] threads; poll
//! [`CallContext::check_cancelled`] per row; print nothing ([`CallContext::log`]); draw random numbers from
//! [`CallContext::stream`] alone. Build with `panic = "unwind"`, the default.
//!
//! Batches are **ragged**: flat `values` and `offsets` (rows + 1, Arrow's list layout), never padded; see [`batch`].

#[doc(hidden)]
pub mod abi;
pub mod batch;
pub mod context;
pub mod descriptor;
pub mod error;
pub mod export;
pub mod forecast;
pub mod info;
pub mod kinds;
pub mod options;
pub mod preference;
pub mod rng;

#[doc(hidden)]
pub use inventory;
pub use schemars;
pub use serde;
pub use serde_json;

pub use batch::{Ragged, TextBatch};
pub use context::CallContext;
pub use error::{Error, ErrorCode, Result};
pub use forecast::{Bounds, Forecast};
pub use info::PluginInfo;
pub use kinds::Plugin;

/// The version of this SDK. A plugin loads where the host's SDK has the same major number, and while that is 0 the same
/// minor number.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
