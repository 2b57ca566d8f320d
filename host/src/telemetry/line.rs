//! What a stage writes down while it works, one JSON object a line: figures, distributions, texts.
//!
//! The three files are only ever appended to. Event files, alarms and the line on the terminal are functions of their lines, so
//! that a stage that goes on after an interruption, or is found in the store, shows what an undisturbed one shows.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::histogram::Histogram;
use crate::data::jsonl;
use crate::error::{Error, Result};

/// The figures of docs/metrics.md.
pub const METRICS: &str = "metrics.jsonl";
/// Distributions of token and response figures.
pub const HISTOGRAMS: &str = "histograms.jsonl";
/// Samples with their rewards.
pub const TEXTS: &str = "texts.jsonl";

/// One line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricLine {
    /// The stage's own step.
    pub step: u64,
    /// When it was written, seconds since 1970; strictly rising within a stage, whichever file a line is in.
    #[serde(default)]
    pub unix_seconds: f64,
    /// Names and figures in the order in which they were measured; null where a figure is not finite.
    #[serde(flatten)]
    pub values: Map<String, Value>,
}

impl MetricLine {
    /// The line of some figures. JSON has no NaN; null stands for it.
    pub fn new(step: u64, unix_seconds: f64, values: &[(&str, f64)]) -> Self {
        let number = |value| serde_json::Number::from_f64(value).map_or(Value::Null, Value::Number);
        Self {
            step,
            unix_seconds,
            values: values
                .iter()
                .map(|&(name, value)| (name.to_owned(), number(value)))
                .collect(),
        }
    }

    /// A figure, where the line has it and it is finite.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.values.get(name).and_then(Value::as_f64)
    }
}

/// One line of `histograms.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistogramLine {
    /// The stage's own step.
    pub step: u64,
    /// As for figures.
    pub unix_seconds: f64,
    /// `group/name`.
    pub name: String,
    /// The distribution.
    #[serde(flatten)]
    pub histogram: Histogram,
}

/// One line of `texts.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextLine {
    /// The stage's own step.
    pub step: u64,
    /// As for figures.
    pub unix_seconds: f64,
    /// `group/name`.
    pub name: String,
    /// Markdown.
    pub text: String,
}

/// A line of any of the three files.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// Figures.
    Metrics(MetricLine),
    /// A distribution.
    Histogram(HistogramLine),
    /// A text.
    Text(TextLine),
}

impl Line {
    /// The file that it belongs to.
    pub fn file(&self) -> &'static str {
        match self {
            Self::Metrics(_) => METRICS,
            Self::Histogram(_) => HISTOGRAMS,
            Self::Text(_) => TEXTS,
        }
    }

    /// When it was written.
    pub fn unix_seconds(&self) -> f64 {
        match self {
            Self::Metrics(line) => line.unix_seconds,
            Self::Histogram(line) => line.unix_seconds,
            Self::Text(line) => line.unix_seconds,
        }
    }

    /// Its JSON, and the line as a reader of that JSON gets it: whatever follows from a line follows from its file.
    pub fn written(&self) -> Result<(String, Self)> {
        fn both<T: Serialize + for<'d> Deserialize<'d>>(line: &T) -> Result<(String, T)> {
            let fail = |error: serde_json::Error| {
                Error::internal(format!("a line of metrics does not serialise: {error}"))
            };
            let text = serde_json::to_string(line).map_err(fail)?;
            let read = serde_json::from_str(&text).map_err(fail)?;
            Ok((text, read))
        }
        Ok(match self {
            Self::Metrics(line) => {
                let (text, line) = both(line)?;
                (text, Self::Metrics(line))
            }
            Self::Histogram(line) => {
                let (text, line) = both(line)?;
                (text, Self::Histogram(line))
            }
            Self::Text(line) => {
                let (text, line) = both(line)?;
                (text, Self::Text(line))
            }
        })
    }
}

/// The figures in a stage's folder; none where it has written none.
pub fn read_metrics(dir: &Path) -> Result<Vec<MetricLine>> {
    read_metric_file(&dir.join(METRICS))
}

/// The figures in a file, such as the copy in a run's folder; none where there is no such file.
///
/// # Errors
/// A file that cannot be read, a line that is no line of metrics: file and line are named.
pub fn read_metric_file(path: &Path) -> Result<Vec<MetricLine>> {
    read_if_there(path)
}

/// All lines in a stage's folder, in the order in which they were written.
pub fn read_all(dir: &Path) -> Result<Vec<Line>> {
    let mut lines: Vec<Line> = read_metrics(dir)?.into_iter().map(Line::Metrics).collect();
    lines.extend(
        read_if_there(&dir.join(HISTOGRAMS))?
            .into_iter()
            .map(Line::Histogram),
    );
    lines.extend(read_if_there(&dir.join(TEXTS))?.into_iter().map(Line::Text));
    lines.sort_by(|a, b| a.unix_seconds().total_cmp(&b.unix_seconds()));
    Ok(lines)
}

fn read_if_there<T: for<'d> Deserialize<'d>>(path: &Path) -> Result<Vec<T>> {
    if !path.is_file() {
        return Ok(Vec::new());
    }
    let bytes = std::fs::read(path).map_err(|error| Error::io("read", path, &error))?;
    jsonl::lines(&bytes)
        .map(|(number, line)| {
            serde_json::from_slice(line).map_err(|error| {
                Error::input(format!(
                    "{}:{number} is no line of metrics: {error}",
                    path.display()
                ))
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_flat_json_with_null_for_what_is_not_finite() {
        let line = MetricLine::new(3, 1.5, &[("b/loss", 0.25), ("a/kl", f64::NAN)]);
        let (text, read) = Line::Metrics(line.clone()).written().unwrap();
        assert_eq!(
            text,
            r#"{"step":3,"unix_seconds":1.5,"b/loss":0.25,"a/kl":null}"#
        );
        assert_eq!(read, Line::Metrics(line.clone()));
        assert_eq!(line.get("b/loss"), Some(0.25));
        assert_eq!(line.get("a/kl"), None);
    }

    #[test]
    fn lines_of_all_files_come_in_the_order_of_their_times() {
        let dir = tempfile::tempdir().unwrap();
        let metric = |time| Line::Metrics(MetricLine::new(1, time, &[("a/b", time)]));
        let text = Line::Text(TextLine {
            step: 1,
            unix_seconds: 2.0,
            name: "samples/x".into(),
            text: "words".into(),
        });
        let histogram = Line::Histogram(HistogramLine {
            step: 1,
            unix_seconds: 3.0,
            name: "a/h".into(),
            histogram: Histogram::of(&[1.0, 2.0]).unwrap(),
        });
        let all = [metric(1.0), text, histogram, metric(4.0)];
        for line in &all {
            use std::io::Write as _;
            let mut file = std::fs::File::options()
                .create(true)
                .append(true)
                .open(dir.path().join(line.file()))
                .unwrap();
            writeln!(file, "{}", line.written().unwrap().0).unwrap();
        }
        assert_eq!(read_all(dir.path()).unwrap(), all);
    }
}
