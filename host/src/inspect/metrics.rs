//! The curves of `metrics/STAGE-HASH.jsonl` (docs/metrics.md).

use std::fmt::Write as _;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::sparkline::sparkline;
use crate::error::{Error, Result};
use crate::telemetry::line::read_metric_file;

/// What the overview shows of each stage, where it is there.
const KEY: [&str; 12] = [
    "sft/loss",
    "sft/held_out_loss",
    "reward_model/loss",
    "reward_model/held_out_accuracy",
    "evaluation/score",
    "reward/total",
    "kl/response",
    "policy/entropy",
    "policy/clip_fraction",
    "value/explained_variance",
    "response/mean_length",
    "response/eos_rate",
];

/// One metric of one stage.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Curve {
    /// The stage.
    pub stage: String,
    /// `group/name`.
    pub name: String,
    /// Steps at which it was written.
    pub steps: Vec<u64>,
    /// Its values; one that does not exist at a step is NaN, and `null` in JSON.
    pub values: Vec<f64>,
}

/// The curves of one file, in the order of first appearance.
///
/// # Errors
/// A line that is no line of metrics, or a figure that is no number: the message names file and line or step.
pub fn read(path: &Path, stage: &str) -> Result<Vec<Curve>> {
    let mut curves: Vec<Curve> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for line in read_metric_file(path)? {
        for (name, value) in &line.values {
            let value = match value {
                Value::Null => f64::NAN,
                value => value.as_f64().ok_or_else(|| {
                    Error::input(format!(
                        "{}, step {}: `{name}` is {value}; a number or null is accepted",
                        path.display(),
                        line.step
                    ))
                })?,
            };
            let place = *places.entry(name.clone()).or_insert_with(|| {
                curves.push(Curve {
                    stage: stage.to_owned(),
                    name: name.clone(),
                    steps: Vec::new(),
                    values: Vec::new(),
                });
                curves.len() - 1
            });
            curves[place].steps.push(line.step);
            curves[place].values.push(value);
        }
    }
    Ok(curves)
}

/// Whether a name fits a pattern: a part of it, or parts in this order where `*` stands between them.
pub fn fits(name: &str, pattern: &str) -> bool {
    let mut rest = name;
    pattern.split('*').all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}

/// The curves to show: those that fit `pattern`, or the key ones.
pub fn chosen<'a>(curves: &'a [Curve], pattern: Option<&str>) -> Vec<&'a Curve> {
    let wanted = |curve: &&Curve| match pattern {
        Some(pattern) => fits(&curve.name, pattern),
        None => KEY.contains(&curve.name.as_str()),
    };
    curves.iter().filter(wanted).collect()
}

/// A line each: name, sparkline, first → last, minimum and maximum, how many values.
pub fn render(curves: &[&Curve]) -> String {
    let name_width = curves.iter().map(|c| c.name.chars().count()).max();
    let name_width = name_width.unwrap_or(0).clamp(10, 34);
    let mut text = String::new();
    for curve in curves {
        let finite: Vec<f64> = curve
            .values
            .iter()
            .copied()
            .filter(|v| v.is_finite())
            .collect();
        let (Some(first), Some(last)) = (finite.first(), finite.last()) else {
            let _ = writeln!(
                text,
                "{:<name_width$}  no finite value",
                super::line(&curve.name, name_width)
            );
            continue;
        };
        let low = finite.iter().copied().fold(f64::INFINITY, f64::min);
        let high = finite.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let _ = writeln!(
            text,
            "{:<name_width$}  {:<20}  {:>8} → {:<8} [{}, {}]",
            super::line(&curve.name, name_width),
            sparkline(&curve.values, 20),
            number(*first),
            number(*last),
            number(low),
            number(high),
        );
    }
    text
}

/// A number with four significant digits.
pub fn number(v: f64) -> String {
    match v.abs() {
        0.0 => "0".to_owned(),
        size if !(1e-3..1e5).contains(&size) => format!("{v:.1e}"),
        size => {
            let decimals = (3 - size.log10().floor() as i32).max(0) as usize;
            format!("{v:.decimals$}")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn patterns_are_parts_in_order() {
        assert!(fits("policy/loss", "loss") && fits("policy/loss", "pol*ss"));
        assert!(!fits("policy/loss", "loss*pol") && fits("x", "*"));
    }

    #[test]
    fn numbers_have_four_digits() {
        let found = [0.0, 0.50781, -1.71205, 11638.4, 0.000_406_41, 123_456.0].map(number);
        assert_eq!(found, ["0", "0.5078", "-1.712", "11638", "4.1e-4", "1.2e5"]);
    }

    #[test]
    fn a_wrong_line_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.jsonl");
        fs::write(&path, "{\"step\":0,\"a/b\":null}\n{\"a/b\":1}\n").unwrap();
        let error = read(&path, "ppo").unwrap_err();
        assert!(
            error
                .to_string()
                .contains("m.jsonl:2 is no line of metrics: missing field `step`"),
            "{error}"
        );
        assert_eq!(error.exit_code(), 2);
    }
}
