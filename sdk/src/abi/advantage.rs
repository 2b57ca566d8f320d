//! Advantage estimators across the boundary.

use abi_stable::std_types::{RBox, RResult, RSlice, RSliceMut, RStr, RString};
use abi_stable::type_level::downcasting::TD_Opaque;
use abi_stable::{StableAbi, sabi_trait};

use crate::abi::batch::{RaggedAbi, same_len, same_offsets};
use crate::abi::context::{self, ContextAbi};
use crate::abi::entry::{EntryAbi, Instance};
use crate::abi::error::{ErrorAbi, ResultAbi, received};
use crate::abi::guard::guarded;
use crate::batch::Ragged;
use crate::context::CallContext;
use crate::descriptor::Descriptor;
use crate::error::Result;
use crate::info::Capabilities;
use crate::kinds::{AdvantageEstimator, Advantages, Trajectories};
use crate::options;

/// [`Trajectories`].
#[repr(C)]
#[derive(StableAbi)]
pub struct TrajectoriesAbi<'a> {
    rewards: RaggedAbi<'a, f32>,
    /// Read only where `has_values` is 1.
    values: RaggedAbi<'a, f32>,
    has_values: u8,
    groups: RSlice<'a, u64>,
}

/// [`Advantages`].
#[repr(C)]
#[derive(StableAbi)]
pub struct AdvantagesAbi<'a> {
    advantages: RSliceMut<'a, f32>,
    returns: RSliceMut<'a, f32>,
}

/// An [`AdvantageEstimator`].
#[sabi_trait]
pub trait AdvantageAbi: Send + Sync {
    /// [`Capabilities`] of this instance as JSON.
    fn capabilities(&self) -> RResult<RString, ErrorAbi>;

    /// Advantages and returns per response token.
    #[sabi(last_prefix_field)]
    fn estimate(
        &self,
        trajectories: TrajectoriesAbi<'_>,
        out: AdvantagesAbi<'_>,
        context: ContextAbi<'_>,
    ) -> RResult<(), ErrorAbi>;
}

/// The trait object that crosses.
pub type AdvantageBox = AdvantageAbi_TO<'static, RBox<()>>;

impl<'a> TrajectoriesAbi<'a> {
    fn receive(self) -> Result<Trajectories<'a>> {
        let rewards = self.rewards.receive()?;
        let values = match self.has_values {
            0 => None,
            _ => Some(self.values.receive()?),
        };
        if let Some(values) = &values {
            same_offsets("values", values.offsets(), rewards.offsets())?;
        }
        let groups = self.groups.as_slice();
        // Groups are offsets over rows: the same rules as for any ragged batch, over as many units as there are rows.
        Ragged::new(&vec![(); rewards.rows()], groups)?;
        Ok(Trajectories {
            rewards,
            values,
            groups,
        })
    }
}

/// Plugin side.
struct Adapter<T>(Instance<T>);

impl<T: AdvantageEstimator> AdvantageAbi for Adapter<T> {
    fn capabilities(&self) -> RResult<RString, ErrorAbi> {
        guarded(|| options::to_json(&self.0.capabilities()))
    }

    fn estimate(
        &self,
        trajectories: TrajectoriesAbi<'_>,
        mut out: AdvantagesAbi<'_>,
        context: ContextAbi<'_>,
    ) -> RResult<(), ErrorAbi> {
        guarded(|| {
            let trajectories = trajectories.receive()?;
            let out = Advantages {
                advantages: out.advantages.as_mut_slice(),
                returns: out.returns.as_mut_slice(),
            };
            let tokens = trajectories.rewards.values().len();
            same_len("the output", out.advantages.len(), tokens)?;
            same_len("the output", out.returns.len(), tokens)?;
            context::receive(&context, |context| {
                self.0.estimate(&trajectories, out, context)
            })
        })
    }
}

extern "C" fn construct<T: AdvantageEstimator>(options: RStr<'_>) -> ResultAbi<AdvantageBox> {
    guarded(|| {
        let instance = Instance::new(T::new(options::parse(options.as_str())?)?);
        Ok(AdvantageBox::from_value(Adapter(instance), TD_Opaque))
    })
}

/// Plugin side: the entry of `T`.
pub(crate) fn entry<T: AdvantageEstimator>(
    descriptor: &Descriptor,
) -> Result<EntryAbi<AdvantageBox>> {
    EntryAbi::new(descriptor, construct::<T>)
}

/// Host side: an instance of an advantage estimator, called with the author's types.
pub struct AdvantageObject(pub AdvantageBox);

impl AdvantageObject {
    /// [`crate::Plugin::capabilities`].
    pub fn capabilities(&self) -> Result<Capabilities> {
        options::from_json(&received(self.0.capabilities())?)
    }

    /// [`AdvantageEstimator::estimate`].
    pub fn estimate(
        &self,
        trajectories: &Trajectories<'_>,
        out: Advantages<'_>,
        context: &CallContext<'_>,
    ) -> Result<()> {
        let trajectories = TrajectoriesAbi {
            rewards: trajectories.rewards.into(),
            values: trajectories.values.unwrap_or(trajectories.rewards).into(),
            has_values: trajectories.values.is_some().into(),
            groups: trajectories.groups.into(),
        };
        let out = AdvantagesAbi {
            advantages: out.advantages.into(),
            returns: out.returns.into(),
        };
        received(context::send(context, |context| {
            self.0.estimate(trajectories, out, context)
        }))
    }
}
