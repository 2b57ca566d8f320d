//! A set of edits in figures: what came of the responses, how much edits change and where, and what they took.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::distribution::Distribution;
use super::figures::{Figures, Measure, PARTS, Unit};
use super::reasons::class;
use super::source::EditSet;
use crate::data::asked::Asked;
use crate::data::records::{Outcome, SetAsideReason};
use crate::error::Result;
use crate::inspect::sparkline::sparkline;
use crate::report::tables::{WIDTH, paragraphs, ruled};

/// How often an outcome was met.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Count {
    /// `edited`, `unchanged`, `refused`, `rejected` or `failed`.
    pub outcome: &'static str,
    /// The category of a refusal, the kind of a failure, the problem of a rejected answer; empty for the others.
    pub reason: String,
    /// How many rows.
    pub rows: usize,
    /// Their share of all rows, in [0, 1].
    pub share: f64,
}

/// The figures of a set of edits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stats {
    /// What was read.
    pub from: String,
    /// What sizes are counted in.
    pub unit: Unit,
    /// Responses that were to be edited.
    pub rows: usize,
    /// What came of them.
    pub outcomes: Vec<Count>,
    /// Edits that were measured.
    pub measured: usize,
    /// Edits that do not fit the run's model and were not measured.
    pub unmeasured: usize,
    /// The share of units of both sides that an edit changes.
    pub share_changed: Option<Distribution>,
    /// Units of both sides that an edit changes.
    pub changed: Option<Distribution>,
    /// Separate changes of an edit.
    pub changes: Option<Distribution>,
    /// Characters of an edit per character of the response.
    pub length_ratio: Option<Distribution>,
    /// The share of changed units in each tenth of the responses; `None` where nothing changed.
    pub where_changed: Option<[f64; PARTS]>,
    /// Rows that are not used, by reason: those that no edit was made of and, of a run, edits that the pipeline refused.
    pub set_aside: BTreeMap<&'static str, usize>,
    /// What servers were asked, where the edits say so.
    pub asked: Option<Asked>,
}

impl Stats {
    /// The figures of a set.
    ///
    /// # Errors
    /// A prompt that the run's template refuses.
    pub fn of(set: &EditSet, measure: &Measure<'_>) -> Result<Self> {
        let figures: Vec<Figures> = set
            .rows
            .iter()
            .filter_map(|row| measure.of(row).transpose())
            .collect::<Result<_>>()?;
        let edited = set
            .rows
            .iter()
            .filter(|row| matches!(row.outcome, Outcome::Edited { .. }));
        let over = |figure: fn(&Figures) -> f64| Distribution::of(figures.iter().map(figure));
        let mut set_aside = BTreeMap::new();
        for row in &set.set_aside {
            *set_aside
                .entry(SetAsideReason::name(row.reason))
                .or_insert(0) += 1;
        }
        let editor = set.run.as_ref().map(|run| &*run.config.editor.plugin);
        let origins = set.rows.iter().filter_map(|row| row.origin.as_ref());
        Ok(Self {
            from: set.from.clone(),
            unit: measure.unit(),
            rows: set.rows.len(),
            outcomes: outcomes(set),
            measured: figures.len(),
            unmeasured: edited.count() - figures.len(),
            share_changed: over(|figures| figures.share),
            changed: over(|figures| figures.changed as f64),
            changes: over(|figures| figures.changes as f64),
            length_ratio: Distribution::of(figures.iter().filter_map(|f| f.length_ratio)),
            where_changed: where_changed(&figures),
            set_aside,
            asked: Asked::of(
                editor.map_or("editor".into(), |name| format!("editor/{name}")),
                origins,
            ),
        })
    }
}

/// Outcomes in the order edited, unchanged, refused, rejected, failed; within each by number.
fn outcomes(set: &EditSet) -> Vec<Count> {
    let mut counts: BTreeMap<(usize, &'static str, String), usize> = BTreeMap::new();
    for row in &set.rows {
        let (rank, outcome, reason) = match &row.outcome {
            Outcome::Edited { .. } => (0, "edited", String::new()),
            Outcome::Unchanged => (1, "unchanged", String::new()),
            Outcome::Refused { reason } => (2, "refused", class(reason)),
            Outcome::Rejected { reason } => (3, "rejected", class(reason)),
            Outcome::Failed { error } => (4, "failed", class(error)),
        };
        *counts.entry((rank, outcome, reason)).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|((rank, _, _), rows)| (*rank, std::cmp::Reverse(*rows)));
    counts
        .into_iter()
        .map(|((_, outcome, reason), rows)| Count {
            outcome,
            reason,
            rows,
            share: rows as f64 / set.rows.len() as f64,
        })
        .collect()
}

fn where_changed(figures: &[Figures]) -> Option<[f64; PARTS]> {
    let mut sums = [0; PARTS];
    for one in figures {
        for (sum, part) in sums.iter_mut().zip(one.tenths) {
            *sum += part;
        }
    }
    let all: usize = sums.iter().sum();
    (all > 0).then(|| sums.map(|part| part as f64 / all as f64))
}

/// The figures as tables of at most [`WIDTH`] columns.
pub fn render(stats: &Stats) -> String {
    let mut text = format!(
        "{}: {} responses, {} edits measured in {}\n\n",
        stats.from,
        stats.rows,
        stats.measured,
        match stats.unit {
            Unit::Tokens => "tokens of the run's own tokenizer, EOS included",
            Unit::Words => "words and punctuation marks (UAX #29)",
        }
    );
    let percent = |share: f64| format!("{:.1}%", 100.0 * share);
    let rows = stats.outcomes.iter().map(|count| {
        [
            count.outcome.to_owned(),
            count.reason.clone(),
            count.rows.to_string(),
            percent(count.share),
        ]
    });
    text += &ruled(
        &["Outcome", "Reason", "Rows", "Share"],
        rows,
        WIDTH,
        2,
        |at| at >= 2,
    );
    text += "\n\n";
    let unit = stats.unit.name();
    let figures = [
        (format!("{unit} changed, share"), &stats.share_changed, 3),
        (format!("{unit} changed"), &stats.changed, 1),
        ("separate changes".to_owned(), &stats.changes, 1),
        (
            "length ratio, characters".to_owned(),
            &stats.length_ratio,
            3,
        ),
    ];
    let rows = figures.iter().filter_map(|(name, distribution, digits)| {
        let found = distribution.as_ref()?;
        let mut row = vec![name.clone()];
        let numbers = [found.mean].into_iter().chain(found.quantiles);
        row.extend(numbers.map(|value| format!("{value:.digits$}")));
        row.push(found.blocks());
        Some(row)
    });
    let header = [
        "Figure",
        "Mean",
        "5%",
        "25%",
        "50%",
        "75%",
        "95%",
        "Smallest to largest",
    ];
    if stats.measured > 0 {
        text += &ruled(&header, rows, WIDTH, 2, |at| (1..7).contains(&at));
        text += "\n\n";
    }
    if let Some(parts) = &stats.where_changed {
        let _ = writeln!(
            text,
            "Where changes lie, by tenths of the response: {}\n{}\n",
            sparkline(parts, PARTS),
            parts.map(percent).join(" ")
        );
    }
    let mut sentences = Vec::new();
    if stats.unmeasured > 0 {
        sentences.push(format!(
            "{} edits do not fit the run's model and are not measured.",
            stats.unmeasured
        ));
    }
    if !stats.set_aside.is_empty() {
        let reasons = stats.set_aside.iter();
        let reasons: Vec<String> = reasons.map(|(reason, n)| format!("{n} {reason}")).collect();
        sentences.push(format!("Rows that are not used: {}.", reasons.join(", ")));
    }
    if let Some(asked) = &stats.asked {
        sentences.push(format!("{asked}."));
        sentences.extend(asked.warning());
    }
    if !sentences.is_empty() {
        text += &paragraphs(&sentences, WIDTH);
        text.push('\n');
    }
    text
}
