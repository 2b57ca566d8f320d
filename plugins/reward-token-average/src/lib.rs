//! Reward scheme `token-average`: a reward for every token, trained on their average (section 2.2 of the paper).
//!
//! `r_t` is the score of response token t, T the number of tokens of the response:
//!
//! * `R(τ) = (1/T) Σ r_t` (eq. 1), by which responses are compared.
//! * Loss = mean over the pairs of `−log σ(R(τⁱ) − R(τʲ))`, i the preferred response and j the other (eq. 2 and 3). By
//!   default the sums run over the changed tokens U₁ alone and 1/T stays the length of the whole response (eq. 4).
//! * PPO gets the vector `[r_1 … r_T]`.
//!
//! [`options`] holds what the paper leaves open, [`token_average`] the arithmetic.

pub mod options;
pub mod token_average;

pub use options::{Options, Scale, Tokens};
pub use token_average::TokenAverage;

finegrain_sdk::register!(RewardScheme, TokenAverage);
finegrain_sdk::export_plugin!();
