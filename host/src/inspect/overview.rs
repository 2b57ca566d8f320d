//! A run on one screen.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::metrics::{self, Curve};
use super::run::{About, Run};
use super::samples::{self, Sort};
use super::{WIDTH, line, plain};
use crate::pipeline::stages::evaluate::JudgedSample;
use crate::report::tables::paragraphs;

/// What the user wants to see.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Metrics that fit this; the key ones where absent.
    pub metric: Option<&'a str>,
    /// How many samples.
    pub samples: usize,
    /// Which ones; the best and the worst where absent.
    pub sort: Option<Sort>,
}

/// The lists of samples to show, each with its heading.
fn lists<'a>(run: &'a Run, view: &View<'_>) -> Vec<(&'static str, Vec<&'a JudgedSample>)> {
    let Some(all) = run.samples.as_deref().filter(|_| view.samples > 0) else {
        return Vec::new();
    };
    let of = |sort| {
        let heading = match sort {
            Sort::Best => "Best samples",
            Sort::Worst => "Worst samples",
            Sort::First => "First samples",
        };
        (heading, samples::chosen(all, view.samples, sort))
    };
    view.sort.map_or_else(
        || vec![of(Sort::Best), of(Sort::Worst)],
        |sort| vec![of(sort)],
    )
}

/// Stages, plugins, metrics and samples as text.
pub fn render(run: &Run, view: &View<'_>) -> String {
    let about = &run.about;
    let mut text = format!("{}, seed {}\n\nStages\n", line(&about.name, 60), about.seed);
    for stage in &about.stages {
        let from = if stage.computed_in_this_run {
            "computed"
        } else {
            "from the store"
        };
        let _ = writeln!(
            text,
            "  {:<14} {:<18} {:>10.2} s  {from}",
            stage.stage, stage.hash, stage.wall_seconds
        );
    }
    text += "\nPlugins\n";
    for plugin in &about.plugins {
        let _ = writeln!(
            text,
            "  {}",
            line(
                &format!("{}/{} {}", plugin.kind, plugin.name, plugin.version),
                WIDTH - 2
            )
        );
    }
    text += &asked(about);
    let curves: Vec<&Curve> = metrics::chosen(&run.curves, view.metric);
    text += "\nMetrics: first → last [lowest, highest]\n";
    let table = if curves.is_empty() {
        let pattern = view.metric.map(|p| format!(" that fits {p:?}"));
        format!(
            "none{} of {}\n",
            pattern.unwrap_or_default(),
            run.curves.len()
        )
    } else {
        metrics::render(&curves)
    };
    text += &table;
    for (heading, samples) in lists(run, view) {
        let _ = write!(
            text,
            "\n{heading} (preference for the policy)\n{}",
            samples::render(&samples)
        );
    }
    if run.samples.is_none() {
        text += "\nThis run has no samples.jsonl.\n";
    }
    text
}

/// What servers were asked for each stage, a line a plugin; nothing where nobody was asked.
fn asked(about: &About) -> String {
    let mut text = String::new();
    for stage in &about.stages {
        for asked in &stage.asked {
            let mut said = vec![plain(&format!("{}: {asked}", stage.stage))];
            let warning = asked.warning();
            said.extend(warning.map(|warning| plain(&format!("warning: {warning}"))));
            for line in paragraphs(&said, (WIDTH - 2) as u16).lines() {
                let _ = writeln!(text, "  {line}");
            }
        }
    }
    if !text.is_empty() {
        text.insert_str(
            0,
            "\nAsked of servers (answers kept from earlier runs included)\n",
        );
    }
    text
}

/// The same as JSON; every value of the chosen metrics is there.
pub fn json(run: &Run, view: &View<'_>) -> Value {
    let samples: serde_json::Map<String, Value> = lists(run, view)
        .into_iter()
        .map(|(heading, samples)| {
            let name = heading.split(' ').next().unwrap_or(heading).to_lowercase();
            (name, json!(samples))
        })
        .collect();
    json!({
        "run": run.about,
        "metrics": metrics::chosen(&run.curves, view.metric),
        "samples": samples,
    })
}
