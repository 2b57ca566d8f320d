//! The report as one HTML file: no network, no files beside it. `html/` holds its page, style and script.
//!
//! Tables are written here, from the same sheets as on paper and in the terminal; the script draws charts and token views from
//! the data at the page's end.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use minijinja::value::Serde;
use minijinja::{Environment, context};
use serde_json::{Map, Value, json};
use similar::{ChangeTag, TextDiff};

use super::calibration::{BRIER_OF_GUESSING, Calibration, correlation};
use super::csv_files::{self, Calibrated};
use super::runs::{self, Found, Ranking, Run};
use super::sheet::Sheet;
use crate::data::records::{Pair, PairSource};
use crate::error::{Error, Result};
use crate::eval::RankedPair;
use crate::pipeline::atomic::write_atomic;
use crate::pipeline::stages::token_views::TokenView;

/// Prompts of each seed whose responses can be read in the page.
const PROMPTS: usize = 100;
/// Edits of each source that can be read in the page.
const EDITS: usize = 24;

/// Writes the report of the run or comparison in `dir` to `out`, or to `report.html` in it, and CSV files into `report/`;
/// returns where the page lies.
///
/// # Errors
/// A folder that is no finished run or comparison, or a file in it that is damaged.
pub fn write(dir: &Path, out: Option<&Path>) -> Result<PathBuf> {
    let found = runs::read(dir)?;
    let calibrations = calibrations(&found);
    let files = dir.join("report");
    fs::create_dir_all(&files).map_err(|error| Error::io("make", &files, &error))?;
    csv_files::write(&files, &found, &calibrations)?;
    let page = out.map_or_else(|| dir.join("report.html"), Path::to_path_buf);
    write_atomic(&page, render(&found, &calibrations)?.as_bytes())?;
    Ok(page)
}

fn render(found: &Found, calibrations: &[Calibrated]) -> Result<String> {
    let fail = |error: minijinja::Error| Error::internal(format!("the report's page: {error:#}"));
    let mut environment = Environment::new();
    environment
        .add_template("page.html", include_str!("html/page.html"))
        .map_err(fail)?;
    let sheets: Vec<Value> = super::sheets(&found.result)
        .iter()
        .filter(|sheet| !sheet.rows.is_empty())
        .map(table)
        .collect();
    environment
        .get_template("page.html")
        .and_then(|page| {
            page.render(context! {
                style => include_str!("html/style.css"),
                script => include_str!("html/script.js"),
                data => embeddable(&data(found, calibrations)),
                result => Serde(&found.result),
                sheets => Serde(sheets),
                missing => found.missing.clone(),
                version => env!("CARGO_PKG_VERSION"),
            })
        })
        .map_err(fail)
}

fn table(sheet: &Sheet) -> Value {
    json!({
        "title": sheet.title,
        "header": sheet.header,
        "text": (0..sheet.header.len()).map(|at| sheet.text_columns.contains(&at)).collect::<Vec<_>>(),
        "rows": sheet.rows,
        "notes": sheet.notes,
        "detail": sheet.detail,
        "number": sheet.title.split(['.', ',']).next(),
    })
}

/// JSON that can stand in a script element: nothing in it ends the element or begins a comment.
fn embeddable(value: &Value) -> String {
    value
        .to_string()
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}

fn data(found: &Found, calibrations: &[Calibrated]) -> Value {
    json!({
        "result": found.result,
        "curves": found.runs.iter().map(curves).collect::<Vec<_>>(),
        "calibration": calibrations.iter().map(|(trained_on, scheme, tested_on, calibration)| json!({
            "trained_on": trained_on, "scheme": scheme, "tested_on": tested_on, "of": calibration,
        })).collect::<Vec<_>>(),
        "brier_of_guessing": BRIER_OF_GUESSING,
        "lengths": lengths(found),
        "responses": responses(found),
        "prompts_shown": PROMPTS,
        "edits": edits(found),
    })
}

/// Pairs of all seeds that one reward model of each has ranked.
struct Pooled<'a> {
    first: &'a Ranking,
    seeds: BTreeSet<u64>,
    pairs: Vec<RankedPair>,
}

fn calibrations(found: &Found) -> Vec<Calibrated> {
    let mut pooled: Vec<Pooled<'_>> = Vec::new();
    for run in &found.runs {
        for ranking in &run.rankings {
            let what = |r: &Ranking| (r.trained_on, r.scheme.clone(), r.tested_on);
            let at = pooled
                .iter()
                .position(|row| what(row.first) == what(ranking));
            let at = at.unwrap_or_else(|| {
                pooled.push(Pooled {
                    first: ranking,
                    seeds: BTreeSet::new(),
                    pairs: Vec::new(),
                });
                pooled.len() - 1
            });
            // Variants may share a reward model: its pairs count once a seed.
            if pooled[at].seeds.insert(run.seed) {
                pooled[at].pairs.extend(ranking.pairs.iter().cloned());
            }
        }
    }
    pooled
        .into_iter()
        .filter_map(|row| {
            let Ranking {
                trained_on,
                scheme,
                tested_on,
                ..
            } = row.first;
            let calibration = Calibration::of(&row.pairs)?;
            Some((*trained_on, scheme.clone(), *tested_on, calibration))
        })
        .collect()
}

/// The metrics that are drawn, in the order of the charts.
fn drawn(name: &str) -> bool {
    let reward = name.starts_with("reward/")
        && !["_std", "_gain", "_fraction"]
            .iter()
            .any(|end| name.ends_with(end));
    reward
        || [
            "evaluation/score",
            "kl/response_k1",
            "policy/entropy",
            "response/mean_length",
            "response/eos_rate",
            "value/explained_variance",
        ]
        .contains(&name)
}

fn curves(run: &Run) -> Value {
    let mut metrics: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for (&step, values) in &run.steps {
        let at = |name: &str| values.get(name).copied().unwrap_or_default();
        for (name, &value) in values.iter().filter(|(name, _)| drawn(name)) {
            metrics.entry(name).or_default().push(json!([
                step,
                at("train/samples"),
                short(at("train/seconds")),
                short(value)
            ]));
        }
    }
    json!({ "variant": run.variant, "seed": run.seed, "metrics": metrics })
}

/// A number to five digits: what a chart or a tooltip can show.
fn short(value: f64) -> Value {
    format!("{value:.4e}")
        .parse::<f64>()
        .map_or(Value::Null, |short| {
            if short.fract() == 0.0 && short.abs() < 1e9 {
                json!(short as i64)
            } else {
                json!(short)
            }
        })
}

fn shorts(values: &[f32]) -> Value {
    values
        .iter()
        .map(|&value| short(f64::from(value)))
        .collect()
}

/// Tokens and total reward of every response with token views, and their correlation, by variant.
fn lengths(found: &Found) -> Value {
    let mut variants = Map::new();
    for variant in &found.result.variants {
        let views = found.runs.iter().filter(|run| run.variant == variant.name);
        let points: Vec<(f64, f64)> = views
            .flat_map(|run| &run.tokens)
            .map(|view| (view.tokens.len() as f64, f64::from(view.total)))
            .collect();
        let drawn: Vec<Value> = points.iter().map(|p| json!([p.0, short(p.1)])).collect();
        variants.insert(
            variant.name.clone(),
            json!({ "points": drawn, "r": correlation(&points) }),
        );
    }
    Value::Object(variants)
}

/// The first prompts of every seed, with every variant's response.
fn responses(found: &Found) -> Vec<Value> {
    let mut shown = Vec::new();
    for &seed in &found.result.seeds {
        let runs: Vec<&Run> = found.runs.iter().filter(|run| run.seed == seed).collect();
        let Some(first) = runs.first() else { continue };
        for sample in first.samples.iter().take(PROMPTS) {
            let id = &sample.outcome.id;
            let mut by_variant = Map::new();
            for run in &runs {
                let Some(own) = run.samples.iter().find(|own| own.outcome.id == *id) else {
                    continue;
                };
                let view = run.tokens.iter().find(|view| view.id == *id);
                by_variant.insert(
                    run.variant.clone(),
                    json!({
                        "text": own.response,
                        "preference": own.outcome.preference,
                        "tokens": view.map(tokens),
                    }),
                );
            }
            shown.push(json!({
                "seed": seed, "id": id, "prompt": sample.prompt, "reference": sample.reference, "of": by_variant,
            }));
        }
    }
    shown
}

fn tokens(view: &TokenView) -> Value {
    let channels: Map<String, Value> = view
        .channels
        .iter()
        .map(|(name, values)| {
            let values = values.as_array().into_iter().flatten();
            let values: Vec<Value> = values
                .map(|value| value.as_f64().map_or(Value::Null, short))
                .collect();
            (name.clone(), json!(values))
        })
        .collect();
    json!({
        "pieces": view.tokens,
        "reward": shorts(&view.reward),
        "advantage": view.advantage.as_deref().map(shorts),
        "kl": shorts(&view.kl),
        "value": view.value.as_deref().map(shorts),
        "channels": channels,
        "total": short(f64::from(view.total)),
        "ended": view.ended,
    })
}

/// The first held-out edits, word by word, with the margin that each reward model gives them.
fn edits(found: &Found) -> Vec<Value> {
    let mut shown = Vec::new();
    let Some(first) = found.runs.first() else {
        return shown;
    };
    for pair in first.edits.iter().take(EDITS) {
        let mut margins = Map::new();
        for run in found.runs.iter().filter(|run| run.seed == first.seed) {
            for ranking in run
                .rankings
                .iter()
                .filter(|r| r.tested_on == PairSource::Edits)
            {
                let ranked = ranking.pairs.iter().find(|ranked| ranked.id == pair.id);
                if let Some(ranked) = ranked {
                    let name = format!("{}, {}", ranking.trained_on, ranking.scheme);
                    margins.insert(name, short(ranked.chosen - ranked.rejected));
                }
            }
        }
        shown.push(json!({
            "seed": first.seed, "id": pair.id, "prompt": pair.prompt, "diff": diff(pair), "margins": margins,
        }));
    }
    shown
}

fn diff(pair: &Pair) -> Vec<Value> {
    TextDiff::from_words(pair.rejected.as_str(), pair.chosen.as_str())
        .iter_all_changes()
        .map(|change| {
            let kind = match change.tag() {
                ChangeTag::Equal => "=",
                ChangeTag::Delete => "-",
                ChangeTag::Insert => "+",
            };
            json!([kind, change.to_string_lossy()])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::comparison::tests::example;

    #[test]
    fn nothing_in_the_data_ends_the_script_or_becomes_markup() {
        let mut result = example(&[1, 2]);
        result.notes = vec!["</script><script>alert(1)</script> & <!--".to_owned()];
        result.judge = "<b>judge</b>".to_owned();
        let found = Found {
            result,
            runs: Vec::new(),
            missing: vec!["a-seed1".to_owned()],
        };
        let page = render(&found, &[]).unwrap();
        assert_eq!(page.matches("</script>").count(), 2, "data and script");
        assert!(!page.contains("alert(1)</") && !page.contains("<b>judge"));
        assert!(page.contains("a-seed1") && page.contains("51.6"));
        let from = page.find("type=\"application/json\">").unwrap() + 24;
        let to = from + page[from..].find("</script>").unwrap();
        let data: Value = serde_json::from_str(&page[from..to]).unwrap();
        assert_eq!(data["result"], serde_json::to_value(&found.result).unwrap());
    }

    #[test]
    fn numbers_are_short_and_keep_their_size() {
        assert_eq!(short(0.123_456_789), json!(0.12346));
        assert_eq!(short(-1234.0), json!(-1234));
        assert_eq!(short(f64::NAN), Value::Null);
    }
}
