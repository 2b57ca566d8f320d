//! An estimate, its standard error and its 95% interval; the closed forms for means and proportions.

use serde::{Deserialize, Serialize};

/// The 97.5% quantile of the standard normal distribution: half the width of a 95% interval in standard errors.
pub const Z_95: f64 = 1.959_963_984_540_054;

/// A 95% interval, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end, not below `low`.
    pub high: f64,
}

impl Interval {
    /// Whether `value` lies inside.
    pub fn contains(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }

    /// The same interval in other units: both ends times `factor`, which is not negative.
    #[must_use]
    pub fn scaled(&self, factor: f64) -> Self {
        Self {
            low: self.low * factor,
            high: self.high * factor,
        }
    }
}

/// A number estimated from `n` units (prompts, pairs or responses).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The estimate.
    pub value: f64,
    /// One standard error; `None` where there are fewer than two units.
    pub se: Option<f64>,
    /// The 95% interval; `None` where there are fewer than two units.
    pub interval: Option<Interval>,
    /// How many units it rests on, at least 1.
    pub n: usize,
}

impl Estimate {
    /// For a rate in [0, 1]: the same estimate with the Wilson interval where resampling has no spread to show.
    ///
    /// A bootstrap of units that are all equal returns an interval of no width, also where there are only two of them;
    /// the Wilson interval is honest about how little that is.
    #[must_use]
    pub fn or_wilson(mut self) -> Self {
        if self.interval.is_none_or(|i| i.low == i.high) {
            self.interval = wilson(self.value * self.n as f64, self.n);
        }
        self
    }
}

/// The mean; `None` of no values.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The standard error of the mean, s / √n with the sample standard deviation s (ddof 1); `None` below two values.
pub fn standard_error(values: &[f64]) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let centre = mean(values)?;
    let squares: f64 = values.iter().map(|v| (v - centre).powi(2)).sum();
    let n = values.len() as f64;
    Some((squares / (n - 1.0) / n).sqrt())
}

/// The 95% Wilson score interval of a proportion; `None` where `n` is 0.
///
/// `successes` lies in [0, n] and may be fractional, because a tie counts half; the interval is then a little too wide,
/// since half a success varies less than a whole one.
pub fn wilson(successes: f64, n: usize) -> Option<Interval> {
    if n == 0 || !(0.0..=n as f64).contains(&successes) {
        return None;
    }
    let n = n as f64;
    let p = successes / n;
    let z2 = Z_95 * Z_95;
    let centre = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z_95 * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt() / (1.0 + z2 / n);
    Some(Interval {
        low: (centre - half).max(0.0),
        high: (centre + half).min(1.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // import numpy as np; from scipy import stats
    // v = [0.0, 0.5, 1.0, 1.0, 0.25]
    // np.mean(v), stats.sem(v)                       # 0.55 0.2
    #[test]
    fn mean_and_standard_error_agree_with_scipy() {
        let values = [0.0, 0.5, 1.0, 1.0, 0.25];
        assert!((mean(&values).unwrap() - 0.55).abs() < 1e-15);
        assert!((standard_error(&values).unwrap() - 0.2).abs() < 1e-15);
    }

    // from scipy.stats import binomtest
    // for k, n in [(0, 10), (10, 10), (3, 8), (415, 805)]: print(binomtest(k, n).proportion_ci(method="wilson"))
    #[test]
    fn wilson_agrees_with_scipy() {
        for (successes, n, low, high) in [
            (0.0, 10, 0.0, 0.277_532_799_862_889_26),
            (10.0, 10, 0.722_467_200_137_110_9, 1.0),
            (3.0, 8, 0.136_844_285_823_597_37, 0.694_257_605_397_372_8),
            (415.0, 805, 0.481_013_036_064_960_8, 0.549_895_369_689_178_5),
        ] {
            let found = wilson(successes, n).unwrap();
            assert!((found.low - low).abs() < 1e-12, "{found:?}");
            assert!((found.high - high).abs() < 1e-12, "{found:?}");
        }
    }

    #[test]
    fn a_rate_without_spread_gets_the_wilson_interval() {
        let collapsed = Estimate {
            value: 1.0,
            se: Some(0.0),
            interval: Some(Interval {
                low: 1.0,
                high: 1.0,
            }),
            n: 10,
        };
        assert_eq!(collapsed.or_wilson().interval, wilson(10.0, 10));
        let spread = Estimate {
            interval: Some(Interval {
                low: 0.2,
                high: 0.9,
            }),
            ..collapsed
        };
        assert_eq!(spread.or_wilson(), spread);
    }

    #[test]
    fn too_little_data_is_none() {
        assert_eq!(mean(&[]), None);
        assert_eq!(mean(&[3.0]), Some(3.0));
        assert_eq!(standard_error(&[]), None);
        assert_eq!(standard_error(&[3.0]), None);
        assert_eq!(wilson(0.0, 0), None);
        assert_eq!(wilson(3.0, 2), None);
        assert_eq!(wilson(f64::NAN, 2), None);
    }
}
