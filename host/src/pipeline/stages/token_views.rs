//! The token views: what reward, critic and reference say of the evaluated responses, token by token.
//!
//! The first prompts of the final evaluation only. Rewards, values and advantages come from the code of PPO's own rollouts,
//! with the gains and the β that PPO ended with, as if these responses were one more rollout: where `ppo` whitens rewards or
//! advantages, they are whitened over the responses shown. The critic is the one after the last step.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::evaluate::{JudgedSample, OUTCOMES, RESPONSE_IDS, ResponseIds};
use super::ppo::{CRITIC, PpoSummary, channel_names, weighted_sources};
use super::{reward_model, sft};
use crate::config::Config;
use crate::data::jsonl;
use crate::data::ragged::TokenBatch;
use crate::data::records::Record;
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::model::{CausalLm, ScoredModel, ends};
use crate::pipeline::Session;
use crate::pipeline::encoding::Encoder;
use crate::pipeline::report::read_report;
use crate::pipeline::store::{Artifact, StageKey};
use crate::train::ppo::kl::KlPlacement;
use crate::train::ppo::reward_scale::Gains;
use crate::train::ppo::rollout::{self, Environment, Models, Responses, Sampled};

/// The file of [`TokenView`]s.
pub const TOKENS: &str = "tokens.jsonl";

/// One evaluated response; every list has a figure for each of its T tokens, EOS included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenView {
    /// The prompt's id.
    pub id: String,
    /// The prompt, before the template.
    pub prompt: String,
    /// The text of every token; together they are the response. Special tokens are empty, and a character of several tokens
    /// stands at its last.
    pub tokens: Vec<String>,
    /// The sum of the channels: what the schemes gave, weighted and scaled as in PPO, without KL.
    pub reward: Vec<f32>,
    /// The reward's parts by name, in the order of the configuration.
    pub channels: serde_json::Map<String, serde_json::Value>,
    /// log π − log `π_ref` at PPO's temperature, in nats.
    pub kl: Vec<f32>,
    /// What PPO's update would take; `None` where the estimator compares several responses to one prompt.
    pub advantage: Option<Vec<f32>>,
    /// The critic's value before the token; `None` without a critic.
    pub value: Option<Vec<f32>>,
    /// The sum of `reward` over the tokens.
    pub total: f32,
    /// How much the judge prefers the response to the reference's, 0 to 1; `None` where it failed.
    pub preference: Option<f64>,
    /// Whether the last token is EOS, rather than the length limit's.
    pub ended: bool,
}

impl Record for TokenView {
    const KIND: &'static str = "a response token by token";
    const REQUIRED: &'static [&'static str] =
        &["id", "prompt", "tokens", "reward", "kl", "total", "ended"];

    fn id(&self) -> &str {
        &self.id
    }

    fn texts(&self) -> Vec<(&'static str, &str)> {
        Vec::new()
    }
}

/// The token views of a configuration; `None` where it asks for none.
pub fn obtain(
    session: &Session<'_>,
    config: &Config,
    sft: &Artifact,
    reward_models: &[Option<Artifact>],
    ppo: &Artifact,
    evaluation: &Artifact,
) -> Result<Option<Artifact>> {
    let count = config.evaluation.token_views;
    if count == 0 {
        return Ok(None);
    }
    // What rewards and advantages follow from is in the keys of PPO and of the evaluation.
    let key = StageKey::new(
        "token_views",
        json!({
            "ppo": ppo.key,
            "evaluation": evaluation.key,
            "responses": count,
            "seed": config.seed,
        }),
    );
    let title = format!("{}: token views", config.name);
    session
        .stage(config, &title, key, |context| {
            let schemes = config
                .reward
                .iter()
                .map(|choice| session.registry.reward(&choice.plugin, &choice.options))
                .collect::<Result<Vec<_>>>()?;
            let estimator = session
                .registry
                .advantage(&config.advantage.plugin, &config.advantage.options)?;
            let models = reward_models
                .iter()
                .map(|model| {
                    let load = |model| {
                        let (model, _) = reward_model::load(model, context.device)?;
                        Ok::<_, Error>(model)
                    };
                    model.as_ref().map(load).transpose()
                })
                .collect::<Result<Vec<_>>>()?;
            let names = channel_names(config);
            let rewards = weighted_sources(config, &schemes, &models, &names);
            let (reference, tokenizer) = sft::load(sft, context.device)?;
            let policy = CausalLm::load(&ppo.file("policy"))?.to(context.device)?;
            let critic = estimator.capabilities().needs_critic;
            let critic = critic.then(|| ScoredModel::load(&ppo.file(CRITIC))?.to(context.device));
            let critic = critic.transpose()?;
            let shown = Shown::read(config, evaluation, &tokenizer, &reference, count)?;

            let summary: PpoSummary = read_report(&ppo.dir)?;
            let mut gains = Gains::decided(config.ppo.reward_scale, summary.gains);
            let rollout = rollout::measure(
                &Models {
                    policy: &policy,
                    reference: &reference,
                    critic: critic.as_ref(),
                },
                &Environment {
                    rewards: &rewards,
                    prompts: &[],
                    decode: &|before, ids| tokenizer.decode_behind(before, ids),
                    eos: &ends(reference.config(), &tokenizer),
                    config: &config.ppo,
                },
                shown.responses(),
                summary.kl_coef,
                &mut gains,
                config.ppo.steps,
                context,
            )?;
            // One response to a prompt is no group to compare within.
            let advantages = if estimator.capabilities().samples_per_prompt > 1 {
                None
            } else {
                let targets =
                    rollout::targets(&rollout, &estimator, &config.ppo, config.ppo.steps, context)?;
                Some(targets.advantages)
            };
            let views = views(config, &tokenizer, shown, &rollout, advantages.as_deref())?;
            jsonl::write(&context.dir.join(TOKENS), &views)
        })
        .map(Some)
}

/// The responses that are shown, and what was judged of them.
struct Shown {
    samples: Vec<JudgedSample>,
    ids: Vec<ResponseIds>,
    batch: TokenBatch,
}

impl Shown {
    fn read(
        config: &Config,
        evaluation: &Artifact,
        tokenizer: &Tokenizer,
        model: &CausalLm,
        count: usize,
    ) -> Result<Self> {
        let mut samples: Vec<JudgedSample> = jsonl::read(&evaluation.file(OUTCOMES))?;
        let mut ids: Vec<ResponseIds> = jsonl::read(&evaluation.file(RESPONSE_IDS))?;
        samples.truncate(count);
        ids.truncate(count);
        let encoder = Encoder::new(tokenizer, &config.prompt_template, model.config());
        let mut batch = TokenBatch::new();
        for (sample, response) in samples.iter().zip(&ids) {
            if sample.outcome.id != response.id || response.ids.is_empty() {
                return Err(Error::internal(format!(
                    "response `{}` stands where that to `{}` should, or has no token",
                    response.id, sample.outcome.id
                )));
            }
            batch.push(
                &encoder.prompt(&response.id, &sample.prompt)?,
                &response.ids,
            );
        }
        Ok(Self {
            samples,
            ids,
            batch,
        })
    }

    fn responses(&self) -> Responses {
        Responses {
            batch: self.batch.clone(),
            groups: (0..=self.ids.len() as u64).collect(),
            ended: self.ids.iter().map(|row| u8::from(row.ended)).collect(),
            sampled: Sampled::Nothing,
            first: None,
        }
    }
}

fn views(
    config: &Config,
    tokenizer: &Tokenizer,
    shown: Shown,
    rollout: &rollout::Rollout,
    advantages: Option<&[f32]>,
) -> Result<Vec<TokenView>> {
    let log_ratios = rollout.log_ratios();
    // The KL channel comes last, where there is one; it is shown by itself.
    let parts = match config.ppo.kl_placement {
        KlPlacement::Reward => &rollout.channels[..rollout.channels.len() - 1],
        KlPlacement::Loss | KlPlacement::None => &rollout.channels[..],
    };
    let reward = crate::train::ppo::rewards::total(parts, rollout.response_tokens());
    let batch = &shown.batch;
    shown
        .samples
        .into_iter()
        .zip(shown.ids)
        .zip(rollout.offsets.windows(2))
        .enumerate()
        .map(|(at, ((sample, response), bounds))| {
            let row = bounds[0] as usize..bounds[1] as usize;
            let channels = parts
                .iter()
                .map(|part| (part.name.clone(), json!(part.rewards[row.clone()])));
            Ok(TokenView {
                tokens: tokenizer.pieces(batch.prompt(at), &response.ids)?,
                channels: channels.collect(),
                kl: log_ratios[row.clone()].to_vec(),
                advantage: advantages.map(|all| all[row.clone()].to_vec()),
                value: rollout.values.as_ref().map(|all| all[row.clone()].to_vec()),
                total: reward[row.clone()].iter().sum(),
                reward: reward[row].to_vec(),
                id: response.id,
                prompt: sample.prompt,
                preference: sample.outcome.preference,
                ended: response.ended,
            })
        })
        .collect()
}
