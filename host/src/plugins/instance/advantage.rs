//! An advantage estimator as the host calls it.

use finegrain_sdk::CallContext;
use finegrain_sdk::abi::advantage::AdvantageObject;
use finegrain_sdk::kinds::{Advantages, Trajectories};

use super::{Handle, instance_accessors, output};
use crate::error::Result;

/// An instance of an advantage estimator.
pub struct AdvantageInstance {
    pub(super) handle: Handle,
    object: AdvantageObject,
}

instance_accessors!(AdvantageInstance);

impl AdvantageInstance {
    pub(crate) fn new(handle: Handle, object: AdvantageObject) -> Self {
        Self { handle, object }
    }

    /// (advantages, returns) for every response token, in the layout of the rewards, all finite.
    ///
    /// # Errors
    /// A failure of the plugin; an output that is unwritten or not finite.
    pub fn estimate(
        &self,
        trajectories: &Trajectories<'_>,
        context: &CallContext<'_>,
    ) -> Result<(Vec<f32>, Vec<f32>)> {
        let tokens = trajectories.rewards.values().len();
        let mut advantages = output::unwritten(tokens);
        let mut returns = output::unwritten(tokens);
        self.handle.call(context, |context| {
            let out = Advantages {
                advantages: &mut advantages,
                returns: &mut returns,
            };
            self.object.estimate(trajectories, out, context)
        })?;
        let offsets = Some(trajectories.rewards.offsets());
        output::check(&self.handle, context, "the advantage", &advantages, offsets)?;
        output::check(&self.handle, context, "the return", &returns, offsets)?;
        Ok((advantages, returns))
    }
}
