//! The evaluation stage: the policy's responses against a reference model's, on prompts that no other stage has seen. The
//! reference is whoever wrote the outputs of the user's file or, where there are none, the SFT model.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{EVAL_PROMPTS, EVAL_REFERENCES, sft};
use crate::config::Config;
use crate::data::jsonl;
use crate::data::records::{Demonstration, PromptRecord, Record};
use crate::error::{Error, Result};
use crate::eval::{Contest, Judge, Outcome, judge_both_orders};
use crate::model::Llama;
use crate::pipeline::Session;
use crate::pipeline::context::StageContext;
use crate::pipeline::judges;
use crate::pipeline::sampling::{Sampled, Sampler};
use crate::pipeline::store::{Artifact, StageKey};

/// One contest with both texts, as it lies in `outcomes.jsonl`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JudgedSample {
    /// The prompt.
    pub prompt: String,
    /// The policy's response.
    pub response: String,
    /// The reference's response.
    pub reference: String,
    /// What the judge said.
    pub outcome: Outcome,
}

impl Record for JudgedSample {
    const KIND: &'static str = "a judged sample";
    const REQUIRED: &'static [&'static str] = &["prompt", "response", "reference", "outcome"];

    fn id(&self) -> &str {
        &self.outcome.id
    }

    fn texts(&self) -> Vec<(&'static str, &str)> {
        Vec::new()
    }
}

/// The file of [`JudgedSample`]s.
pub const OUTCOMES: &str = "outcomes.jsonl";

/// The ids of a policy's response: its text may encode to other ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResponseIds {
    /// The prompt's id.
    pub id: String,
    /// The response as it was sampled, EOS included where it `ended`.
    pub ids: Vec<u32>,
    /// Whether it ended with EOS, rather than at the length limit.
    pub ended: bool,
}

impl Record for ResponseIds {
    const KIND: &'static str = "the ids of a response";
    const REQUIRED: &'static [&'static str] = &["id", "ids", "ended"];

    fn id(&self) -> &str {
        &self.id
    }

    fn texts(&self) -> Vec<(&'static str, &str)> {
        Vec::new()
    }
}

/// The file of [`ResponseIds`], one for every row of [`OUTCOMES`].
pub const RESPONSE_IDS: &str = "response_ids.jsonl";

/// The evaluation of a configuration's policy.
pub fn obtain(
    session: &Session<'_>,
    config: &Config,
    data: &Artifact,
    sft: &Artifact,
    ppo: &Artifact,
    judge_model: Option<&Artifact>,
) -> Result<Artifact> {
    let judge = judges::choose(session, &config.judge, judge_model)?;
    let key = StageKey::new(
        "evaluate",
        json!({
            "data": data.key,
            "sft": sft.key,
            "ppo": ppo.key,
            "judge": judge.fingerprint(),
            "sampling": config.evaluation.sampling,
            "seed": config.seed,
        }),
    );
    session.stage(
        config,
        &format!("{}: evaluation", config.name),
        key,
        |context| {
            let prompts: Vec<PromptRecord> = jsonl::read(&data.file(EVAL_PROMPTS))?;
            let (reference, tokenizer) = sft::load(sft, context.device)?;
            let policy = Llama::load(&ppo.file("policy"))?.to(context.device)?;
            let sample = |model: &Llama, name: &str| {
                let sampler = Sampler {
                    model,
                    tokenizer: &tokenizer,
                    template: &config.prompt_template,
                    sampling: &config.evaluation.sampling,
                };
                sampler.sample(context, &context.stream.child(name), &prompts, name)
            };
            let written = data.file(EVAL_REFERENCES);
            let theirs = if written.is_file() {
                outputs(&prompts, jsonl::read(&written)?)?
            } else {
                // The reference draws from a stream of its own, so that its responses are the same for every variant.
                texts(&sample(&reference, "reference")?)
            };
            let ours = sample(&policy, "policy")?;
            let outcomes = judge_samples(
                context,
                &*judge.open(context.device)?,
                0,
                &prompts,
                &ours,
                &theirs,
            )?;
            let ids: Vec<ResponseIds> = prompts
                .iter()
                .zip(&ours)
                .map(|(prompt, ours)| ResponseIds {
                    id: prompt.id.clone(),
                    ids: ours.ids.clone(),
                    ended: ours.ended,
                })
                .collect();
            jsonl::write(&context.dir.join(RESPONSE_IDS), &ids)?;
            let rows: Vec<JudgedSample> = prompts
                .into_iter()
                .zip(ours.into_iter().zip(theirs))
                .zip(outcomes)
                .map(|((prompt, (ours, theirs)), outcome)| JudgedSample {
                    prompt: prompt.prompt,
                    response: ours.text,
                    reference: theirs,
                    outcome,
                })
                .collect();
            jsonl::write(&context.dir.join(OUTCOMES), &rows)
        },
    )
}

/// The written output for each prompt.
fn outputs(prompts: &[PromptRecord], written: Vec<Demonstration>) -> Result<Vec<String>> {
    let ids = |found: &Demonstration, prompt: &PromptRecord| found.id == prompt.id;
    let together = prompts.len() == written.len()
        && prompts
            .iter()
            .zip(&written)
            .all(|(prompt, found)| ids(found, prompt));
    if !together {
        return Err(Error::internal(
            "the outputs of the reference are not those of the prompts",
        ));
    }
    Ok(written.into_iter().map(|row| row.response).collect())
}

/// The texts of samples.
pub(super) fn texts(samples: &[Sampled]) -> Vec<String> {
    samples.iter().map(|sample| sample.text.clone()).collect()
}

/// The judge's outcomes of responses against references, both orders.
pub(super) fn judge_samples(
    context: &StageContext<'_>,
    judge: &dyn Judge,
    step: u64,
    prompts: &[PromptRecord],
    responses: &[Sampled],
    references: &[String],
) -> Result<Vec<Outcome>> {
    let contests: Vec<Contest<'_>> = prompts
        .iter()
        .zip(responses.iter().zip(references))
        .map(|(prompt, (response, reference))| Contest {
            id: &prompt.id,
            prompt: &prompt.prompt,
            model: &response.text,
            reference,
        })
        .collect();
    let log = context.plugin_log();
    judge_both_orders(judge, &contests, &context.call("judge", step, &log))
}
