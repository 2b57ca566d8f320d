//! The evaluation stage: the policy's responses against a reference model's, on prompts that no other stage has seen. The
//! reference is whoever wrote the outputs of the user's file or, where there are none, the SFT model.

use finegrain_sdk::CallContext;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{EVAL_PROMPTS, EVAL_REFERENCES, sft};
use crate::config::{Config, JudgeConfig};
use crate::data::jsonl;
use crate::data::records::{Demonstration, PromptRecord, Record};
use crate::error::{Error, Result};
use crate::eval::{Contest, Outcome, Panel};
use crate::model::CausalLm;
use crate::pipeline::Session;
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
            // Since outcomes hold the verdict of each order, older ones are judged again: no request that was paid is.
            "verdicts": "of-each-order",
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
            let policy = CausalLm::load(&ppo.file("policy"))?.to(context.device)?;
            let sample = |model: &CausalLm, name: &str| {
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
            let judge = judge.open(context.device, context.dir)?;
            let log = context.plugin_log();
            let progress = |done: u64, total: u64| context.observer.progress(done, total, "judged");
            let call = CallContext {
                progress: &progress,
                ..context.call("judge", 0, &log)
            };
            let outcomes = judge_samples(&judge, &prompts, &ours, &theirs, &call)?;
            check_failures("judge", &config.judge, &outcomes)?;
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
    judge: &Panel,
    prompts: &[PromptRecord],
    responses: &[Sampled],
    references: &[String],
    call: &CallContext<'_>,
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
    judge.judge(&contests, call)
}

/// Ends the stage where the judge, or any judge of a panel, failed on more contests than `judge.max_failed` allows: after an outage,
/// a win rate over what is left would stand in the store as if it were whole.
pub(super) fn check_failures(
    section: &str,
    config: &JudgeConfig,
    outcomes: &[Outcome],
) -> Result<()> {
    for judge in config.members() {
        let failed = outcomes.iter().filter_map(|outcome| {
            let failure = if config.is_panel() {
                &outcome.member(judge.name)?.failure
            } else {
                &outcome.failure
            };
            Some((&outcome.id, failure.as_ref()?))
        });
        let failures: Vec<(&String, &String)> = failed.collect();
        let Some((id, first)) = failures.first() else {
            continue;
        };
        if failures.len() as f64 <= config.max_failed * outcomes.len() as f64 {
            continue;
        }
        return Err(Error::plugin(format!(
            "judge `{}` failed on {} of {} comparisons, more than {section}.max_failed = {} allows; the first, {id:?}: {first}",
            judge.name,
            failures.len(),
            outcomes.len(),
            config.max_failed,
        ))
        .hint("a judge that asks a server keeps its answers: the same command asks again for what failed"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::MemberOutcome;

    #[test]
    fn a_judge_may_fail_on_as_many_as_the_configuration_says() {
        let outcomes = |failed: usize| -> Vec<Outcome> {
            let outcome = |i: usize| Outcome {
                id: format!("row-{i}"),
                preference: None,
                verdicts: [None; 2],
                flip: false,
                identical: false,
                failure: (i < failed).then(|| "model-first: 503".to_owned()),
                reasons: [String::new(), String::new()],
                length_model: 1,
                length_reference: 1,
                members: Vec::new(),
            };
            (0..20).map(outcome).collect()
        };
        let config = JudgeConfig::default();
        assert!(check_failures("judge", &config, &outcomes(0)).is_ok());
        assert!(check_failures("judge", &config, &outcomes(1)).is_ok());
        let error = check_failures("judge", &config, &outcomes(2)).unwrap_err();
        assert_eq!(error.exit_code(), 4);
        for word in ["2 of 20", "judge.max_failed = 0.05", "row-0", "503"] {
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    /// The panel's outcome is there, for the other member has answered; the one that is ill is named all the same.
    #[test]
    fn each_member_of_a_panel_may_fail_on_as_many() {
        let config: JudgeConfig = serde_json::from_value(json!({
            "use": "panel", "panel": [{"use": "claude"}, {"use": "openai", "name": "ill"}],
        }))
        .unwrap();
        let member = |judge: &str, failure: Option<&str>| MemberOutcome {
            judge: judge.to_owned(),
            preference: failure.is_none().then_some(1.0),
            verdicts: [failure.is_none().then_some(1.0); 2],
            flip: false,
            failure: failure.map(str::to_owned),
            reasons: [String::new(), String::new()],
        };
        let outcomes = |ill: Option<&str>| {
            [Outcome {
                id: "row".into(),
                preference: Some(1.0),
                verdicts: [Some(1.0); 2],
                flip: false,
                identical: false,
                failure: None,
                reasons: [String::new(), String::new()],
                length_model: 1,
                length_reference: 2,
                members: vec![member("claude", None), member("ill", ill)],
            }]
        };
        assert!(check_failures("annotator", &config, &outcomes(None)).is_ok());
        let error = check_failures("annotator", &config, &outcomes(Some("503"))).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("judge `ill`") && text.contains("annotator.max_failed"),
            "{text}"
        );
    }
}
