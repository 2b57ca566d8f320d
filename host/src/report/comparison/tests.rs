use super::*;
use crate::eval::statistics::{Estimate, Interval};
use crate::eval::{JudgeRates, Mark};

fn estimate(value: f64, low: f64, high: f64, n: usize) -> Estimate {
    let interval = Some(Interval { low, high });
    Estimate {
        value,
        se: Some((high - low) / 3.92),
        interval,
        n,
    }
}

fn win_rate(rate: f64, low: f64, high: f64) -> WinRate {
    WinRate {
        rate: Some(rate),
        se: Some((high - low) / 3.92),
        interval: Some(Interval { low, high }),
        n: 803,
        wins: 370,
        ties: 9,
        losses: 424,
        flips: 9,
        identical: 1,
        failures: 2,
        mean_length_model: Some(412.4),
        mean_length_reference: Some(395.6),
    }
}

fn row(variant: &str, seeds: &[(u64, f64)], overall: (f64, f64, f64)) -> WinRateRow {
    let (rate, low, high) = overall;
    let control = LengthControl {
        rate: rate - 0.01,
        se: Some(0.018),
        interval: Some(Interval {
            low: low - 0.01,
            high: high - 0.01,
        }),
        slope: 0.4,
        n: 803,
    };
    WinRateRow {
        variant: variant.to_owned(),
        win_rate: OverSeeds {
            seeds: seeds
                .iter()
                .map(|&(seed, r)| Seeded {
                    seed,
                    value: win_rate(r, r - 0.035, r + 0.035),
                })
                .collect(),
            overall: Some(estimate(rate, low, high, 803)),
        },
        length_controlled: OverSeeds {
            seeds: seeds
                .iter()
                .map(|&(seed, _)| Seeded {
                    seed,
                    value: Some(control),
                })
                .collect(),
            overall: Some(estimate(rate - 0.01, low - 0.01, high - 0.01, 803)),
        },
        difference: None,
        length_controlled_difference: None,
        verdict: None,
    }
}

fn difference(value: f64, low: f64, high: f64, p_value: Option<f64>) -> PairedDifference {
    PairedDifference {
        difference: Some(value),
        se: Some((high - low) / 3.92),
        interval: Some(Interval { low, high }),
        n: 803,
        better: 300,
        worse: 250,
        equal: 253,
        p_value,
        test: p_value.map(|_| crate::eval::ExactTest::Sign),
        p_bootstrap: Some(if low > 0.0 { 0.012 } else { 0.064 }),
        p_holm: None,
        seed_interval: p_value.is_none().then_some(Interval {
            low: low - 0.02,
            high: high + 0.02,
        }),
    }
}

fn accuracy(rate: f64, n: usize, seeds: &[u64]) -> OverSeeds<Accuracy> {
    let overall = estimate(rate, rate - 0.03, rate + 0.03, n);
    let one = Accuracy {
        rate: Some(rate),
        interval: overall.interval,
        n,
        ties: 1,
        mean_margin: Some(0.25),
    };
    OverSeeds {
        seeds: seeds
            .iter()
            .map(|&seed| Seeded { seed, value: one })
            .collect(),
        overall: Some(overall),
    }
}

fn localisation(auc: f64, seeds: &[u64]) -> OverSeeds<Localisation> {
    let overall = estimate(auc, auc - 0.02, auc + 0.02, 200);
    let one = Localisation {
        mark: Mark::Defective,
        pooled: Some(overall),
        per_response: Some(Estimate {
            value: auc + 0.01,
            ..overall
        }),
        responses: 200,
        tokens: 4000,
        marked_tokens: 500,
    };
    OverSeeds {
        seeds: seeds
            .iter()
            .map(|&seed| Seeded { seed, value: one })
            .collect(),
        overall: Some(overall),
    }
}

fn judge_rates() -> JudgeRates {
    JudgeRates {
        n: 2400,
        flips: Some(estimate(0.011, 0.007, 0.016, 803)),
        first_position: Some(estimate(0.522, 0.498, 0.545, 803)),
        decided_verdicts: 4768,
        longer_preferred: Some(estimate(0.61, 0.58, 0.64, 803)),
        of_different_length: 2316,
        failures: 6,
        identical: 3,
    }
}

fn evaluations(scores: &[f64]) -> Vec<EvaluationPoint> {
    crate::eval::efficiency::tests::points(scores)
}

fn cost(
    seeds: &[u64],
    reward_model: Option<f64>,
    scores: &[f64],
    baseline: Option<&[f64]>,
) -> Vec<Seeded<RunCost>> {
    let baseline = baseline.map(evaluations);
    let cost = RunCost::new(
        reward_model,
        151.0,
        &evaluations(scores),
        baseline.as_deref(),
    )
    .unwrap();
    seeds
        .iter()
        .map(|&seed| Seeded { seed, value: cost })
        .collect()
}

/// A result with the three variants of the paper, under these seeds.
pub(in crate::report) fn example(seeds: &[u64]) -> ComparisonResult {
    use PairSource::{Edits, Pairs};
    let spread = |rate: f64| -> Vec<(u64, f64)> {
        let centre = (seeds.len() - 1) as f64 / 2.0;
        let offset = |i: usize| 0.01 * (i as f64 - centre);
        let rates = seeds
            .iter()
            .enumerate()
            .map(|(i, &seed)| (seed, rate + offset(i)));
        rates.collect()
    };
    let p = (seeds.len() == 1).then_some(0.0364);
    let mut win_rates = vec![
        row("PPO-RLHF", &spread(0.465), (0.465, 0.43, 0.50)),
        row("fine-grained PPO", &spread(0.512), (0.512, 0.477, 0.547)),
        row(
            "fine-grained token-level PPO",
            &spread(0.516),
            (0.516, 0.481, 0.551),
        ),
    ];
    win_rates[1].difference = Some(difference(0.047, 0.003, 0.091, p));
    win_rates[2].difference = Some(difference(0.051, -0.002, 0.104, p));
    let cell = |trained_on, scheme: &str, tested_on, rate, n| AccuracyCell {
        trained_on,
        scheme: scheme.to_owned(),
        tested_on,
        accuracy: accuracy(rate, n, seeds),
    };
    let variant = |name: &str, trained_on, scheme: &str| Variant {
        name: name.to_owned(),
        trained_on: Some(trained_on),
        scheme: scheme.to_owned(),
    };
    ComparisonResult {
        format: ComparisonResult::FORMAT,
        judge: "rubric".to_owned(),
        reference: "the SFT policy".to_owned(),
        seeds: seeds.to_vec(),
        baseline: "PPO-RLHF".to_owned(),
        variants: vec![
            variant("PPO-RLHF", Pairs, "sequence"),
            variant("fine-grained PPO", Edits, "sequence"),
            variant("fine-grained token-level PPO", Edits, "token-average"),
        ],
        win_rates,
        judging: Judging {
            judges: vec![JudgeRow {
                judge: "rubric".to_owned(),
                variant: None,
                rates: judge_rates(),
            }],
            of_variants: vec![JudgeRow {
                judge: "rubric".to_owned(),
                variant: Some("PPO-RLHF".to_owned()),
                rates: judge_rates(),
            }],
            ..Judging::default()
        },
        reward_models: RewardModels {
            cells: vec![
                cell(Pairs, "sequence", Pairs, 0.582, 751),
                cell(Pairs, "sequence", Edits, 0.64, 389),
                cell(Edits, "sequence", Pairs, 0.55, 751),
                cell(Edits, "sequence", Edits, 0.852, 389),
                cell(Edits, "token-average", Edits, 0.87, 389),
            ],
            longer_is_better: vec![LongerCell {
                tested_on: Pairs,
                accuracy: accuracy(0.622, 751, seeds),
            }],
            localisation: vec![LocalisationCell {
                trained_on: Edits,
                scheme: "token-average".to_owned(),
                localisation: localisation(0.81, seeds),
                of_rewards: localisation(0.79, seeds),
            }],
        },
        costs: vec![
            CostRow {
                variant: "PPO-RLHF".to_owned(),
                seeds: cost(seeds, Some(11.5), &[0.5, 0.55, 0.62, 0.6], None),
            },
            CostRow {
                variant: "fine-grained PPO".to_owned(),
                seeds: cost(
                    seeds,
                    Some(13.0),
                    &[0.5, 0.64, 0.699, 0.7],
                    Some(&[0.5, 0.62]),
                ),
            },
            CostRow {
                variant: "fine-grained token-level PPO".to_owned(),
                seeds: cost(seeds, None, &[0.5, 0.4], Some(&[0.5, 0.62])),
            },
        ],
        asked: Vec::new(),
        set_aside: Vec::new(),
        notes: vec![
            "The sandbox is a test bed: its figures say nothing about natural language.".to_owned(),
        ],
    }
    .concluded(false)
}

#[test]
fn json_keeps_every_figure() {
    for seeds in [&[1][..], &[1, 2, 3]] {
        let result = example(seeds);
        let json = result.to_json().unwrap();
        assert!(json.ends_with("}\n"));
        assert_eq!(ComparisonResult::from_json(&json).unwrap(), result);
    }
}

#[test]
fn json_of_another_version_is_refused() {
    let mut result = example(&[1]);
    result.format = 7;
    let error = ComparisonResult::from_json(&result.to_json().unwrap()).unwrap_err();
    assert_eq!(
        (error.to_string().as_str(), error.exit_code()),
        ("the comparison has format 7; format 2 is accepted", 2)
    );
    assert_eq!(
        ComparisonResult::from_json("{}").unwrap_err().exit_code(),
        2
    );
}
