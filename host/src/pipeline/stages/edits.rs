//! The edits stage: the less preferred responses, minimally edited; what is no minimal edit is set aside with a reason.
//!
//! As in the paper, only the less preferred response of a pair is used, so that edits and pairs are the same amount of
//! data. Edit pairs out of a file are already edited and go through the same checks.

use std::collections::BTreeMap;
use std::path::Path;

use finegrain_sdk::CallContext;
use finegrain_sdk::kinds::EditRequests;
use serde_json::json;

use super::{
    EDIT_ANSWERS, EDITS, HELD_OUT_EDIT_ANSWERS, HELD_OUT_EDITS, HELD_OUT_PAIRS, MODEL, PAIRS,
};
use crate::config::{Config, EditorConfig};
use crate::data::alignment::{AlignmentConfig, EditStatistics, align};
use crate::data::jsonl::{self, Log};
use crate::data::ragged::TextVec;
use crate::data::records::{
    EditRecord, Outcome, Pair, PairSource, SetAside, SetAsideReason, counted,
};
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::model::{checkpoint, ends};
use crate::pipeline::Session;
use crate::pipeline::atomic::write_atomic;
use crate::pipeline::context::StageContext;
use crate::pipeline::encoding::Encoder;
use crate::pipeline::store::{Artifact, StageKey};
use crate::plugins::{Edit, EditorInstance};

/// The edits of a configuration. `source` has the pairs whose rejected responses are edited or, where a file is of edits, those.
pub fn obtain(
    session: &Session<'_>,
    config: &Config,
    source: &Artifact,
    sft: &Artifact,
) -> Result<Artifact> {
    let editor = if config.task.has_editor() {
        let editor = &config.editor;
        Some(session.registry.editor(&editor.plugin, &editor.options)?)
    } else {
        None
    };
    let fingerprint = editor.as_ref().map(EditorInstance::fingerprint);
    let key = StageKey::new(
        "edits",
        json!({
            "source": source.key,
            "sft": sft.key,
            "editor": fingerprint,
            "alignment": config.alignment,
            "seed": config.seed,
        }),
    );
    session.stage(config, "edits", key.clone(), |context| {
        let answers = session.store.answers(&key)?;
        let model = sft.file(MODEL);
        let tokenizer = Tokenizer::load(&model)?;
        let sizes = checkpoint::sizes(&model)?;
        let encoder = Encoder::new(&tokenizer, &config.prompt_template, &sizes);
        let mut set_aside = Vec::new();
        let mut statistics = BTreeMap::new();
        for (part, from, to, whole) in [
            ("train", PAIRS, EDITS, EDIT_ANSWERS),
            (
                "held_out",
                HELD_OUT_PAIRS,
                HELD_OUT_EDITS,
                HELD_OUT_EDIT_ANSWERS,
            ),
        ] {
            let edited = match &editor {
                Some(editor) => {
                    let log = answers.join(format!("{part}.jsonl"));
                    let pairs: Vec<Pair> = jsonl::read(&source.file(from))?;
                    let answers = edit(context, &config.editor, editor, &log, &pairs)?;
                    // The whole answers stay with the stage's result.
                    jsonl::write(&context.dir.join(whole), &answers)?;
                    edited(&pairs, answers, &mut set_aside)
                }
                None => jsonl::read::<Pair>(&source.file(to))?,
            };
            let kept = keep_minimal(
                &encoder,
                &ends(&sizes, &tokenizer),
                edited,
                &config.alignment,
                &mut set_aside,
            )?;
            if kept.pairs.is_empty() && part == "train" {
                return Err(Error::input(format!(
                    "no edit pairs are left; {} were set aside",
                    set_aside.len()
                ))
                .hint(format!(
                    "the reasons are counted here: {}",
                    counted(&set_aside)
                )));
            }
            jsonl::write(&context.dir.join(to), &kept.pairs)?;
            statistics.insert(part, kept.statistics);
        }
        context.set_aside(&set_aside)?;
        let text = serde_json::to_vec_pretty(&statistics)
            .map_err(|error| Error::internal(format!("statistics do not serialise: {error}")))?;
        write_atomic(&context.dir.join("statistics.json"), &text)
    })
}

/// What the editor makes of the rejected response of every pair, in the order of the pairs. Answers go to a log as they come,
/// so that an editor that costs money or time is not asked again after an interruption.
fn edit(
    context: &StageContext<'_>,
    config: &EditorConfig,
    editor: &EditorInstance,
    log: &Path,
    pairs: &[Pair],
) -> Result<Vec<EditRecord>> {
    let (mut log, answered) = Log::<EditRecord>::open(log)?;
    let mut answers: BTreeMap<String, EditRecord> = answered
        .into_iter()
        .map(|record| (record.id.clone(), record))
        .collect();
    let asked: Vec<&Pair> = pairs
        .iter()
        .filter(|pair| !answers.contains_key(&pair.id))
        .collect();
    context.check_cancelled()?;
    ask(context, editor, &asked, &mut log, &mut answers)?;
    let answers: Vec<EditRecord> = pairs
        .iter()
        .map(|pair| {
            answers.remove(&pair.id).ok_or_else(|| {
                Error::internal(format!("the editor's answer to {:?} is lost", pair.id))
            })
        })
        .collect::<Result<_>>()?;
    check_failures(config, editor, &answers)?;
    Ok(answers)
}

/// The pairs that an editor's answers make: the edit becomes the chosen response. What is no edit is set aside.
fn edited(pairs: &[Pair], answers: Vec<EditRecord>, set_aside: &mut Vec<SetAside>) -> Vec<Pair> {
    let mut edited = Vec::with_capacity(pairs.len());
    for (pair, answer) in pairs.iter().zip(answers) {
        let (reason, detail) = match answer.outcome {
            Outcome::Edited { response } if response.trim().is_empty() => (
                SetAsideReason::EmptyResponse,
                "the edit is empty".to_owned(),
            ),
            Outcome::Edited { response } => {
                edited.push(Pair {
                    chosen: response,
                    // Whoever edits a response hands in a whole one, even where the original was cut off.
                    chosen_ended: true,
                    flipped: false,
                    source: PairSource::Edits,
                    // The edit is a text. So is the original here: both are cut into tokens in the same way, or the diff would
                    // find changes where a sample was cut otherwise.
                    sampled: None,
                    ..pair.clone()
                });
                continue;
            }
            Outcome::Unchanged => (
                SetAsideReason::Identical,
                "unchanged by the editor".to_owned(),
            ),
            Outcome::Refused { reason } => (SetAsideReason::Refused, reason),
            Outcome::Failed { error } => (SetAsideReason::Failed, error),
            Outcome::Rejected { reason } => (SetAsideReason::Rejected, reason),
        };
        set_aside.push(SetAside::new(&pair.id, reason, detail));
    }
    edited
}

/// Edits some responses, all in one call: an editor that asks a server has so many requests under way at a time, which a call of
/// a few rows would let run dry at its end. Every answer is stored as it comes.
fn ask(
    context: &StageContext<'_>,
    editor: &EditorInstance,
    pairs: &[&Pair],
    log: &mut Log<EditRecord>,
    answers: &mut BTreeMap<String, EditRecord>,
) -> Result<()> {
    if pairs.is_empty() {
        return Ok(());
    }
    let ids: TextVec = pairs.iter().map(|pair| &pair.id).collect();
    let prompts: TextVec = pairs.iter().map(|pair| &pair.prompt).collect();
    let responses: TextVec = pairs.iter().map(|pair| &pair.rejected).collect();
    let requests = EditRequests {
        ids: ids.view(),
        prompts: prompts.view(),
        responses: responses.view(),
    };
    let plugin_log = context.plugin_log();
    let progress = |done: u64, total: u64| context.observer.progress(done, total, "");
    let call = CallContext {
        progress: &progress,
        ..context.call("editor", 0, &plugin_log)
    };
    // An answer from elsewhere may have been paid for, so each is on disk before the next. Those that are computed here
    // are synced together: one by one, waiting for the disk would take longer than everything else.
    let remote = editor.capabilities().network;
    // The instance checks that rows are in the batch, and that every row is pushed once.
    editor.edit(&requests, &call, &mut |row, edit| {
        let pair = pairs[row];
        let Edit { outcome, origin } = edit;
        let record = EditRecord {
            id: pair.id.clone(),
            prompt: pair.prompt.clone(),
            original: pair.rejected.clone(),
            outcome: outcome.into(),
            origin,
        };
        // A failure is no answer: another attempt asks again.
        if !matches!(record.outcome, Outcome::Failed { .. }) {
            log.append(&record)?;
            if remote {
                log.sync()?;
            }
        }
        answers.insert(record.id.clone(), record);
        Ok(())
    })?;
    log.sync()
}

/// Ends the stage where more requests failed than `editor.max_failed` allows: after an outage, a result of what is left would
/// stand in the store as if it were whole.
fn check_failures(
    config: &EditorConfig,
    editor: &EditorInstance,
    answers: &[EditRecord],
) -> Result<()> {
    let failures = answers.iter().filter_map(|answer| match &answer.outcome {
        Outcome::Failed { error } => Some((&answer.id, error)),
        _ => None,
    });
    let failed = failures.clone().count();
    let Some((id, first)) = failures.into_iter().next() else {
        return Ok(());
    };
    if failed as f64 <= config.max_failed * answers.len() as f64 {
        return Ok(());
    }
    Err(Error::plugin(format!(
        "{} failed on {failed} of {} responses, more than editor.max_failed = {} allows; the first, {id:?}: {first}",
        editor.identity(),
        answers.len(),
        config.max_failed,
    ))
    .hint("what was answered is kept: the same command asks again for what failed, and nothing else"))
}

struct Minimal {
    pairs: Vec<Pair>,
    statistics: EditStatistics,
}

fn keep_minimal(
    encoder: &Encoder<'_>,
    eos: &[u32],
    pairs: Vec<Pair>,
    alignment: &AlignmentConfig,
    set_aside: &mut Vec<SetAside>,
) -> Result<Minimal> {
    let mut kept = Vec::with_capacity(pairs.len());
    let mut alignments = Vec::with_capacity(pairs.len());
    for pair in pairs {
        let responses = [
            (&*pair.rejected, pair.rejected_ended),
            (&*pair.chosen, pair.chosen_ended),
        ];
        if let Some((reason, detail)) = encoder.refuses(&pair.id, &pair.prompt, &responses, None)? {
            set_aside.push(SetAside::new(pair.id, reason, detail));
            continue;
        }
        let ids = encoder.pair(&pair)?;
        let aligned = align(&ids.rejected, &ids.chosen, eos, alignment);
        match aligned.set_aside(alignment.max_changed) {
            None => kept.push(pair),
            Some(reason) => {
                let detail = format!(
                    "{:.0}% of the tokens are changed",
                    100.0 * aligned.changed_fraction()
                );
                set_aside.push(SetAside::new(pair.id, reason, detail));
            }
        }
        alignments.push(aligned);
    }
    Ok(Minimal {
        pairs: kept,
        statistics: EditStatistics::of(&alignments, alignment.max_changed),
    })
}

#[cfg(test)]
mod tests;
