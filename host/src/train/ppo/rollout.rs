//! One rollout: responses of the current policy, and everything about them that stays fixed while the policy is updated.
//! Legend: B responses, M response tokens of the rollout; slices of length M are flat.

use finegrain_sdk::kinds::Trajectories;
use finegrain_sdk::rng::Stream;

use super::config::PpoConfig;
use super::kl::KlPlacement;
use super::reward_scale::Gains;
use super::rewards::{self, Channel};
use super::whiten::{Mean, whiten};
use crate::data::ragged::{RaggedVec, TokenBatch};
use crate::error::{Context, Error, Result};
use crate::model::{
    CausalLm, Generated, PolicyPass, RoundingEffect, Sampling, ScorePass, ScoredModel, generate,
};
use crate::pipeline::context::StageContext;
use crate::plugins::instance::AdvantageInstance;
use crate::telemetry::not_finite::OffendingRows;
use crate::train::batching::{micro_batches, walk};
use crate::train::forward::{self, check_finite};
use crate::train::rollout_batch::{Decode, RewardSource, RolloutBatch, log};

/// A reward scheme and its weight in the sum of the channels.
pub struct WeightedSource<'a> {
    /// What its token rewards are multiplied by.
    pub weight: f32,
    /// The scheme and its reward model.
    pub source: RewardSource<'a>,
}

/// The models that a rollout passes through.
pub struct Models<'a> {
    /// The policy that samples.
    pub policy: &'a CausalLm,
    /// The frozen policy from which the divergence is measured.
    pub reference: &'a CausalLm,
    /// The critic, where the advantage estimator needs one.
    pub critic: Option<&'a ScoredModel>,
}

/// A rollout with its rewards.
pub struct Rollout {
    /// Prompts and responses, B rows.
    pub batch: TokenBatch,
    /// Rows `groups[g]..groups[g + 1]` answer the same prompt.
    pub groups: Vec<u64>,
    /// Response offsets, (B + 1).
    pub offsets: Vec<u64>,
    /// 1 per response that ended with EOS.
    pub ended: Vec<u8>,
    /// What rounded weights did to the log-probabilities while sampling; `None` where `sampling.weights` is f32.
    pub rounding: Option<RoundingEffect>,
    /// `log π_old` by the training forward pass, or by sampling where that has its bits, (M,).
    pub old_logprobs: Vec<f32>,
    /// `log π_ref`, (M,).
    pub ref_logprobs: Vec<f32>,
    /// Entropy of `π_old`, (M,).
    pub entropy: Vec<f32>,
    /// `V_old`, (M,).
    pub values: Option<Vec<f32>>,
    /// The parts of the reward.
    pub channels: Vec<Channel>,
    /// The passes that the above come from, where they are also those of the first update.
    pub first: Option<FirstPasses>,
}

/// The rollout's own passes through policy and critic, kept with their way back: where the first minibatch is the whole
/// rollout in one piece, nothing has changed since, and it need not go through again.
pub struct FirstPasses {
    /// Log-probabilities and entropies.
    pub policy: PolicyPass,
    /// Values.
    pub critic: Option<ScorePass>,
}

impl FirstPasses {
    /// The passes of a rollout whose first minibatch holds all rows and goes through in one piece; `None` otherwise.
    fn of(models: &Models<'_>, batch: &TokenBatch, config: &PpoConfig) -> Result<Option<Self>> {
        let lengths = forward::row_lengths(batch);
        let pieces = micro_batches(&lengths, config.micro_batch_tokens).len();
        if config.minibatch_rows < batch.rows() || pieces > 1 {
            return Ok(None);
        }
        let temperature = config.sampling.temperature;
        let critic = models.critic.map(|critic| critic.values_pass(batch));
        Ok(Some(Self {
            policy: models.policy.log_probs_pass(batch, temperature)?,
            critic: critic.transpose()?,
        }))
    }
}

impl Rollout {
    /// `log π_old − log π_ref`, (M,).
    pub fn log_ratios(&self) -> Vec<f32> {
        let pairs = self.old_logprobs.iter().zip(&self.ref_logprobs);
        pairs.map(|(old, reference)| old - reference).collect()
    }

    /// M.
    pub fn response_tokens(&self) -> usize {
        self.old_logprobs.len()
    }
}

/// The prompts of step `step`, each `samples_per_prompt` times in a row: shuffled epochs over all prompts.
pub fn draw_prompts<'p>(
    prompts: &'p [Vec<u32>],
    config: &PpoConfig,
    stream: &Stream,
    step: u64,
) -> Vec<&'p Vec<u32>> {
    let per_step = (config.rollout_rows / config.samples_per_prompt) as u64;
    walk(
        prompts.len(),
        stream,
        step * per_step..(step + 1) * per_step,
    )
    .into_iter()
    .flat_map(|prompt| std::iter::repeat_n(&prompts[prompt], config.samples_per_prompt))
    .collect()
}

/// What stays the same from one rollout to the next.
pub struct Environment<'a> {
    /// The reward schemes.
    pub rewards: &'a [WeightedSource<'a>],
    /// The prompts, each with at least one token.
    pub prompts: &'a [Vec<u32>],
    /// From token ids to text.
    pub decode: &'a Decode<'a>,
    /// The tokens that end a response.
    pub eos: &'a [u32],
    /// The switches.
    pub config: &'a PpoConfig,
}

/// Samples responses at `step` and takes their log-probabilities, values and rewards; `kl_coef` is β now, and the first
/// rollout decides `gains`.
pub fn collect(
    models: &Models<'_>,
    environment: &Environment<'_>,
    kl_coef: f64,
    gains: &mut Gains,
    step: u64,
    context: &StageContext<'_>,
) -> Result<Rollout> {
    let config = environment.config;
    let drawn = draw_prompts(
        environment.prompts,
        config,
        &context.stream.child("prompts"),
        step,
    );
    let drawn: Vec<Vec<u32>> = drawn.into_iter().cloned().collect();
    let stream = context.stream.child("responses").index(step);
    let sampling = config.sampling.with_eos(environment.eos);
    let responses = generate(models.policy, &drawn, &sampling, &stream, context.cancel)
        // Which row it was is not known where the model's logits are at fault: all prompts are named.
        .of_batch("the logits", &(0..drawn.len()).collect::<Vec<_>>())
        .rows_of_all(|| {
            let mut prompts = TokenBatch::new();
            for prompt in &drawn {
                prompts.push(prompt, &[]);
            }
            prompts
        })
        .in_words(environment.decode)?;
    let mut batch = TokenBatch::new();
    for (row, (prompt, response)) in drawn.iter().zip(&responses).enumerate() {
        if response.ids.is_empty() {
            return Err(Error::internal(format!(
                "row {row} of the rollout has no response token"
            )));
        }
        batch.push(prompt, &response.ids);
    }
    let first = FirstPasses::of(models, &batch, config)?;
    let responses = Responses {
        groups: (0..=batch.rows() as u64)
            .step_by(config.samples_per_prompt)
            .collect(),
        ended: responses
            .iter()
            .map(|response| u8::from(response.ended))
            .collect(),
        sampled: Sampled::of(models.policy, &sampling, &responses),
        batch,
        first,
    };
    measure(
        models,
        environment,
        responses,
        kl_coef,
        gains,
        step,
        context,
    )
}

/// Responses that wait for their figures.
pub struct Responses {
    /// Prompts and responses, B rows; a response has at least one token.
    pub batch: TokenBatch,
    /// Rows `groups[g]..groups[g + 1]` answer the same prompt.
    pub groups: Vec<u64>,
    /// 1 per response that ended with EOS.
    pub ended: Vec<u8>,
    /// What sampling said of the tokens, where it is more than nothing.
    pub sampled: Sampled,
    /// Passes that were kept for the update.
    pub first: Option<FirstPasses>,
}

/// What sampling said of the response tokens.
pub enum Sampled {
    /// Nothing that is of use: sampling and passes have other bits ([`CausalLm::samples_exactly`]).
    Nothing,
    /// Log-probabilities under rounded weights, (M,), to compare with.
    Rounded(Vec<f32>),
    /// Log-probabilities and entropies, (M,) each, with the bits of a pass through the policy.
    Exact(Vec<f32>, Vec<f32>),
}

impl Sampled {
    fn of(policy: &CausalLm, sampling: &Sampling, responses: &[Generated]) -> Self {
        let logprobs = || responses.iter().flat_map(|it| it.logprobs.iter().copied());
        if sampling.weights.rounds() {
            Self::Rounded(logprobs().collect())
        } else if policy.samples_exactly(sampling) {
            let entropy = responses.iter().flat_map(|it| it.entropy.iter().copied());
            Self::Exact(logprobs().collect(), entropy.collect())
        } else {
            Self::Nothing
        }
    }
}

/// Takes log-probabilities, values and rewards of responses at `step`; `kl_coef` is β now, and the first responses decide
/// `gains`.
pub fn measure(
    models: &Models<'_>,
    environment: &Environment<'_>,
    responses: Responses,
    kl_coef: f64,
    gains: &mut Gains,
    step: u64,
    context: &StageContext<'_>,
) -> Result<Rollout> {
    let config = environment.config;
    let Responses {
        batch,
        groups,
        ended,
        sampled,
        first,
    } = responses;
    let budget = config.micro_batch_tokens;
    let temperature = config.sampling.temperature;
    let (exact, rounded) = match sampled {
        Sampled::Nothing => (None, None),
        Sampled::Rounded(logprobs) => (None, Some(logprobs)),
        Sampled::Exact(logprobs, entropy) => (Some((logprobs, entropy)), None),
    };
    let (old_logprobs, entropy) = match (&first, exact) {
        (Some(first), _) => (
            first.policy.logprobs().to_vec(),
            first.policy.entropy().to_vec(),
        ),
        (None, Some(exact)) => exact,
        (None, None) => forward::log_probs(models.policy, &batch, temperature, budget)?,
    };
    let rounding = rounded.and_then(|sampler| RoundingEffect::between(&sampler, &old_logprobs));
    let (ref_logprobs, _) = forward::log_probs(models.reference, &batch, temperature, budget)?;
    let values = match (&first, models.critic) {
        (Some(first), _) => first.critic.as_ref().map(|pass| pass.scores().to_vec()),
        (None, Some(critic)) => Some(forward::values(critic, &batch, budget)?),
        (None, None) => None,
    };

    let rollouts = RolloutBatch::new(&batch, ended.clone(), environment.decode)?;
    let offsets = rollouts.offsets().to_vec();
    let rows: Vec<usize> = (0..batch.rows()).collect();
    let check_finite = |what: &str, values: &[f32]| {
        check_finite(what, values, &offsets, &rows)
            .rows_of(&batch)
            .in_words(environment.decode)
    };
    check_finite("the log-probability", &old_logprobs)?;
    check_finite("the reference's log-probability", &ref_logprobs)?;
    if let Some(values) = &values {
        check_finite("the value", values)?;
    }
    let mut channels = Vec::new();
    for (scheme, WeightedSource { weight, source }) in environment.rewards.iter().enumerate() {
        let mut rewards = source
            .token_rewards(&batch, &rollouts, budget, step, context)
            .context(format!("reward {}", source.name))?;
        let gain = gains.apply(scheme, source.name, &mut rewards, &offsets)?;
        check_finite("the scaled reward", &rewards)?;
        for reward in &mut rewards {
            *reward *= weight;
        }
        channels.push(Channel {
            name: source.name.to_owned(),
            gain,
            rewards,
        });
    }
    let penalty = rewards::missing_eos(
        config.missing_eos,
        config.missing_eos_penalty,
        &mut channels,
        &offsets,
        &ended,
    );
    channels.extend(penalty);
    let mut rollout = Rollout {
        batch,
        groups,
        offsets,
        ended,
        rounding,
        old_logprobs,
        ref_logprobs,
        entropy,
        values,
        channels,
        first,
    };
    if config.kl_placement == KlPlacement::Reward {
        let channel = rewards::kl_channel(&rollout.log_ratios(), config.kl_estimator, kl_coef);
        rollout.channels.push(channel);
    }
    Ok(rollout)
}

/// What the update takes from the rewards.
pub struct Targets {
    /// Total rewards before whitening, (M,).
    pub rewards: Vec<f32>,
    /// `A_t`, whitened where the configuration says so, (M,).
    pub advantages: Vec<f32>,
    /// `R_t`, taken before the advantages are whitened, (M,).
    pub returns: Vec<f32>,
}

/// Adds the channels up, whitens, and asks the estimator.
pub fn targets(
    rollout: &Rollout,
    estimator: &AdvantageInstance,
    config: &PpoConfig,
    step: u64,
    context: &StageContext<'_>,
) -> Result<Targets> {
    let total = rewards::total(&rollout.channels, rollout.response_tokens());
    let mut whitened = total.clone();
    whiten(&mut whitened, config.reward_whitening, Mean::Keep);
    let ragged = |values: Vec<f32>| RaggedVec::from_parts(values, rollout.offsets.clone());
    let whitened = ragged(whitened)?;
    let values = rollout.values.clone().map(ragged).transpose()?;
    let trajectories = Trajectories {
        rewards: whitened.view(),
        values: values.as_ref().map(RaggedVec::view),
        groups: &rollout.groups,
    };
    let call_log = log(context);
    let call = context.call("advantage", step, &call_log);
    let (mut advantages, returns) = estimator.estimate(&trajectories, &call)?;
    whiten(&mut advantages, config.advantage_whitening, Mean::Remove);
    Ok(Targets {
        rewards: total,
        advantages,
        returns,
    })
}
