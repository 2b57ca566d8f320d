//! Edits held to the checks of minimality that editors which ask a model are held to (docs/editing-prompts.md).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use finegrain_dialogue::minimality::{Examination, Limits, examine};
use serde::Serialize;

use super::figures::{Measure, Unit};
use super::source::EditSet;
use crate::data::records::Outcome;
use crate::error::{Error, Result};
use crate::inspect::line;
use crate::report::tables::{WIDTH, ruled};

/// The check of the pipeline itself, on tokens.
const MAX_CHANGED: &str = "alignment.max_changed";

/// Rows that are listed, at most.
const LISTED: usize = 20;

/// An edit that would be set aside.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Found {
    /// Its id.
    pub id: String,
    /// The names of the checks that it does not pass.
    pub checks: Vec<String>,
    /// The same with figures and limits.
    pub reasons: Vec<String>,
}

/// What the checks found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Checked {
    /// What was read.
    pub from: String,
    /// Edits that were checked.
    pub edits: usize,
    /// Those that would be set aside.
    pub set_aside: Vec<Found>,
    /// The limits.
    pub limits: Limits,
    /// The run's own limit on tokens, where a run was named whose model can count them.
    pub max_changed: Option<f64>,
    /// Edits that were not held to it: the run's model is gone, or they do not fit it.
    pub unmeasured: usize,
}

/// The limits of a set: those that its run gave its editor, or the defaults.
///
/// # Errors
/// Limits in the run's configuration that are none.
pub fn limits(set: &EditSet) -> Result<Limits> {
    let options = set.run.as_ref().map(|run| &run.config.editor.options);
    match options.and_then(|options| options.get("limits")) {
        None => Ok(Limits::default()),
        Some(limits) => serde_json::from_value(limits.clone())
            .map_err(|error| Error::input(format!("{}: editor.options.limits: {error}", set.from))),
    }
}

impl Checked {
    /// Checks all edits of a set.
    ///
    /// # Errors
    /// A prompt that the run's template refuses.
    pub fn of(set: &EditSet, limits: Limits, measure: &Measure<'_>) -> Result<Self> {
        let limit = set.run.as_ref().map(|run| run.config.alignment.max_changed);
        // The limit is one of tokens; words are fewer, so that it would say something else of them.
        let max_changed = limit.filter(|_| measure.unit() == Unit::Tokens);
        let (mut edits, mut unmeasured, mut set_aside) = (0, 0, Vec::new());
        for row in &set.rows {
            let Outcome::Edited { response } = &row.outcome else {
                continue;
            };
            edits += 1;
            let Examination { findings, .. } =
                examine(&row.prompt, &row.original, response, &limits);
            let mut found = Found {
                id: row.id.clone(),
                checks: findings.iter().map(|f| f.check.name().to_owned()).collect(),
                reasons: findings.iter().map(ToString::to_string).collect(),
            };
            let figures = match max_changed {
                Some(_) => measure.of(row)?,
                None => None,
            };
            unmeasured += usize::from(limit.is_some() && figures.is_none());
            if let Some((limit, share)) = max_changed.zip(figures.map(|it| it.share))
                && share > limit
            {
                found.checks.push(MAX_CHANGED.to_owned());
                found
                    .reasons
                    .push(format!("tokens changed {share:.3} ({MAX_CHANGED} {limit})"));
            }
            if !found.checks.is_empty() {
                set_aside.push(found);
            }
        }
        Ok(Self {
            from: set.from.clone(),
            edits,
            set_aside,
            limits,
            max_changed,
            unmeasured,
        })
    }

    /// An error where an edit would be set aside.
    ///
    /// # Errors
    /// A gate, exit code 1.
    pub fn strictly(&self) -> Result<()> {
        if self.set_aside.is_empty() {
            return Ok(());
        }
        Err(Error::gate(format!(
            "{} of {} edits would be set aside",
            self.set_aside.len(),
            self.edits
        ))
        .hint(format!(
            "`finegrain edits diff {} --id ID` shows one",
            self.from
        )))
    }
}

/// What was found, as text of at most [`WIDTH`] columns.
pub fn render(checked: &Checked) -> String {
    let n = checked.set_aside.len();
    let share = 100.0 * n as f64 / checked.edits.max(1) as f64;
    let mut text = format!(
        "{}: {n} of {} edits would be set aside ({share:.1}%)\n",
        checked.from, checked.edits
    );
    if checked.unmeasured > 0 {
        let _ = writeln!(
            text,
            "{} of them were not held to {MAX_CHANGED}: the run's model is gone, or they do not fit it",
            checked.unmeasured
        );
    }
    if n == 0 {
        return text;
    }
    let mut by_check: BTreeMap<&str, usize> = BTreeMap::new();
    for found in &checked.set_aside {
        for check in &found.checks {
            *by_check.entry(check).or_default() += 1;
        }
    }
    let mut by_check: Vec<_> = by_check.into_iter().collect();
    by_check.sort_by_key(|(_, rows)| std::cmp::Reverse(*rows));
    let rows = by_check
        .iter()
        .map(|(check, rows)| [(*check).to_owned(), rows.to_string()]);
    let table = ruled(&["Check", "Edits"], rows, WIDTH, 2, |at| at == 1);
    let _ = write!(text, "\n{table}\n\n");
    for found in checked.set_aside.iter().take(LISTED) {
        let said = format!("{}: {}", found.id, found.reasons.join(", "));
        let _ = writeln!(text, "{}", line(&said, usize::from(WIDTH)));
    }
    if n > LISTED {
        let _ = writeln!(text, "and {} more; --json has all", n - LISTED);
    }
    text
}
