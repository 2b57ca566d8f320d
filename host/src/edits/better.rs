//! Is an edit better than its original? The paper assumes it; here a judge is asked, in both orders.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use finegrain_sdk::CallContext;
use finegrain_sdk::rng::Stream;
use serde::Serialize;

use super::source::EditSet;
use crate::data::asked::Asked;
use crate::data::draw::drawn;
use crate::data::records::{EditRecord, Outcome};
use crate::error::{Error, Result};
use crate::eval::statistics::{Bootstrap, Estimate, Interval};
use crate::eval::win_rate::WinRate;
use crate::eval::{Contest, Judge, Outcome as Judged, Panel, by_prompt};
use crate::inspect::plain;
use crate::pipeline::origins::{self, Recorded};
use crate::pipeline::stages::ORIGINS;
use crate::plugins::JudgeInstance;

/// What a judge said of edits beside their originals.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Better {
    /// Who judged.
    pub judge: String,
    /// Edits that there are; those that were judged were drawn among them.
    pub edits: usize,
    /// How often the edit is preferred, ties half.
    pub rate: WinRate,
    /// What judges asked servers for.
    pub asked: Vec<Asked>,
    /// Models that are both editor and judge: such a judge may prefer what it wrote itself.
    pub editor_too: BTreeSet<String>,
    /// Every comparison.
    pub outcomes: Vec<Judged>,
}

/// Puts up to `n` edits, drawn by `seed` and their ids, before a judge, or a panel of several with names of their own.
///
/// # Errors
/// No edits, or whatever the judge's call returns.
pub fn judge(
    set: &EditSet,
    judges: Vec<(String, JudgeInstance)>,
    n: usize,
    seed: u64,
    context: &CallContext<'_>,
) -> Result<Better> {
    let stream = Stream::new(seed).child("edits").child("drawn");
    let drawn = drawn(edits(set).collect(), n, |(row, _)| &row.id, &stream);
    if drawn.is_empty() {
        return Err(Error::input(format!(
            "{}: no row has an edit, so there is nothing to judge",
            set.from
        )));
    }
    let contests: Vec<Contest<'_>> = drawn
        .iter()
        .map(|(row, edited)| Contest {
            id: &row.id,
            prompt: &row.prompt,
            model: edited,
            reference: &row.original,
        })
        .collect();
    let folder = tempfile::tempdir()
        .map_err(|error| Error::internal(format!("cannot make a temporary folder: {error}")))?;
    let names: Vec<String> = judges.iter().map(|(name, _)| name.clone()).collect();
    let members = judges.into_iter().map(|(name, judge)| {
        let judge: Box<dyn Judge> = Box::new(Recorded::new(&name, judge, folder.path()));
        (name, judge)
    });
    let outcomes = Panel::new(members.collect()).judge(&contests, context)?;
    let origins = origins::verdicts_in(&folder.path().join(ORIGINS))?;
    let editors: BTreeSet<&str> = drawn
        .iter()
        .filter_map(|(row, _)| Some(row.origin.as_ref()?.model.as_str()))
        .collect();
    let bootstrap = Bootstrap::new(Stream::new(seed).child("edits"));
    Ok(Better {
        edits: edits(set).count(),
        rate: over_prompts(&drawn, &outcomes, &bootstrap),
        asked: origins::asked_of(&origins),
        editor_too: origins
            .iter()
            .map(|verdict| &verdict.origin.model)
            .filter(|model| editors.contains(model.as_str()))
            .cloned()
            .collect(),
        judge: names.join(", "),
        outcomes,
    })
}

/// The rate with its interval over prompts: several edits of responses to one prompt are no independent draws.
fn over_prompts(
    drawn: &[(&EditRecord, &str)],
    outcomes: &[Judged],
    bootstrap: &Bootstrap,
) -> WinRate {
    let prompts = by_prompt(drawn.iter().map(|(row, _)| &row.prompt).zip(outcomes));
    let parts: Vec<(f64, f64)> = prompts
        .iter()
        .map(|contests| {
            let judged = contests.iter().filter_map(|outcome| outcome.preference);
            judged.fold((0.0, 0.0), |(sum, n), value| (sum + value, n + 1.0))
        })
        .collect();
    let estimate = bootstrap.ratio(&parts).map(Estimate::or_wilson);
    WinRate {
        se: estimate.and_then(|it| it.se),
        interval: estimate.and_then(|it| it.interval),
        ..WinRate::of(outcomes, bootstrap)
    }
}

fn edits(set: &EditSet) -> impl Iterator<Item = (&EditRecord, &str)> {
    set.rows.iter().filter_map(|row| match &row.outcome {
        Outcome::Edited { response } => Some((row, response.as_str())),
        _ => None,
    })
}

/// What the judge said, in a few lines.
pub fn render(better: &Better) -> String {
    let rate = &better.rate;
    let mut text = format!(
        "Judge {} on {} of {} edits, each beside its original in both orders\n",
        better.judge,
        better.outcomes.len(),
        better.edits
    );
    match (rate.rate, rate.interval) {
        (Some(value), Some(Interval { low, high })) => {
            let _ = writeln!(
                text,
                "the edit is better: {:.1}% [{:.1}, {:.1}] (95% interval over prompts, n = {}, ties half)",
                100.0 * value,
                100.0 * low,
                100.0 * high,
                rate.n
            );
        }
        (Some(value), None) => {
            let _ = writeln!(
                text,
                "the edit is better: {:.1}% (n = {}, too few for an interval)",
                100.0 * value,
                rate.n
            );
        }
        (None, _) => text += "the judge failed on every edit\n",
    }
    let _ = writeln!(
        text,
        "{} wins, {} ties, {} losses, {} flips (the two orders disagree), {} failures",
        rate.wins, rate.ties, rate.losses, rate.flips, rate.failures
    );
    if let Some(failure) = better.outcomes.iter().find_map(|o| o.failure.as_ref()) {
        let _ = writeln!(text, "the first failure: {}", plain(failure));
    }
    for asked in &better.asked {
        let _ = writeln!(text, "{asked}");
        if let Some(warning) = asked.warning() {
            let _ = writeln!(text, "warning: {warning}");
        }
    }
    if !better.editor_too.is_empty() {
        let models: Vec<&str> = better.editor_too.iter().map(String::as_str).collect();
        let _ = writeln!(
            text,
            "warning: {} edited and judged: a model may prefer its own words",
            models.join(", ")
        );
    }
    text
}
