//! Reward scheme `sequence`: one reward a response, on its last token, as in PPO-RLHF.
//!
//! * `R(τ) = r_T`, the score of the last response token (EOS where the policy ended the response).
//! * Loss = mean over the pairs of `−log σ(R(τⁱ) − R(τʲ))`, i the preferred response and j the other.
//! * PPO gets `[0 … 0, R(τ)]`.

pub mod options;
pub mod sequence;

pub use options::Options;
pub use sequence::Sequence;

finegrain_sdk::register!(RewardScheme, Sequence);
finegrain_sdk::export_plugin!();
