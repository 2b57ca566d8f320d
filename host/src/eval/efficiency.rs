//! What PPO spent until it was as good as it got (Table 3 of the paper).
//!
//! The score is only known where the policy was evaluated. A milestone is therefore the first *evaluation* at which it was
//! seen, and carries the evaluation before it: the true moment lies between the two. The best of several noisy evaluations
//! is also a little better than the policy is; the figure at 95% of the gain suffers less from it.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// One evaluation during training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvaluationPoint {
    /// PPO steps done; 0 is before the first.
    pub step: u64,
    /// Seconds of training so far, without evaluations.
    pub wall_seconds: f64,
    /// Responses sampled so far.
    pub samples: u64,
    /// Optimizer steps of the policy so far.
    pub optimizer_steps: u64,
    /// What is evaluated: more is better.
    pub score: f64,
}

/// The first evaluation that reached a score.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Milestone {
    /// Where it was seen.
    pub at: EvaluationPoint,
    /// The evaluation before; `None` where the first one already reached it.
    pub previous: Option<EvaluationPoint>,
}

/// How fast one run reached its own best.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Efficiency {
    /// The score of the first evaluation.
    pub initial_score: f64,
    /// The highest score.
    pub best_score: f64,
    /// The first evaluation with the highest score; `None` where no evaluation is above the first one.
    pub to_best: Option<Milestone>,
    /// The first evaluation at initial + 95% of (best − initial) or above; `None` as above.
    pub to_95_percent: Option<Milestone>,
    /// How many evaluations there were.
    pub evaluations: usize,
}

impl Efficiency {
    /// The share of the gain that the second milestone asks for.
    pub const SHARE: f64 = 0.95;

    /// The milestones of a run; `None` of no evaluations.
    ///
    /// # Errors
    /// Steps that do not rise, or a score or time that is not finite.
    pub fn of(points: &[EvaluationPoint]) -> Result<Option<Self>> {
        if let Some(point) = points
            .iter()
            .find(|p| !(p.score.is_finite() && p.wall_seconds.is_finite()))
        {
            return Err(Error::internal(format!(
                "the evaluation at step {} has the score {} after {} s; finite numbers are accepted",
                point.step, point.score, point.wall_seconds
            )));
        }
        if let Some(pair) = points.windows(2).find(|pair| pair[0].step >= pair[1].step) {
            return Err(Error::internal(format!(
                "evaluations go from step {} to step {}; rising steps are accepted",
                pair[0].step, pair[1].step
            )));
        }
        let Some(first) = points.first() else {
            return Ok(None);
        };
        let best_score = points.iter().map(|p| p.score).fold(first.score, f64::max);
        let gain = best_score - first.score;
        let reach = |score: f64| {
            if gain > 0.0 {
                first_reaching(points, score)
            } else {
                None
            }
        };
        Ok(Some(Self {
            initial_score: first.score,
            best_score,
            to_best: reach(best_score),
            to_95_percent: reach(first.score + Self::SHARE * gain),
            evaluations: points.len(),
        }))
    }
}

/// The first evaluation whose score is at least `score`: with the best score of a baseline, it says when a variant had
/// caught up.
pub fn first_reaching(points: &[EvaluationPoint], score: f64) -> Option<Milestone> {
    let at = points.iter().position(|p| p.score >= score)?;
    Some(Milestone {
        at: points[at],
        previous: at.checked_sub(1).map(|before| points[before]),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Evaluations every ten steps, with these scores; a step takes two seconds, 16 samples and 4 optimizer steps.
    pub(crate) fn points(scores: &[f64]) -> Vec<EvaluationPoint> {
        let point = |(i, &score): (usize, &f64)| EvaluationPoint {
            step: 10 * i as u64,
            wall_seconds: 20.0 * i as f64,
            samples: 160 * i as u64,
            optimizer_steps: 40 * i as u64,
            score,
        };
        scores.iter().enumerate().map(point).collect()
    }

    #[test]
    fn milestones_are_the_first_evaluations_that_reach() {
        let points = points(&[0.5, 0.6, 0.696, 0.7, 0.65, 0.7]);
        let found = Efficiency::of(&points).unwrap().unwrap();
        assert_eq!(
            (found.initial_score, found.best_score, found.evaluations),
            (0.5, 0.7, 6)
        );
        assert_eq!(
            found.to_best,
            Some(Milestone {
                at: points[3],
                previous: Some(points[2])
            })
        );
        // 0.5 + 0.95 · 0.2 = 0.69.
        assert_eq!(found.to_95_percent.unwrap().at, points[2]);
        assert_eq!(first_reaching(&points, 0.55).unwrap().at.samples, 160);
        assert_eq!(first_reaching(&points, 0.4).unwrap().previous, None);
        assert_eq!(first_reaching(&points, 0.8), None);
    }

    #[test]
    fn no_gain_has_no_milestones() {
        for scores in [&[0.5][..], &[0.5, 0.5, 0.3], &[0.5, 0.1]] {
            let found = Efficiency::of(&points(scores)).unwrap().unwrap();
            assert_eq!(
                (found.to_best, found.to_95_percent, found.best_score),
                (None, None, 0.5)
            );
        }
        assert_eq!(Efficiency::of(&[]).unwrap(), None);
    }

    #[test]
    fn refuses_curves_that_are_none() {
        let mut twice = points(&[0.1, 0.2]);
        twice[1].step = 0;
        assert!(
            Efficiency::of(&twice)
                .unwrap_err()
                .to_string()
                .contains("from step 0 to step 0")
        );
        assert!(Efficiency::of(&points(&[0.1, f64::NAN])).is_err());
    }
}
