//! Reward schemes across the boundary.

use abi_stable::std_types::{RBox, RResult, RSlice, RSliceMut, RStr, RString};
use abi_stable::type_level::downcasting::TD_Opaque;
use abi_stable::{StableAbi, sabi_trait};

use crate::abi::batch::{RaggedAbi, TextAbi, same_len, same_offsets};
use crate::abi::context::{self, ContextAbi};
use crate::abi::entry::{EntryAbi, Instance};
use crate::abi::error::{ErrorAbi, ResultAbi, received};
use crate::abi::guard::guarded;
use crate::context::CallContext;
use crate::descriptor::Descriptor;
use crate::error::Result;
use crate::info::Capabilities;
use crate::kinds::{PairGradients, RewardScheme, Rollouts, ScoredPairs, ScoredSide};
use crate::options;

/// A [`ScoredSide`].
#[repr(C)]
#[derive(StableAbi)]
pub struct SideAbi<'a> {
    scores: RaggedAbi<'a, f32>,
    ids: RaggedAbi<'a, u32>,
    changed: RaggedAbi<'a, u8>,
}

/// [`ScoredPairs`].
#[repr(C)]
#[derive(StableAbi)]
pub struct PairsAbi<'a> {
    chosen: SideAbi<'a>,
    rejected: SideAbi<'a>,
}

/// [`PairGradients`].
#[repr(C)]
#[derive(StableAbi)]
pub struct GradientsAbi<'a> {
    chosen: RSliceMut<'a, f32>,
    rejected: RSliceMut<'a, f32>,
}

/// [`Rollouts`].
#[repr(C)]
#[derive(StableAbi)]
pub struct RolloutsAbi<'a> {
    scores: RaggedAbi<'a, f32>,
    ids: RaggedAbi<'a, u32>,
    prompt_ids: RaggedAbi<'a, u32>,
    prompts: TextAbi<'a>,
    responses: TextAbi<'a>,
    ended: RSlice<'a, u8>,
}

/// A [`RewardScheme`]; the methods are the author's, and `capabilities` are JSON.
#[sabi_trait]
pub trait RewardAbi: Send + Sync {
    /// [`Capabilities`] of this instance as JSON.
    fn capabilities(&self) -> RResult<RString, ErrorAbi>;

    /// The loss over the pairs and its gradient by every score.
    fn preference_loss(
        &self,
        pairs: PairsAbi<'_>,
        gradients: GradientsAbi<'_>,
        context: ContextAbi<'_>,
    ) -> RResult<f64, ErrorAbi>;

    /// One number per row.
    fn sequence_reward(
        &self,
        rollouts: RolloutsAbi<'_>,
        rewards: RSliceMut<'_, f32>,
        context: ContextAbi<'_>,
    ) -> RResult<(), ErrorAbi>;

    /// One number per response token.
    #[sabi(last_prefix_field)]
    fn token_rewards(
        &self,
        rollouts: RolloutsAbi<'_>,
        rewards: RSliceMut<'_, f32>,
        context: ContextAbi<'_>,
    ) -> RResult<(), ErrorAbi>;
}

/// The trait object that crosses.
pub type RewardBox = RewardAbi_TO<'static, RBox<()>>;

impl<'a> From<ScoredSide<'a>> for SideAbi<'a> {
    fn from(side: ScoredSide<'a>) -> Self {
        Self {
            scores: side.scores.into(),
            ids: side.ids.into(),
            changed: side.changed.into(),
        }
    }
}

impl<'a> SideAbi<'a> {
    fn receive(self) -> Result<ScoredSide<'a>> {
        let side = ScoredSide {
            scores: self.scores.receive()?,
            ids: self.ids.receive()?,
            changed: self.changed.receive()?,
        };
        same_offsets("token ids", side.ids.offsets(), side.scores.offsets())?;
        same_offsets(
            "change marks",
            side.changed.offsets(),
            side.scores.offsets(),
        )?;
        Ok(side)
    }
}

impl<'a> From<&Rollouts<'a>> for RolloutsAbi<'a> {
    fn from(rollouts: &Rollouts<'a>) -> Self {
        Self {
            scores: rollouts.scores.into(),
            ids: rollouts.ids.into(),
            prompt_ids: rollouts.prompt_ids.into(),
            prompts: rollouts.prompts.into(),
            responses: rollouts.responses.into(),
            ended: rollouts.ended.into(),
        }
    }
}

impl<'a> RolloutsAbi<'a> {
    fn receive(self) -> Result<Rollouts<'a>> {
        let rollouts = Rollouts {
            scores: self.scores.receive()?,
            ids: self.ids.receive()?,
            prompt_ids: self.prompt_ids.receive()?,
            prompts: self.prompts.receive()?,
            responses: self.responses.receive()?,
            ended: self.ended.as_slice(),
        };
        same_offsets(
            "token ids",
            rollouts.ids.offsets(),
            rollouts.scores.offsets(),
        )?;
        let rows = rollouts.scores.rows();
        same_len("the batch of prompt ids", rollouts.prompt_ids.rows(), rows)?;
        same_len("the batch of prompts", rollouts.prompts.rows(), rows)?;
        same_len("the batch of responses", rollouts.responses.rows(), rows)?;
        same_len("the column of ended rows", rollouts.ended.len(), rows)?;
        Ok(rollouts)
    }
}

/// Plugin side.
struct Adapter<T>(Instance<T>);

impl<T: RewardScheme> RewardAbi for Adapter<T> {
    fn capabilities(&self) -> RResult<RString, ErrorAbi> {
        guarded(|| options::to_json(&self.0.capabilities()))
    }

    fn preference_loss(
        &self,
        pairs: PairsAbi<'_>,
        mut gradients: GradientsAbi<'_>,
        context: ContextAbi<'_>,
    ) -> RResult<f64, ErrorAbi> {
        guarded(|| {
            let pairs = ScoredPairs {
                chosen: pairs.chosen.receive()?,
                rejected: pairs.rejected.receive()?,
            };
            same_len(
                "the batch of rejected responses",
                pairs.rejected.scores.rows(),
                pairs.chosen.scores.rows(),
            )?;
            let gradients = PairGradients {
                chosen: gradients.chosen.as_mut_slice(),
                rejected: gradients.rejected.as_mut_slice(),
            };
            let expected = (
                pairs.chosen.scores.values().len(),
                pairs.rejected.scores.values().len(),
            );
            same_len("the gradient", gradients.chosen.len(), expected.0)?;
            same_len("the gradient", gradients.rejected.len(), expected.1)?;
            context::receive(&context, |context| {
                self.0.preference_loss(&pairs, gradients, context)
            })
        })
    }

    fn sequence_reward(
        &self,
        rollouts: RolloutsAbi<'_>,
        mut rewards: RSliceMut<'_, f32>,
        context: ContextAbi<'_>,
    ) -> RResult<(), ErrorAbi> {
        guarded(|| {
            let rollouts = rollouts.receive()?;
            same_len("the output", rewards.len(), rollouts.ids.rows())?;
            context::receive(&context, |context| {
                self.0
                    .sequence_reward(&rollouts, rewards.as_mut_slice(), context)
            })
        })
    }

    fn token_rewards(
        &self,
        rollouts: RolloutsAbi<'_>,
        mut rewards: RSliceMut<'_, f32>,
        context: ContextAbi<'_>,
    ) -> RResult<(), ErrorAbi> {
        guarded(|| {
            let rollouts = rollouts.receive()?;
            same_len("the output", rewards.len(), rollouts.ids.values().len())?;
            context::receive(&context, |context| {
                self.0
                    .token_rewards(&rollouts, rewards.as_mut_slice(), context)
            })
        })
    }
}

extern "C" fn construct<T: RewardScheme>(options: RStr<'_>) -> ResultAbi<RewardBox> {
    guarded(|| {
        let instance = Instance::new(T::new(options::parse(options.as_str())?)?);
        Ok(RewardBox::from_value(Adapter(instance), TD_Opaque))
    })
}

/// Plugin side: the entry of `T`.
pub(crate) fn entry<T: RewardScheme>(descriptor: &Descriptor) -> Result<EntryAbi<RewardBox>> {
    EntryAbi::new(descriptor, construct::<T>)
}

/// Host side: an instance of a reward scheme, called with the author's types.
pub struct RewardObject(pub RewardBox);

impl RewardObject {
    /// [`crate::Plugin::capabilities`].
    pub fn capabilities(&self) -> Result<Capabilities> {
        options::from_json(&received(self.0.capabilities())?)
    }

    /// [`RewardScheme::preference_loss`].
    pub fn preference_loss(
        &self,
        pairs: &ScoredPairs<'_>,
        gradients: PairGradients<'_>,
        context: &CallContext<'_>,
    ) -> Result<f64> {
        let pairs = PairsAbi {
            chosen: pairs.chosen.into(),
            rejected: pairs.rejected.into(),
        };
        let gradients = GradientsAbi {
            chosen: gradients.chosen.into(),
            rejected: gradients.rejected.into(),
        };
        received(context::send(context, |context| {
            self.0.preference_loss(pairs, gradients, context)
        }))
    }

    /// [`RewardScheme::sequence_reward`].
    pub fn sequence_reward(
        &self,
        rollouts: &Rollouts<'_>,
        rewards: &mut [f32],
        context: &CallContext<'_>,
    ) -> Result<()> {
        received(context::send(context, |context| {
            self.0
                .sequence_reward(rollouts.into(), rewards.into(), context)
        }))
    }

    /// [`RewardScheme::token_rewards`].
    pub fn token_rewards(
        &self,
        rollouts: &Rollouts<'_>,
        rewards: &mut [f32],
        context: &CallContext<'_>,
    ) -> Result<()> {
        received(context::send(context, |context| {
            self.0
                .token_rewards(rollouts.into(), rewards.into(), context)
        }))
    }
}
