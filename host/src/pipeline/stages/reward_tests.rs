//! What a reward model can do on data that it was not trained on: accuracy on pairs and on edits, and localisation.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{HELD_OUT_EDITS, HELD_OUT_PAIRS, reward_model};
use crate::config::{Config, RewardChoice, Task};
use crate::data::jsonl;
use crate::data::ragged::TokenBatch;
use crate::data::records::{Pair, Record};
use crate::error::Result;
use crate::eval::sequence_rewards::{ScoredText, sequence_rewards};
use crate::eval::{MarkedResponse, RankedPair};
use crate::model::ends;
use crate::pipeline::Session;
use crate::pipeline::context::StageContext;
use crate::pipeline::store::{Artifact, StageKey};
use crate::plugins::RewardInstance;
use crate::sandbox;
use crate::train::forward;
use crate::train::rollout_batch::{RewardSource, RolloutBatch, ended};

/// Held-out preference pairs with the reward of both sides.
pub const RANKED_PAIRS: &str = "ranked_pairs.jsonl";
/// Held-out edits with the reward of both sides.
pub const RANKED_EDITS: &str = "ranked_edits.jsonl";
/// Held-out responses with a score and a mark for every token.
pub const MARKED: &str = "marked.jsonl";

/// Tokens that go through the reward model together.
const MICRO_BATCH_TOKENS: usize = 4096;

/// A response with the reward head's score and the reward for PPO at every token, and a mark where the token is defective
/// (sandbox) or was changed by the edit (other tasks).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MarkedTokens {
    /// The pair's id.
    pub id: String,
    /// Score per token.
    pub scores: Vec<f32>,
    /// What PPO is given per token, before weight and KL.
    pub rewards: Vec<f32>,
    /// 1 where marked, else 0.
    pub marks: Vec<u8>,
}

impl Record for MarkedTokens {
    const KIND: &'static str = "a response with marks";
    const REQUIRED: &'static [&'static str] = &["id", "scores", "rewards", "marks"];

    fn id(&self) -> &str {
        &self.id
    }

    fn texts(&self) -> Vec<(&'static str, &str)> {
        Vec::new()
    }
}

impl MarkedTokens {
    /// By the reward head's score.
    pub fn scored(self) -> MarkedResponse {
        MarkedResponse {
            rewards: self.scores,
            marks: self.marks,
        }
    }

    /// By the reward that PPO is given.
    pub fn rewarded(self) -> MarkedResponse {
        MarkedResponse {
            rewards: self.rewards,
            marks: self.marks,
        }
    }
}

/// The tests of a reward model.
pub fn obtain(
    session: &Session<'_>,
    config: &Config,
    choice: &RewardChoice,
    model: &Artifact,
    pairs: &Artifact,
    edits: &Artifact,
) -> Result<Artifact> {
    let scheme = session.registry.reward(&choice.plugin, &choice.options)?;
    let key = StageKey::new(
        "reward_tests",
        json!({
            "model": model.key,
            "pairs": pairs.key,
            "edits": edits.key,
            "seed": config.seed,
        }),
    );
    let title = format!(
        "test of the reward model ({}, {})",
        config.preferences, choice.plugin
    );
    session.stage(config, &title, key, |context| {
        let pairs: Vec<Pair> = jsonl::read(&pairs.file(HELD_OUT_PAIRS))?;
        let edits: Vec<Pair> = jsonl::read(&edits.file(HELD_OUT_EDITS))?;
        let tester = Tester::open(context, config, model, &scheme)?;
        jsonl::write(&context.dir.join(RANKED_PAIRS), &tester.ranked(&pairs)?)?;
        jsonl::write(&context.dir.join(RANKED_EDITS), &tester.ranked(&edits)?)?;
        // The originals are the policy's own samples: in the sandbox all of them, not only those that an edit was found for.
        let originals = if config.task == Task::Sandbox {
            &pairs
        } else {
            &edits
        };
        jsonl::write(&context.dir.join(MARKED), &tester.marked(originals)?)
    })
}

struct Tester<'a> {
    context: &'a StageContext<'a>,
    config: &'a Config,
    scheme: &'a RewardInstance,
    model: crate::model::ScoredModel,
    tokenizer: crate::data::tokenizer::Tokenizer,
}

impl<'a> Tester<'a> {
    fn open(
        context: &'a StageContext<'a>,
        config: &'a Config,
        model: &Artifact,
        scheme: &'a RewardInstance,
    ) -> Result<Self> {
        let (model, tokenizer) = reward_model::load(model, context.device)?;
        Ok(Self {
            context,
            config,
            scheme,
            model,
            tokenizer,
        })
    }

    /// R of both sides of every pair.
    fn ranked(&self, pairs: &[Pair]) -> Result<Vec<RankedPair>> {
        let ids = reward_model::token_pairs(
            self.config,
            &self.tokenizer,
            self.model.backbone.config(),
            pairs,
        )?;
        let mut texts = Vec::with_capacity(2 * pairs.len());
        for (pair, ids) in pairs.iter().zip(ids) {
            let text = |response, response_ids, ended| ScoredText {
                prompt: pair.prompt.as_str(),
                response,
                prompt_ids: ids.prompt.clone(),
                response_ids,
                ended,
            };
            texts.push(text(
                pair.chosen.as_str(),
                ids.chosen.clone(),
                pair.chosen_ended,
            ));
            texts.push(text(
                pair.rejected.as_str(),
                ids.rejected.clone(),
                pair.rejected_ended,
            ));
        }
        let log = self.context.plugin_log();
        let call = self.context.call("reward_tests", 0, &log);
        let rewards = sequence_rewards(&self.model, self.scheme, &texts, &call)?;
        Ok(pairs
            .iter()
            .zip(rewards.chunks_exact(2).zip(texts.chunks_exact(2)))
            .map(|(pair, (rewards, texts))| RankedPair {
                id: pair.id.clone(),
                chosen: f64::from(rewards[0]),
                rejected: f64::from(rewards[1]),
                chosen_length: texts[0].response_ids.len(),
                rejected_length: texts[1].response_ids.len(),
            })
            .collect())
    }

    /// The score, the reward and the mark of every token of the rejected responses.
    fn marked(&self, pairs: &[Pair]) -> Result<Vec<MarkedTokens>> {
        let ids = reward_model::token_pairs(
            self.config,
            &self.tokenizer,
            self.model.backbone.config(),
            pairs,
        )?;
        let mut batch = TokenBatch::new();
        for ids in &ids {
            batch.push(&ids.prompt, &ids.rejected);
        }
        let scores = forward::scores(&self.model, &batch, MICRO_BATCH_TOKENS)?;
        let ended = ended(&batch, &ends(self.model.backbone.config(), &self.tokenizer));
        let rollouts = RolloutBatch::new(&batch, ended, &|before, ids| {
            self.tokenizer.decode_behind(before, ids)
        })?;
        let source = RewardSource {
            name: "reward_tests",
            scheme: self.scheme,
            model: Some(&self.model),
        };
        let rewards =
            source.token_rewards(&batch, &rollouts, MICRO_BATCH_TOKENS, 0, self.context)?;
        let mut at = 0;
        pairs
            .iter()
            .zip(ids)
            .map(|(pair, ids)| {
                let tokens = at..at + ids.rejected.len();
                at = tokens.end;
                let marks = match self.config.task {
                    Task::Sandbox => {
                        sandbox::defect_marks(&self.tokenizer, &pair.prompt, &ids.rejected)?
                    }
                    Task::EditPairs | Task::Preferences => ids.rejected_changed,
                };
                Ok(MarkedTokens {
                    id: pair.id.clone(),
                    scores: scores[tokens.clone()].to_vec(),
                    rewards: rewards[tokens].to_vec(),
                    marks,
                })
            })
            .collect()
    }
}
