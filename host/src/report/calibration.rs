//! Whether a reward model is as sure as it is right: P(chosen ≻ rejected) = σ(R(chosen) − R(rejected)) against the labels.
//!
//! Every pair counts once, by the side that the model prefers: its confidence max(p, 1 − p) lies in [0.5, 1], and the label
//! agrees with it, disagrees, or (equal rewards) counts half. The Brier score is that of p against the label; saying 0.5
//! of every pair scores 0.25.

use serde::Serialize;

use crate::eval::RankedPair;
use crate::eval::statistics::{Interval, wilson};

/// Bins of equal width from 0.5 to 1.
const BINS: usize = 10;

/// What [`Calibration::brier`] is where every pair is given 0.5.
pub(super) const BRIER_OF_GUESSING: f64 = 0.25;

/// Pairs of like confidence.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Bin {
    /// The lowest confidence, included.
    pub(super) low: f64,
    /// The highest; included in the last bin alone.
    pub(super) high: f64,
    /// Pairs, at least 1.
    pub(super) n: usize,
    /// Their mean confidence.
    pub(super) predicted: f64,
    /// The share in which the label agrees with the model.
    pub(super) observed: f64,
    /// Its 95% Wilson interval.
    pub(super) interval: Option<Interval>,
}

/// The calibration on one set of pairs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Calibration {
    /// Pairs.
    pub(super) n: usize,
    /// `Σ n_bin / n · |observed − predicted|`: expected calibration error, 0 to 1.
    pub(super) ece: f64,
    /// Mean of (1 − P(chosen ≻ rejected))².
    pub(super) brier: f64,
    /// Bins with at least one pair, by confidence.
    pub(super) bins: Vec<Bin>,
}

impl Calibration {
    /// The calibration; `None` of no pairs.
    pub(super) fn of(pairs: &[RankedPair]) -> Option<Self> {
        if pairs.is_empty() {
            return None;
        }
        let n = pairs.len() as f64;
        let mut sums = [(0usize, 0.0, 0.0); BINS];
        let mut brier = 0.0;
        for pair in pairs {
            let p = 1.0 / (1.0 + (pair.rejected - pair.chosen).exp());
            brier += (1.0 - p).powi(2) / n;
            let confidence = p.max(1.0 - p);
            let at = ((confidence - 0.5) * 2.0 * BINS as f64) as usize;
            let (count, predicted, agreed) = &mut sums[at.min(BINS - 1)];
            *count += 1;
            *predicted += confidence;
            *agreed += pair.correct();
        }
        let width = 0.5 / BINS as f64;
        let bins: Vec<Bin> = sums
            .into_iter()
            .enumerate()
            .filter(|(_, (count, ..))| *count > 0)
            .map(|(at, (count, predicted, agreed))| Bin {
                low: 0.5 + width * at as f64,
                high: 0.5 + width * (at + 1) as f64,
                n: count,
                predicted: predicted / count as f64,
                observed: agreed / count as f64,
                interval: wilson(agreed, count),
            })
            .collect();
        let gap = |bin: &Bin| bin.n as f64 / n * (bin.observed - bin.predicted).abs();
        Some(Self {
            n: pairs.len(),
            ece: bins.iter().map(gap).sum(),
            brier,
            bins,
        })
    }
}

/// Pearson's correlation; `None` of fewer than three points or where a side does not vary.
pub(super) fn correlation(points: &[(f64, f64)]) -> Option<f64> {
    if points.len() < 3 {
        return None;
    }
    let n = points.len() as f64;
    let (x, y) = points
        .iter()
        .fold((0.0, 0.0), |(x, y), p| (x + p.0 / n, y + p.1 / n));
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for p in points {
        let (dx, dy) = (p.0 - x, p.1 - y);
        xx += dx * dx;
        yy += dy * dy;
        xy += dx * dy;
    }
    (xx > 0.0 && yy > 0.0).then(|| xy / (xx * yy).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    // import numpy as np
    // d = np.array([2.0, -0.3, 0.1, 3.5, -1.2, 0.12]); p = 1/(1+np.exp(-d)); c = np.maximum(p, 1-p); hit = d > 0
    // print(np.mean((1-p)**2))                       # sklearn.metrics.brier_score_loss(np.ones(6), p, pos_label=1)
    // at = np.minimum(((c-.5)*20).astype(int), 9); print(at)       # [7 1 0 9 5 0]
    // print(sum(abs(hit[at==b].mean()-c[at==b].mean())*(at==b).mean() for b in set(at)))
    #[test]
    fn figures_agree_with_numpy() {
        let pairs: Vec<RankedPair> = [2.0, -0.3, 0.1, 3.5, -1.2, 0.12]
            .into_iter()
            .enumerate()
            .map(|(at, margin)| RankedPair {
                id: at.to_string(),
                chosen: margin,
                rejected: 0.0,
                chosen_length: 1,
                rejected_length: 1,
            })
            .collect();
        let found = Calibration::of(&pairs).unwrap();
        assert!(
            (found.brier - 0.230_376_942_737_517_2).abs() < 1e-12,
            "{}",
            found.brier
        );
        assert!(
            (found.ece - 0.406_089_868_973_439_8).abs() < 1e-12,
            "{}",
            found.ece
        );
        let counts: Vec<usize> = found.bins.iter().map(|bin| bin.n).collect();
        assert_eq!(counts, [2, 1, 1, 1, 1]);
        assert_eq!(found.bins[0].observed, 1.0);
        assert_eq!(found.bins[0].interval, wilson(2.0, 2));
        assert_eq!(Calibration::of(&[]), None);
    }

    // np.corrcoef([1, 2, 4, 7], [3, 1, 5, 6])[0, 1]
    #[test]
    fn correlation_agrees_with_numpy() {
        let found = correlation(&[(1.0, 3.0), (2.0, 1.0), (4.0, 5.0), (7.0, 6.0)]).unwrap();
        assert!((found - 0.823_876_935_104_347_2).abs() < 1e-12, "{found}");
        assert_eq!(correlation(&[(1.0, 1.0), (1.0, 2.0), (1.0, 3.0)]), None);
    }
}
