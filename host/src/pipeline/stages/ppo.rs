//! The PPO stage: from the SFT model to a policy, with the reward schemes and the advantage estimator that are chosen.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{PPO_PROMPTS, REWARD_PROMPTS, evaluate, reward_model, sft};
use crate::config::{CheckpointChoice, Config};
use crate::data::jsonl;
use crate::data::records::PromptRecord;
use crate::error::{Error, Result};
use crate::eval::EvaluationPoint;
use crate::eval::statistics::standard_error;
use crate::model::ends::in_words;
use crate::model::{CausalLm, ScoredModel, ends};
use crate::pipeline::Session;
use crate::pipeline::adapters;
use crate::pipeline::encoding::Encoder;
use crate::pipeline::judges;
use crate::pipeline::report::write_report;
use crate::pipeline::sampling::Sampler;
use crate::pipeline::store::{Artifact, StageKey};
use crate::plugins::RewardInstance;
use crate::train::ppo::{self, PpoConfig, PpoInputs, PpoPreset, WeightedSource};
use crate::train::rollout_batch::RewardSource;

/// What a PPO run says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PpoSummary {
    /// The win rate against the SFT model on training-time prompts, at every evaluation.
    pub evaluations: Vec<EvaluationPoint>,
    /// The step with the highest of them.
    pub best_step: u64,
    /// Responses sampled for training.
    pub samples: u64,
    /// Optimizer steps of the policy.
    pub optimizer_steps: u64,
    /// Seconds of training, without evaluations.
    pub wall_seconds: f64,
    /// What `reward_scale` multiplied the rewards of each scheme by; empty where it left them.
    pub gains: Vec<f64>,
    /// β after the last step.
    pub kl_coef: f64,
}

/// The folder of the critic after the last step, beside `policy`; there where the estimator needs one.
pub const CRITIC: &str = "critic";

/// The policy after PPO, in the folder `policy`; `last` and `best` hold both checkpoints where they differ.
pub fn obtain(
    session: &Session<'_>,
    config: &Config,
    data: &Artifact,
    sft: &Artifact,
    reward_models: &[Option<Artifact>],
    judge_model: Option<&Artifact>,
) -> Result<Artifact> {
    let schemes = config
        .reward
        .iter()
        .map(|choice| session.registry.reward(&choice.plugin, &choice.options))
        .collect::<Result<Vec<_>>>()?;
    let advantage = session
        .registry
        .advantage(&config.advantage.plugin, &config.advantage.options)?;
    let judge = judges::choose(session, &config.judge, judge_model)?;
    let rewards: Vec<_> = config
        .reward
        .iter()
        .zip(&schemes)
        .zip(reward_models)
        .map(|((choice, scheme), model)| {
            json!({
                "scheme": scheme.fingerprint(),
                "weight": choice.weight,
                "model": model.as_ref().map(|model| &model.key),
            })
        })
        .collect();
    let key = StageKey::new(
        "ppo",
        json!({
            "data": data.key,
            "sft": sft.key,
            "template": config.prompt_template,
            "rewards": rewards,
            "advantage": advantage.fingerprint(),
            // What the preset has filled in is in the other keys.
            "ppo": PpoConfig { preset: PpoPreset::default(), ..config.ppo.clone() },
            "judge": judge.fingerprint(),
            "evaluation": {
                "sampling": config.evaluation.sampling,
                "every": config.evaluation.every,
                "prompts": config.evaluation.prompts_while_training,
                "checkpoint": config.evaluation.checkpoint,
            },
            "seed": config.seed,
        }),
    );
    session.stage(config, &format!("{}: ppo", config.name), key, |context| {
        let (reference, tokenizer) = sft::load(sft, context.device)?;
        let ready = |model: &Artifact| {
            // A critic is made of it, which is trained as the policy is.
            let model = reward_model::load(model, context.device)?.0;
            adapters::ready_scored(model, &config.model, &context.stream.child("critic"))
        };
        let models = reward_models
            .iter()
            .map(|model| model.as_ref().map(ready).transpose())
            .collect::<Result<Vec<_>>>()?;
        let names = channel_names(config);
        let rewards = weighted_sources(config, &schemes, &models, &names);
        let encoder = Encoder::new(&tokenizer, &config.prompt_template, reference.config());
        let prompts = jsonl::read::<PromptRecord>(&data.file(PPO_PROMPTS))?
            .iter()
            .map(|prompt| encoder.prompt(&prompt.id, &prompt.prompt))
            .collect::<Result<Vec<_>>>()?;

        // The prompts of the reward stage choose the checkpoint, so that the final evaluation's stay unseen.
        let mut watched: Vec<PromptRecord> = jsonl::read(&data.file(REWARD_PROMPTS))?;
        watched.truncate(config.evaluation.prompts_while_training);
        let judge = judge.open(context.device, context.dir)?;
        let stream = context.stream.child("evaluation");
        let sample = |model: &CausalLm, place: &finegrain_sdk::rng::Stream| {
            let sampler = Sampler {
                model,
                tokenizer: &tokenizer,
                template: &config.prompt_template,
                sampling: &config.evaluation.sampling,
            };
            sampler.sample(context, place, &watched, "")
        };
        let references = evaluate::texts(&sample(&reference, &stream.child("reference"))?);
        let log = context.plugin_log();
        let mut evaluate = |step: u64, policy: &CausalLm| {
            let call = context.call("judge", step, &log);
            let responses = sample(policy, &stream.child("policy").index(step))?;
            let outcomes =
                evaluate::judge_samples(&judge, &watched, &responses, &references, &call)?;
            evaluate::check_failures("judge", &config.judge, &outcomes)?;
            let judged: Vec<f64> = outcomes
                .iter()
                .filter_map(|outcome| outcome.preference)
                .collect();
            if judged.is_empty() {
                return Err(Error::plugin("the judge failed on every prompt"));
            }
            let score = judged.iter().sum::<f64>() / judged.len() as f64;
            if let Some(error) = standard_error(&judged) {
                let noise = [("evaluation/standard_error", error)];
                context.observer.metrics(step, &noise);
            }
            Ok(score)
        };
        let eos = ends(reference.config(), &tokenizer);
        session.say(&format!(
            "{}: ppo: a response ends with {}",
            config.name,
            in_words(&eos, &tokenizer)
        ));
        let decode = |before: &[u32], ids: &[u32]| tokenizer.decode_behind(before, ids);
        let report = ppo::run(
            PpoInputs {
                policy: adapters::ready(reference.clone(), &config.model, &context.stream)?,
                reference: &reference,
                rewards: &rewards,
                advantage: &advantage,
                prompts: &prompts,
                decode: &decode,
                eos: &eos,
                config: &config.ppo,
                evaluate_every: config.evaluation.every,
                evaluate: &mut evaluate,
            },
            context,
        )?;
        let save =
            |model: &CausalLm, dir: &Path| adapters::save(model, &tokenizer, &config.model, dir);
        let (policy, other, other_name) = match config.evaluation.checkpoint {
            CheckpointChoice::Last => (&report.last, &report.best, "best"),
            CheckpointChoice::Best => (&report.best, &report.last, "last"),
        };
        save(policy, &context.dir.join("policy"))?;
        save(other, &context.dir.join(other_name))?;
        if let Some(critic) = &report.critic {
            let dir = context.dir.join(CRITIC);
            adapters::save(critic, &tokenizer, &config.model, &dir)?;
        }
        write_report(
            context.dir,
            &PpoSummary {
                evaluations: report.evaluations,
                best_step: report.best_step,
                samples: report.samples,
                optimizer_steps: report.optimizer_steps,
                wall_seconds: report.wall_seconds,
                gains: report.gains.values().to_vec(),
                kl_coef: report.kl_coef,
            },
        )
    })
}

/// The schemes with their weights, reward models and names, each a channel.
pub(super) fn weighted_sources<'a>(
    config: &Config,
    schemes: &'a [RewardInstance],
    models: &'a [Option<ScoredModel>],
    names: &'a [String],
) -> Vec<WeightedSource<'a>> {
    let sources = schemes.iter().zip(models).zip(names);
    let sources = sources.map(|((scheme, model), name)| RewardSource {
        name,
        scheme,
        model: model.as_ref(),
    });
    let weights = config.reward.iter().map(|choice| choice.weight as f32);
    weights
        .zip(sources)
        .map(|(weight, source)| WeightedSource { weight, source })
        .collect()
}

/// A channel's name is its scheme's; schemes that occur twice are numbered.
pub(crate) fn channel_names(config: &Config) -> Vec<String> {
    let of = |at: usize| &config.reward[at].plugin;
    (0..config.reward.len())
        .map(|at| {
            let before = (0..at).filter(|&other| of(other) == of(at)).count();
            if before == 0 {
                of(at).clone()
            } else {
                format!("{}-{}", of(at), before + 1)
            }
        })
        .collect()
}
