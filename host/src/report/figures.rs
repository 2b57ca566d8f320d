//! How figures are written: one way everywhere, and a dash for what could not be measured.

use crate::eval::statistics::{Estimate, Interval};

/// What stands where there is no figure.
pub(super) const NONE: &str = "–";

/// An optional figure, or the dash.
pub(super) fn or_none<T>(value: Option<T>, write: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| NONE.to_owned(), write)
}

/// A fraction as percent with its interval: `51.6 [48.1, 55.1]`.
pub(super) fn percent(estimate: Option<Estimate>) -> String {
    or_none(estimate, |e| percent_of(e.value, e.interval))
}

/// The same from its parts.
pub(super) fn percent_of(value: f64, interval: Option<Interval>) -> String {
    with_interval(100.0 * value, interval.map(|i| i.scaled(100.0)), 1)
}

/// A number with its interval, both with so many decimals.
pub(super) fn with_interval(value: f64, interval: Option<Interval>, decimals: usize) -> String {
    match interval {
        Some(Interval { low, high }) => {
            let (value, low, high) = (
                zero(value, decimals),
                zero(low, decimals),
                zero(high, decimals),
            );
            format!("{value:.decimals$} [{low:.decimals$}, {high:.decimals$}]")
        }
        None => format!("{:.decimals$}", zero(value, decimals)),
    }
}

/// Zero in place of what would be written as `-0.0`.
fn zero(value: f64, decimals: usize) -> f64 {
    if value.abs() * 10_f64.powi(decimals as i32) < 0.5 {
        0.0
    } else {
        value
    }
}

/// The unit that a time is written in, and how many seconds it has.
fn unit(seconds: f64) -> (&'static str, f64) {
    if seconds < 120.0 {
        ("s", 1.0)
    } else if seconds < 7200.0 {
        ("min", 60.0)
    } else {
        ("h", 3600.0)
    }
}

/// A time: `31.2 s`, `12.4 min`, `3.2 h`.
pub(super) fn duration(seconds: f64) -> String {
    let (unit, size) = unit(seconds);
    format!("{:.1} {unit}", seconds / size)
}

/// A span of time in the unit of its end: `25.0–31.2 s`.
pub(super) fn duration_span(from: Option<f64>, to: f64) -> String {
    let (_, size) = unit(to);
    or_empty(from, |from| format!("{:.1}–", from / size)) + &duration(to)
}

/// A span of counts: `800–960`.
pub(super) fn count_span(from: Option<f64>, to: f64) -> String {
    or_empty(from, |from| format!("{from:.0}–")) + &format!("{to:.0}")
}

fn or_empty(value: Option<f64>, write: impl FnOnce(f64) -> String) -> String {
    value.map_or_else(String::new, write)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_differences() {
        let interval = Some(Interval {
            low: -0.0001,
            high: 0.1,
        });
        assert_eq!(percent_of(0.516, interval), "51.6 [0.0, 10.0]");
        assert_eq!(percent(None), "–");
        assert_eq!(with_interval(0.812, interval, 2), "0.81 [0.00, 0.10]");
    }

    #[test]
    fn times_and_counts() {
        assert_eq!(duration(31.24), "31.2 s");
        assert_eq!(duration(744.0), "12.4 min");
        assert_eq!(duration(11_520.0), "3.2 h");
        assert_eq!(duration_span(Some(60.0), 180.0), "1.0–3.0 min");
        assert_eq!(duration_span(None, 0.0), "0.0 s");
        assert_eq!(count_span(Some(800.0), 960.0), "800–960");
    }
}
