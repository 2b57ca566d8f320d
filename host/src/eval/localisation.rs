//! How well token rewards find the tokens that deserve them: the AUC of **low** reward for marked tokens.
//!
//! An AUC is the probability that a marked token gets less reward than an unmarked one, ties half: 0.5 is chance, 1 finds
//! every marked token first. A scheme that rewards the last token alone ties nearly everywhere and comes out near 0.5.

use serde::{Deserialize, Serialize};

use super::over_seeds::{OverSeeds, Seeded};
use super::statistics::{Bootstrap, Design, Estimate, Ranking, mean};
use crate::error::{Error, Result};

/// What the marks mean; the two are not the same claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mark {
    /// Ground truth: the token is part of a defect. Only the sandbox knows.
    Defective,
    /// The token of a rejected (original) response that the edit touched: what the annotator changed, which is close to
    /// what the reward model was trained on.
    Changed,
}

impl std::fmt::Display for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Defective => "defective",
            Self::Changed => "changed",
        })
    }
}

/// A response with a reward and a mark per token.
#[derive(Clone, Debug, PartialEq)]
pub struct MarkedResponse {
    /// The reward of every response token.
    pub rewards: Vec<f32>,
    /// 1 where the token is marked, else 0; as long as `rewards`.
    pub marks: Vec<u8>,
}

/// How well rewards find marked tokens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Localisation {
    /// What the marks mean.
    pub mark: Mark,
    /// AUC over the tokens of all responses together, interval by resampling responses. Rewards of different responses
    /// are compared, so it also asks whether worse responses get less reward. `None` where one class is empty.
    pub pooled: Option<Estimate>,
    /// Mean over responses of each one's own AUC, of the `n` responses that have both classes: asks only where inside a
    /// response the reward goes. `None` where there is no such response.
    pub per_response: Option<Estimate>,
    /// Responses in all.
    pub responses: usize,
    /// Response tokens in all.
    pub tokens: usize,
    /// Marked tokens in all.
    pub marked_tokens: usize,
}

impl Localisation {
    /// The localisation of one run.
    ///
    /// # Errors
    /// Rewards and marks of different lengths, or a reward that is NaN.
    pub fn of(mark: Mark, responses: &[MarkedResponse], bootstrap: &Bootstrap) -> Result<Self> {
        let ranking = ranking(responses)?;
        Ok(Self {
            mark,
            pooled: ranking.estimate(bootstrap),
            per_response: bootstrap.mean(&own_aucs(responses)?),
            responses: responses.len(),
            tokens: responses.iter().map(|r| r.rewards.len()).sum(),
            marked_tokens: responses
                .iter()
                .flat_map(|r| &r.marks)
                .filter(|&&m| m != 0)
                .count(),
        })
    }

    /// The localisations of several seeds, each on responses of its own; `overall` is the pooled AUC, averaged over
    /// seeds, with the hierarchical interval.
    ///
    /// # Errors
    /// As [`Localisation::of`].
    pub fn over_seeds(
        mark: Mark,
        seeds: &[Seeded<Vec<MarkedResponse>>],
        bootstrap: &Bootstrap,
    ) -> Result<OverSeeds<Self>> {
        let own = seeds
            .iter()
            .map(|s| {
                Ok(Seeded {
                    seed: s.seed,
                    value: Self::of(mark, &s.value, bootstrap)?,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let rankings = seeds
            .iter()
            .map(|s| ranking(&s.value))
            .collect::<Result<Vec<_>>>()?;
        let pooled: Vec<Estimate> = own.iter().filter_map(|s| s.value.pooled).collect();
        let overall = match own.as_slice() {
            [only] => only.value.pooled,
            _ => mean(&pooled.iter().map(|e| e.value).collect::<Vec<_>>()).map(|value| {
                let design = Design::Nested(seeds.iter().map(|s| s.value.len()).collect());
                let spread =
                    bootstrap.hierarchical(&design, |seed, drawn| rankings[seed].resampled(drawn));
                Estimate {
                    value,
                    se: spread.map(|s| s.se),
                    interval: spread.map(|s| s.interval),
                    n: pooled.iter().map(|e| e.n).sum(),
                }
            }),
        };
        Ok(OverSeeds {
            seeds: own,
            overall,
        })
    }
}

/// The tokens of all responses by falling reward; a response is what is resampled.
fn ranking(responses: &[MarkedResponse]) -> Result<Ranking> {
    for (row, response) in responses.iter().enumerate() {
        if response.rewards.len() != response.marks.len() {
            return Err(Error::internal(format!(
                "localisation: row {row} has {} rewards but {} marks",
                response.rewards.len(),
                response.marks.len()
            )));
        }
    }
    let items = responses.iter().enumerate().flat_map(|(row, response)| {
        let tokens = response.rewards.iter().zip(&response.marks);
        tokens.map(move |(&reward, &mark)| (row, -f64::from(reward), mark != 0))
    });
    Ranking::new(items, responses.len())
}

/// The AUC of every response that has marked and unmarked tokens.
fn own_aucs(responses: &[MarkedResponse]) -> Result<Vec<f64>> {
    let mut aucs = Vec::new();
    for response in responses {
        aucs.extend(ranking(std::slice::from_ref(response))?.auc());
    }
    Ok(aucs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use finegrain_sdk::rng::Stream;

    fn bootstrap() -> Bootstrap {
        Bootstrap::new(Stream::new(4)).with_resamples(500)
    }

    fn response(rewards: &[f32], marks: &[u8]) -> MarkedResponse {
        MarkedResponse {
            rewards: rewards.to_vec(),
            marks: marks.to_vec(),
        }
    }

    fn of(responses: &[MarkedResponse]) -> Localisation {
        Localisation::of(Mark::Defective, responses, &bootstrap()).unwrap()
    }

    #[test]
    fn low_rewards_find_marked_tokens() {
        let perfect = of(&[
            response(&[0.5, -1.0, 0.25], &[0, 1, 0]),
            response(&[-2.0, 1.0], &[1, 0]),
        ]);
        assert_eq!(perfect.pooled.unwrap().value, 1.0);
        assert_eq!(perfect.per_response.unwrap().value, 1.0);
        assert_eq!(
            (perfect.responses, perfect.tokens, perfect.marked_tokens),
            (2, 5, 2)
        );
        let inverse = of(&[response(&[0.5, -1.0], &[1, 0])]);
        assert_eq!(inverse.pooled.unwrap().value, 0.0);
        assert_eq!(inverse.pooled.unwrap().interval, None);
    }

    #[test]
    fn pooling_compares_responses_and_the_mean_does_not() {
        // Inside each response the marked token is found; across them every token of the second has less reward.
        let found = of(&[
            response(&[10.0, 9.0], &[0, 1]),
            response(&[1.0, 0.0], &[0, 1]),
        ]);
        assert_eq!(found.per_response.unwrap().value, 1.0);
        assert_eq!(found.pooled.unwrap().value, 0.75);
    }

    #[test]
    fn a_reward_at_the_last_token_alone_is_near_chance() {
        // Marked: 1 of 4 tokens, tied with two others, below the rewarded last one: (2 · ½ + 1) / 3.
        let found = of(&[response(&[0.0, 0.0, 0.0, 1.0], &[0, 1, 0, 0])]);
        assert!((found.pooled.unwrap().value - 2.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn one_class_alone_is_none() {
        for responses in [
            vec![],
            vec![response(&[1.0, 2.0], &[0, 0])],
            vec![response(&[], &[])],
        ] {
            let found = of(&responses);
            assert_eq!((found.pooled, found.per_response), (None, None));
        }
        // Tokens without a partner inside their response still count in the pool.
        let mixed = of(&[response(&[1.0], &[0]), response(&[0.0], &[1])]);
        assert_eq!(
            (mixed.pooled.unwrap().value, mixed.per_response),
            (1.0, None)
        );
    }

    #[test]
    fn refuses_what_cannot_be_ranked() {
        assert!(
            Localisation::of(Mark::Changed, &[response(&[1.0], &[0, 1])], &bootstrap()).is_err()
        );
        assert!(
            Localisation::of(Mark::Changed, &[response(&[f32::NAN], &[1])], &bootstrap()).is_err()
        );
    }

    #[test]
    fn seeds_are_averaged() {
        let good = vec![
            response(&[0.5, -1.0, 0.25], &[0, 1, 0]),
            response(&[-2.0, 1.0], &[1, 0]),
        ];
        let bad = vec![
            response(&[0.5, -1.0], &[1, 0]),
            response(&[0.5, -1.0], &[1, 0]),
        ];
        let seeds = [
            Seeded {
                seed: 1,
                value: good,
            },
            Seeded {
                seed: 2,
                value: bad,
            },
        ];
        let over = Localisation::over_seeds(Mark::Defective, &seeds, &bootstrap()).unwrap();
        assert_eq!(over.overall.unwrap().value, 0.5);
        assert_eq!(over.overall.unwrap().n, 4);
        let one = Localisation::over_seeds(Mark::Defective, &seeds[..1], &bootstrap()).unwrap();
        assert_eq!(one.overall, one.seeds[0].value.pooled);
    }
}
