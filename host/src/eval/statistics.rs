//! Statistics of the evaluation: estimates with standard error and 95% interval, bootstraps, exact tests, AUC.
//!
//! Everything here is a pure function of its numbers and, for bootstraps, of a [`Stream`](finegrain_sdk::rng::Stream).
//! What cannot be said of too little data is `None`, never NaN.

pub mod auc;
pub mod between_seeds;
pub mod bootstrap;
pub mod exact_test;
pub mod intervals;
pub mod kappa;
pub mod multiple;
pub mod ratio;
pub mod seeds;

pub use auc::Ranking;
pub use between_seeds::t_interval;
pub use bootstrap::{Bootstrap, Design, Spread};
pub use exact_test::exact_sign_test;
pub use intervals::{Estimate, Interval, mean, standard_error, wilson};
pub use kappa::cohen_kappa;
pub use multiple::holm;
pub use seeds::{SeedValues, Sharing};
