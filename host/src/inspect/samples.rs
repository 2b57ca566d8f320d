//! A few of the evaluation's responses: the best, the worst, or the first.

use std::fmt::Write as _;

use super::{WIDTH, line};
use crate::pipeline::stages::evaluate::JudgedSample;

/// Which samples come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Sort {
    /// The highest preference for the policy.
    Best,
    /// The lowest.
    Worst,
    /// The order of the file.
    First,
}

/// The first `n` samples by `sort`; those that no judge has judged come last, equal ones stay in the order of the file.
pub fn chosen(samples: &[JudgedSample], n: usize, sort: Sort) -> Vec<&JudgedSample> {
    let mut all: Vec<&JudgedSample> = samples.iter().collect();
    let key = |sample: &&JudgedSample| {
        let preference = sample.outcome.preference.unwrap_or(f64::INFINITY);
        if sort == Sort::Best && preference.is_finite() {
            -preference
        } else {
            preference
        }
    };
    if sort != Sort::First {
        all.sort_by(|a, b| key(a).total_cmp(&key(b)));
    }
    all.truncate(n);
    all
}

/// Three lines a sample: preference and prompt, response, reference.
pub fn render(samples: &[&JudgedSample]) -> String {
    let mut text = String::new();
    for sample in samples {
        let preference = sample
            .outcome
            .preference
            .map_or_else(|| "failed".to_owned(), |p| format!("{p:.2}"));
        let flip = if sample.outcome.flip {
            ", orders disagree"
        } else {
            ""
        };
        let head = format!(
            "{} ({preference}{flip}): {}",
            sample.outcome.id, sample.prompt
        );
        let _ = writeln!(text, "{}", line(&head, WIDTH));
        let _ = writeln!(text, "  policy    {}", line(&sample.response, WIDTH - 12));
        let _ = writeln!(text, "  reference {}", line(&sample.reference, WIDTH - 12));
    }
    text
}
