//! Golden values of the recursion, its laws, and its options.

use std::sync::atomic::AtomicBool;

use finegrain_sdk::kinds::{AdvantageEstimator, Advantages, Trajectories};
use finegrain_sdk::{CallContext, ErrorCode, Plugin, Ragged};

use super::Gae;
use crate::options::Options;

static NOT_CANCELLED: AtomicBool = AtomicBool::new(false);

fn context() -> CallContext<'static> {
    CallContext {
        seed: 0,
        step: 0,
        threads: 1,
        cancel: &NOT_CANCELLED,
        log: &|_, _| {},
        progress: &|_, _| {},
        answers: None,
    }
}

const REWARDS: [f32; 8] = [-0.125, 0.25, 0.0, -0.5, 2.0, 1.0, -0.75, 0.5];
const VALUES: [f32; 8] = [0.5, -0.25, 0.75, 1.0, 0.125, 0.25, -1.5, 0.625];
const OFFSETS: [u64; 4] = [0, 5, 5, 8];

fn estimate(options: Options, rewards: &[f32; 8], values: &[f32; 8]) -> ([f32; 8], [f32; 8]) {
    let trajectories = Trajectories {
        rewards: Ragged::new(rewards, &OFFSETS).expect("offsets fit"),
        values: Some(Ragged::new(values, &OFFSETS).expect("offsets fit")),
        groups: &[0, 1, 2, 3],
    };
    let (mut advantages, mut returns) = ([f32::NAN; 8], [f32::NAN; 8]);
    let out = Advantages {
        advantages: &mut advantages,
        returns: &mut returns,
    };
    Gae::new(options)
        .and_then(|gae| gae.estimate(&trajectories, out, &context()))
        .expect("a valid batch");
    (advantages, returns)
}

fn options(gamma: f64, lambda: f64) -> Options {
    Options {
        gamma,
        lambda,
        value_lambda: None,
    }
}

// The padded, vectorised form of TRL 1.10 and AlpacaFarm, on the two rows that have tokens:
//
// import torch; torch.set_default_dtype(torch.float64)
// r = torch.tensor([[-.125, .25, 0., -.5, 2.], [1., -.75, .5, 0., 0.]])
// v = torch.tensor([[.5, -.25, .75, 1., .125], [.25, -1.5, .625, 0., 0.]])
// def gae(gamma, lam, a=torch.zeros(2), out=()):
//     for t in reversed(range(5)):
//         a = r[:, t] + gamma * (v[:, t + 1] if t < 4 else 0.) - v[:, t] + gamma * lam * a
//         out = (a, *out)
//     return torch.stack(out, 1)
// for g, l in [(1., .95), (.9, .8)]: a = gae(g, l); print(a.tolist(), (a + v).tolist())
#[test]
fn agrees_with_torch() {
    let golden = [
        (
            1.0,
            0.95,
            [
                0.886_433_594,
                1.854_140_625,
                0.635_937_5,
                0.406_25,
                1.875,
                0.443_437_5,
                1.256_25,
                -0.125,
            ],
            [
                1.386_433_594,
                1.604_140_625,
                1.385_937_5,
                1.406_25,
                2.0,
                0.693_437_5,
                -0.243_75,
                0.5,
            ],
        ),
        (
            0.9,
            0.8,
            [
                0.059_763_2,
                1.263_56,
                0.123,
                -0.037_5,
                1.875,
                0.280_2,
                1.222_5,
                -0.125,
            ],
            [
                0.559_763_2,
                1.013_56,
                0.873,
                0.962_5,
                2.0,
                0.530_2,
                -0.277_5,
                0.5,
            ],
        ),
    ];
    for (gamma, lambda, advantages, returns) in golden {
        let ours = estimate(options(gamma, lambda), &REWARDS, &VALUES);
        for t in 0..8 {
            assert!(
                (f64::from(ours.0[t]) - advantages[t]).abs() < 1e-7,
                "A_{t}: {ours:?}"
            );
            assert!(
                (f64::from(ours.1[t]) - returns[t]).abs() < 1e-7,
                "return_{t}: {ours:?}"
            );
        }
    }
}

#[test]
fn no_rewards_and_no_values_give_no_advantage() {
    let (advantages, returns) = estimate(options(0.9, 0.8), &[0.0; 8], &[0.0; 8]);
    assert_eq!((advantages, returns), ([0.0; 8], [0.0; 8]));
}

#[test]
fn without_discount_and_decay_it_is_the_return_minus_the_value() {
    let (advantages, returns) = estimate(options(1.0, 1.0), &REWARDS, &VALUES);
    // Sums from each token to the end of its response; all numbers are exact in binary.
    let reward_to_go = [1.625, 1.75, 1.5, 1.5, 2.0, 0.75, -0.25, 0.5];
    assert_eq!(returns, reward_to_go);
    for t in 0..8 {
        assert_eq!(advantages[t], reward_to_go[t] - VALUES[t]);
    }
}

#[test]
fn without_lambda_it_is_the_temporal_difference() {
    let (advantages, _) = estimate(options(1.0, 0.0), &REWARDS, &VALUES);
    assert_eq!(
        advantages,
        [-0.875, 1.25, 0.25, -1.375, 1.875, -0.75, 1.375, -0.125]
    );
}

#[test]
fn value_lambda_changes_the_returns_alone() {
    let plain = estimate(options(0.9, 0.8), &REWARDS, &VALUES);
    let monte_carlo = estimate(options(0.9, 1.0), &REWARDS, &VALUES);
    let decoupled = estimate(
        Options {
            value_lambda: Some(1.0),
            ..options(0.9, 0.8)
        },
        &REWARDS,
        &VALUES,
    );
    assert_eq!(decoupled, (plain.0, monte_carlo.1));
    assert_ne!(plain.1, monte_carlo.1);
}

#[test]
fn options_outside_their_range_are_refused_by_name() {
    let value_lambda = Options {
        value_lambda: Some(-0.5),
        ..Options::default()
    };
    for (options, name) in [
        (options(1.5, 1.0), "gamma is 1.5"),
        (options(1.0, f64::NAN), "lambda is NaN"),
        (value_lambda, "value_lambda is -0.5"),
    ] {
        let error = Gae::new(options).expect_err(name);
        assert_eq!(error.code, ErrorCode::INVALID_OPTIONS);
        assert!(error.message.starts_with(name), "{error}");
    }
}

#[test]
fn a_missing_critic_is_refused() {
    let trajectories = Trajectories {
        rewards: Ragged::new(&REWARDS, &OFFSETS).expect("offsets fit"),
        values: None,
        groups: &[0, 3],
    };
    let out = Advantages {
        advantages: &mut [f32::NAN; 8],
        returns: &mut [f32::NAN; 8],
    };
    let error = Gae::new(Options::default())
        .and_then(|gae| gae.estimate(&trajectories, out, &context()))
        .expect_err("there are no values");
    assert_eq!(error.message, "gae needs the values of a critic");
}
