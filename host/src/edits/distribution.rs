//! The distribution of a figure over edits: mean, quantiles, and a histogram in a line of text.

use serde::Serialize;

use crate::eval::statistics::bootstrap::quantile;
use crate::eval::statistics::mean;
use crate::inspect::sparkline::sparkline;

/// Bins of a histogram.
const BINS: usize = 20;

/// How a figure is spread over edits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Distribution {
    /// How many edits have the figure.
    pub n: usize,
    /// The mean.
    pub mean: f64,
    /// The smallest value.
    pub min: f64,
    /// The 5%, 25%, 50%, 75% and 95% quantiles, linear between order statistics.
    pub quantiles: [f64; 5],
    /// The largest value.
    pub max: f64,
    /// Edits in each of 20 bins of equal width from the smallest to the largest value; a value between two bins is in the upper.
    pub histogram: Vec<usize>,
}

impl Distribution {
    /// The distribution of some values, all of them finite; `None` where there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let width = (max - min) / BINS as f64;
        let mut histogram = vec![0; BINS];
        for value in &sorted {
            // Equal values all lie in the first bin.
            let bin = if width > 0.0 {
                ((value - min) / width) as usize
            } else {
                0
            };
            histogram[bin.min(BINS - 1)] += 1;
        }
        Some(Self {
            n: sorted.len(),
            mean: mean(&sorted)?,
            min,
            quantiles: [0.05, 0.25, 0.5, 0.75, 0.95].map(|p| quantile(&sorted, p)),
            max,
            histogram,
        })
    }

    /// The histogram as a row of blocks.
    pub fn blocks(&self) -> String {
        let counts: Vec<f64> = self.histogram.iter().map(|&n| n as f64).collect();
        sparkline(&counts, BINS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // numpy.quantile([0, 1, 2, 3, 10], [.05, .25, .5, .75, .95]) = [0.2, 1, 2, 3, 8.6]
    #[test]
    fn quantiles_are_those_of_numpy_and_bins_count_everything() {
        let found = Distribution::of([10.0, 0.0, 2.0, 1.0, 3.0]).unwrap();
        let expected = [0.2, 1.0, 2.0, 3.0, 8.6];
        for (found, expected) in found.quantiles.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }
        assert_eq!(
            (found.n, found.mean, found.min, found.max),
            (5, 3.2, 0.0, 10.0)
        );
        // Bins of 0.5: 0, 1, 2, 3 are at the lower ends of the bins 0, 2, 4, 6; the largest is in the last.
        let filled: Vec<usize> = (0..BINS).filter(|&bin| found.histogram[bin] > 0).collect();
        assert_eq!(filled, [0, 2, 4, 6, 19]);
        assert_eq!(found.blocks().chars().count(), BINS);
    }

    #[test]
    fn one_value_is_a_distribution_and_none_is_not() {
        let found = Distribution::of([0.25, 0.25]).unwrap();
        assert_eq!(found.quantiles, [0.25; 5]);
        assert_eq!(found.histogram[0], 2);
        assert_eq!(Distribution::of([]), None);
    }
}
