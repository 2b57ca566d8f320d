//! The area under the ROC curve as the Mann–Whitney statistic: the probability that a positive item scores above a
//! negative one, ties half.

use super::bootstrap::Bootstrap;
use super::intervals::Estimate;
use crate::error::{Error, Result};

/// Items sorted by score once, so that the AUC of every resample of their groups costs one pass.
#[derive(Clone, Debug)]
pub struct Ranking {
    /// (group, positive), by rising score.
    items: Vec<(usize, bool)>,
    /// Where in `items` each run of equal scores ends.
    run_ends: Vec<usize>,
    groups: usize,
}

impl Ranking {
    /// Items as (group, score, positive), with groups `0..groups`: what is resampled together, such as the tokens of a
    /// response.
    ///
    /// # Errors
    /// A score that is not a number, or a group that is not below `groups`.
    pub fn new(items: impl IntoIterator<Item = (usize, f64, bool)>, groups: usize) -> Result<Self> {
        let mut items: Vec<_> = items.into_iter().collect();
        for &(group, score, _) in &items {
            if score.is_nan() {
                return Err(Error::internal(format!(
                    "a score of row {group} is NaN: AUC needs scores that can be ordered"
                )));
            }
            if group >= groups {
                return Err(Error::internal(format!(
                    "row {group} of {groups} rows does not exist"
                )));
            }
        }
        // `+ 0.0` makes −0 and 0 the same score. The sort is stable, and order inside a run does not matter.
        items.sort_by(|a, b| (a.1 + 0.0).total_cmp(&(b.1 + 0.0)));
        let run_ends = (1..=items.len())
            .filter(|&end| end == items.len() || items[end].1 != items[end - 1].1)
            .collect();
        Ok(Self {
            items: items
                .into_iter()
                .map(|(group, _, positive)| (group, positive))
                .collect(),
            run_ends,
            groups,
        })
    }

    /// The AUC; `None` where one of the two classes is empty.
    pub fn auc(&self) -> Option<f64> {
        self.weighted(&vec![1; self.groups])
    }

    /// The AUC with every item of group g counted `weights[g]` times.
    fn weighted(&self, weights: &[u32]) -> Option<f64> {
        let (mut positives, mut negatives, mut above) = (0.0, 0.0, 0.0);
        let mut start = 0;
        for &end in &self.run_ends {
            let (mut run_positives, mut run_negatives) = (0.0, 0.0);
            for &(group, positive) in &self.items[start..end] {
                let weight = f64::from(weights[group]);
                if positive {
                    run_positives += weight;
                } else {
                    run_negatives += weight;
                }
            }
            above += run_positives * (negatives + 0.5 * run_negatives);
            positives += run_positives;
            negatives += run_negatives;
            start = end;
        }
        (positives > 0.0 && negatives > 0.0).then(|| above / (positives * negatives))
    }

    /// The AUC with standard error and interval from resampling the groups; `n` counts the groups. `None` where one of
    /// the two classes is empty.
    pub fn estimate(&self, bootstrap: &Bootstrap) -> Option<Estimate> {
        let spread = bootstrap.spread(self.groups, |drawn| self.resampled(drawn));
        Some(Estimate {
            value: self.auc()?,
            se: spread.map(|s| s.se),
            interval: spread.map(|s| s.interval),
            n: self.groups,
        })
    }

    /// The AUC of the groups that a resample drew; `None` where one of the two classes is empty.
    pub fn resampled(&self, drawn: &[usize]) -> Option<f64> {
        let mut weights = vec![0; self.groups];
        for &group in drawn {
            weights[group] += 1;
        }
        self.weighted(&weights)
    }
}

/// The AUC of scores for telling positive items from the others; `None` where one of the two classes is empty.
///
/// # Errors
/// Scores and labels of different lengths, or a score that is NaN.
pub fn auc(scores: &[f64], positive: &[bool]) -> Result<Option<f64>> {
    if scores.len() != positive.len() {
        return Err(Error::internal(format!(
            "AUC of {} scores but {} labels",
            scores.len(),
            positive.len()
        )));
    }
    let items = scores
        .iter()
        .zip(positive)
        .map(|(&score, &positive)| (0, score, positive));
    Ok(Ranking::new(items, 1)?.auc())
}

#[cfg(test)]
mod tests {
    use super::*;
    use finegrain_sdk::rng::Stream;

    // from scipy.stats import mannwhitneyu
    // s = [0.1, 0.4, 0.35, 0.8, 0.4, -1.0, 0.4]; y = [0, 0, 1, 1, 1, 0, 0]
    // p = [a for a, b in zip(s, y) if b]; n = [a for a, b in zip(s, y) if not b]
    // mannwhitneyu(p, n).statistic / (len(p) * len(n))
    #[test]
    fn agrees_with_mann_whitney() {
        let scores = [0.1, 0.4, 0.35, 0.8, 0.4, -1.0, 0.4];
        let positive = [false, false, true, true, true, false, false];
        let found = auc(&scores, &positive).unwrap().unwrap();
        assert!((found - 0.75).abs() < 1e-15, "{found}");
    }

    #[test]
    fn edges() {
        assert_eq!(auc(&[], &[]).unwrap(), None);
        assert_eq!(auc(&[1.0], &[true]).unwrap(), None);
        assert_eq!(auc(&[1.0, 2.0], &[false, false]).unwrap(), None);
        assert_eq!(auc(&[1.0, 1.0], &[false, true]).unwrap(), Some(0.5));
        assert_eq!(auc(&[0.0, -0.0], &[false, true]).unwrap(), Some(0.5));
        assert_eq!(auc(&[1.0, 2.0], &[false, true]).unwrap(), Some(1.0));
        assert!(auc(&[1.0, f64::NAN], &[false, true]).is_err());
        assert!(auc(&[1.0], &[false, true]).is_err());
        assert!(Ranking::new([(1, 0.0, true)], 1).is_err());
    }

    #[test]
    fn a_resample_equals_the_auc_of_the_repeated_groups() {
        let groups = [
            vec![(0.3, true), (0.1, false)],
            vec![(0.2, true), (0.3, false), (0.9, false)],
            vec![(0.8, true)],
        ];
        let items = groups
            .iter()
            .enumerate()
            .flat_map(|(g, row)| row.iter().map(move |&(s, p)| (g, s, p)));
        let ranking = Ranking::new(items, 3).unwrap();
        let drawn = [1, 1, 0];
        let (scores, positive): (Vec<f64>, Vec<bool>) =
            drawn.iter().flat_map(|&g| groups[g].clone()).unzip();
        assert_eq!(ranking.resampled(&drawn), auc(&scores, &positive).unwrap());
        assert_eq!(ranking.resampled(&[2, 2, 2]), None);
    }

    #[test]
    fn the_interval_holds_chance_for_scores_that_know_nothing() {
        // Labels alternate while scores count up in steps of two: AUC just above one half.
        let items = (0..200).map(|i| (i, (i / 2) as f64, i % 2 == 0));
        let ranking = Ranking::new(items, 200).unwrap();
        let bootstrap = Bootstrap::new(Stream::new(1)).with_resamples(1000);
        let estimate = ranking.estimate(&bootstrap).unwrap();
        assert_eq!(estimate.value, 0.5);
        assert!(estimate.interval.unwrap().contains(0.5));
        // The standard error of AUC under the null: √((n₁ + n₀ + 1) / (12 n₁ n₀)) = 0.0409.
        assert!(
            (estimate.se.unwrap() - 0.0409).abs() < 0.006,
            "{:?}",
            estimate.se
        );
    }
}
