//! The distribution of a figure over tokens or responses, in buckets of equal width.

use serde::{Deserialize, Serialize};

/// Buckets of a histogram, as TensorBoard's own summaries have.
const BUCKETS: usize = 30;

/// Counts between the smallest and the largest value, and what TensorBoard's format holds beside them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// The smallest value.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// Values.
    pub num: f64,
    /// Their sum.
    pub sum: f64,
    /// The sum of their squares.
    pub sum_squares: f64,
    /// The right ends of the buckets, rising; the last is `max`.
    pub limits: Vec<f64>,
    /// Values in each bucket: above the limit before, up to its own.
    pub counts: Vec<f64>,
}

impl Histogram {
    /// The distribution of the finite values; `None` where there are none.
    pub fn of(values: &[f32]) -> Option<Self> {
        let finite = || {
            let all = values.iter().filter(|value| value.is_finite());
            all.map(|&value| f64::from(value))
        };
        let (min, max) = finite().fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), value| {
            (min.min(value), max.max(value))
        });
        if min > max {
            return None;
        }
        let buckets = if min == max { 1 } else { BUCKETS };
        let width = (max - min) / buckets as f64;
        let mut limits: Vec<f64> = (1..=buckets).map(|at| min + width * at as f64).collect();
        limits[buckets - 1] = max;
        let mut counts = vec![0.0; buckets];
        for value in finite() {
            counts[limits.partition_point(|&limit| limit < value)] += 1.0;
        }
        Some(Self {
            min,
            max,
            num: finite().count() as f64,
            sum: finite().sum(),
            sum_squares: finite().map(|value| value * value).sum(),
            limits,
            counts,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finite_value_is_in_the_bucket_that_holds_it() {
        let values = [0.0, 0.5, 1.0, 30.0, 29.5, f32::NAN, f32::INFINITY];
        let histogram = Histogram::of(&values).unwrap();
        assert_eq!(histogram.limits.len(), 30);
        assert_eq!((histogram.min, histogram.max), (0.0, 30.0));
        assert_eq!(
            (histogram.num, histogram.sum, histogram.sum_squares),
            (5.0, 61.0, 0.25 + 1.0 + 900.0 + 870.25)
        );
        // Limits are 1, 2, …, 30: a value on a limit is in the bucket that ends there.
        assert_eq!(histogram.counts[0], 3.0);
        assert_eq!(histogram.counts[29], 2.0);
        assert_eq!(histogram.counts.iter().sum::<f64>(), 5.0);
    }

    #[test]
    fn one_value_is_one_bucket_and_no_value_no_histogram() {
        let histogram = Histogram::of(&[2.0, 2.0]).unwrap();
        assert_eq!((histogram.limits, histogram.counts), (vec![2.0], vec![2.0]));
        assert_eq!(Histogram::of(&[f32::NAN]), None);
        assert_eq!(Histogram::of(&[]), None);
    }
}
