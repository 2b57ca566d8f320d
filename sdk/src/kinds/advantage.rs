//! Advantage estimators: from rewards and values per token to advantages and returns.

use crate::batch::Ragged;
use crate::context::CallContext;
use crate::error::Result;
use crate::kinds::Plugin;

/// A batch of trajectories, one entry per response token in every batch.
#[derive(Clone, Copy, Debug)]
pub struct Trajectories<'a> {
    /// The total reward at token t, all channels (KL included where it is a reward).
    pub rewards: Ragged<'a, f32>,
    /// `V_t`: the critic at the position before token t, with the same offsets; `None` where the estimator declared that
    /// it needs no critic. The value after the last token is 0.
    pub values: Option<Ragged<'a, f32>>,
    /// Offsets over rows: rows `groups[g]..groups[g + 1]` answer the same prompt.
    pub groups: &'a [u64],
}

/// Where an estimator writes: flat, in the layout of the rewards, filled with NaN by the host.
#[derive(Debug)]
pub struct Advantages<'a> {
    /// `A_t`, before any whitening (the host whitens where asked).
    pub advantages: &'a mut [f32],
    /// The critic's target at token t; for an estimator without a critic, the return.
    pub returns: &'a mut [f32],
}

/// An advantage estimator.
pub trait AdvantageEstimator: Plugin {
    /// Advantages and returns for every response token.
    fn estimate(
        &self,
        trajectories: &Trajectories<'_>,
        out: Advantages<'_>,
        context: &CallContext<'_>,
    ) -> Result<()>;
}
