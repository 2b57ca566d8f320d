//! What the paper leaves open about the average, as options.

use finegrain_sdk::schemars::JsonSchema;
use finegrain_sdk::serde::{Deserialize, Serialize};

/// Over which tokens the loss of a pair sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(crate = "finegrain_sdk::serde", rename_all = "kebab-case")]
#[schemars(crate = "finegrain_sdk::schemars")]
pub enum Tokens {
    /// The tokens that the edit touched, U₁ (eq. 4); 1/T stays the length of the whole response.
    #[default]
    Changed,
    /// All tokens of both responses (eq. 3).
    All,
}

/// How the scores become the rewards of PPO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(crate = "finegrain_sdk::serde", rename_all = "kebab-case")]
#[schemars(crate = "finegrain_sdk::schemars")]
pub enum Scale {
    /// `r_t` as it is, as the paper prints it: the rewards of a response sum to T · R(τ).
    #[default]
    None,
    /// `r_t / T`: the rewards of a response sum to R(τ), the number that the reward model was trained on.
    Mean,
}

/// Options of `token-average`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(crate = "finegrain_sdk::serde", deny_unknown_fields, default)]
#[schemars(crate = "finegrain_sdk::schemars")]
pub struct Options {
    /// Over which tokens the loss of a pair sums: the changed ones (eq. 4) or all (eq. 3).
    pub tokens: Tokens,
    /// Whether PPO gets `r_t` or `r_t / T`.
    pub scale: Scale,
    /// The id of the EOS token, where EOS must not count: a last token with this id is left out of T and of both sums,
    /// gets no gradient and the reward 0. Without it EOS is a token like any other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude_eos_id: Option<u32>,
}
