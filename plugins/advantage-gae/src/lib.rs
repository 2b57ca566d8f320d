//! Advantage estimator `gae`: generalised advantage estimation (Schulman et al., 2016, eq. 11 to 16).
//!
//! `δ_t = r_t + γ V_{t+1} − V_t` with `V_{T+1} = 0`, `A_t = δ_t + γλ A_{t+1}`, `return_t = A_t + V_t`.

pub mod gae;
pub mod options;

pub use gae::Gae;
pub use options::Options;

finegrain_sdk::register!(AdvantageEstimator, Gae);
finegrain_sdk::export_plugin!();
