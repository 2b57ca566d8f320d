//! The figures as CSV files, one row a figure, for plots of one's own.

use std::path::Path;

use super::calibration::Calibration;
use super::runs::Found;
use crate::data::records::PairSource;
use crate::error::{Error, Result};
use crate::eval::statistics::Estimate;
use crate::pipeline::atomic::write_atomic;

/// A reward model's calibration on one kind of test pairs.
pub(super) type Calibrated = (PairSource, String, PairSource, Calibration);

/// Writes the files into the folder `dir`.
pub(super) fn write(dir: &Path, found: &Found, calibrations: &[Calibrated]) -> Result<()> {
    write_rows(dir, "win_rates.csv", &win_rates(found))?;
    write_rows(dir, "reward_models.csv", &reward_models(found))?;
    write_rows(dir, "learning_curves.csv", &curves(found))?;
    write_rows(dir, "calibration.csv", &calibration(calibrations))?;
    write_rows(dir, "tokens.csv", &tokens(found))
}

fn write_rows(dir: &Path, name: &str, rows: &[Vec<String>]) -> Result<()> {
    let fail = |error: String| Error::internal(format!("cannot write {name}: {error}"));
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer
            .write_record(row)
            .map_err(|error| fail(error.to_string()))?;
    }
    let bytes = writer
        .into_inner()
        .map_err(|error| fail(error.to_string()))?;
    write_atomic(&dir.join(name), &bytes)
}

fn header(names: &[&str]) -> Vec<Vec<String>> {
    vec![names.iter().map(ToString::to_string).collect()]
}

fn number<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

fn estimate(estimate: Option<Estimate>) -> [String; 4] {
    let interval = estimate.and_then(|e| e.interval);
    [
        number(estimate.map(|e| e.value)),
        number(interval.map(|i| i.low)),
        number(interval.map(|i| i.high)),
        number(estimate.map(|e| e.n)),
    ]
}

/// A row a variant and seed, and one with an empty seed over all.
fn win_rates(found: &Found) -> Vec<Vec<String>> {
    let mut rows = header(&["variant", "seed", "win_rate", "low_95", "high_95", "n"]);
    for row in &found.result.win_rates {
        let mut all = vec![row.variant.clone(), String::new()];
        all.extend(estimate(row.win_rate.overall));
        rows.push(all);
        for seed in &row.win_rate.seeds {
            let interval = seed.value.interval;
            rows.push(vec![
                row.variant.clone(),
                seed.seed.to_string(),
                number(seed.value.rate),
                number(interval.map(|i| i.low)),
                number(interval.map(|i| i.high)),
                seed.value.n.to_string(),
            ]);
        }
    }
    rows
}

fn reward_models(found: &Found) -> Vec<Vec<String>> {
    let mut rows = header(&[
        "trained_on",
        "scheme",
        "tested_on",
        "accuracy",
        "low_95",
        "high_95",
        "n",
    ]);
    let models = &found.result.reward_models;
    for cell in &models.cells {
        let mut row = vec![
            cell.trained_on.to_string(),
            cell.scheme.clone(),
            cell.tested_on.to_string(),
        ];
        row.extend(estimate(cell.accuracy.overall));
        rows.push(row);
    }
    for cell in &models.longer_is_better {
        let mut row = vec![
            String::new(),
            "longer is better".to_owned(),
            cell.tested_on.to_string(),
        ];
        row.extend(estimate(cell.accuracy.overall));
        rows.push(row);
    }
    rows
}

fn curves(found: &Found) -> Vec<Vec<String>> {
    let mut rows = header(&["variant", "seed", "step", "metric", "value"]);
    for run in &found.runs {
        for (step, values) in &run.steps {
            for (name, value) in values {
                rows.push(vec![
                    run.variant.clone(),
                    run.seed.to_string(),
                    step.to_string(),
                    name.clone(),
                    value.to_string(),
                ]);
            }
        }
    }
    rows
}

fn calibration(calibrations: &[Calibrated]) -> Vec<Vec<String>> {
    let mut rows = header(&[
        "trained_on",
        "scheme",
        "tested_on",
        "confidence_low",
        "confidence_high",
        "predicted",
        "observed",
        "low_95",
        "high_95",
        "n",
    ]);
    for (trained_on, scheme, tested_on, calibration) in calibrations {
        for bin in &calibration.bins {
            rows.push(vec![
                trained_on.to_string(),
                scheme.clone(),
                tested_on.to_string(),
                bin.low.to_string(),
                bin.high.to_string(),
                bin.predicted.to_string(),
                bin.observed.to_string(),
                number(bin.interval.map(|i| i.low)),
                number(bin.interval.map(|i| i.high)),
                bin.n.to_string(),
            ]);
        }
    }
    rows
}

fn tokens(found: &Found) -> Vec<Vec<String>> {
    let mut rows = header(&[
        "variant",
        "seed",
        "id",
        "position",
        "token",
        "reward",
        "advantage",
        "kl",
        "value",
    ]);
    for run in &found.runs {
        for view in &run.tokens {
            for (at, token) in view.tokens.iter().enumerate() {
                let of =
                    |values: &Option<Vec<f32>>| number(values.as_ref().and_then(|v| v.get(at)));
                rows.push(vec![
                    run.variant.clone(),
                    run.seed.to_string(),
                    view.id.clone(),
                    at.to_string(),
                    token.clone(),
                    number(view.reward.get(at)),
                    of(&view.advantage),
                    number(view.kl.get(at)),
                    of(&view.value),
                ]);
            }
        }
    }
    rows
}
