//! Loss and gradient against torch and central differences.

use std::sync::atomic::AtomicBool;

use finegrain_sdk::kinds::{PairGradients, RewardScheme, Rollouts, ScoredPairs, ScoredSide};
use finegrain_sdk::{CallContext, Plugin, Ragged, Result, TextBatch};

use super::Sequence;
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

fn scheme() -> Sequence {
    Sequence::new(Options {}).expect("there is nothing to refuse")
}

const CHOSEN: [f32; 6] = [0.5, -1.25, 2.0, 0.25, 3.0, -0.5];
const REJECTED: [f32; 7] = [0.5, 1.5, 0.75, -1.0, 0.5, 0.25, 4.0];

fn side<'a>(scores: &'a [f32], offsets: &'a [u64]) -> ScoredSide<'a> {
    ScoredSide {
        scores: Ragged::new(scores, offsets).expect("offsets fit"),
        ids: Ragged::new(&[0; 7][..scores.len()], offsets).expect("offsets fit"),
        changed: Ragged::new(&[0; 7][..scores.len()], offsets).expect("offsets fit"),
    }
}

fn loss(chosen: &[f32; 6], rejected: &[f32; 7]) -> (f64, [f32; 6], [f32; 7]) {
    let pairs = ScoredPairs {
        chosen: side(chosen, &[0, 4, 6]),
        rejected: side(rejected, &[0, 3, 7]),
    };
    let (mut by_chosen, mut by_rejected) = ([f32::NAN; 6], [f32::NAN; 7]);
    let gradients = PairGradients {
        chosen: &mut by_chosen,
        rejected: &mut by_rejected,
    };
    let loss = scheme()
        .preference_loss(&pairs, gradients, &context())
        .expect("a valid batch");
    (loss, by_chosen, by_rejected)
}

// import torch; torch.set_default_dtype(torch.float64); t = lambda x: torch.tensor(x, requires_grad=True)
// c = [t([.5, -1.25, 2., .25]), t([3., -.5])]; r = [t([.5, 1.5, .75]), t([-1., .5, .25, 4.])]
// loss = sum(-torch.nn.functional.logsigmoid(a[-1] - b[-1])/2 for a, b in zip(c, r))
// loss.backward(); print(loss.item(), [x.grad.tolist() for x in c + r])
#[test]
fn agrees_with_torch() {
    let (loss, chosen, rejected) = loss(&CHOSEN, &REJECTED);
    assert!((loss - 2.742_562_364_514_35).abs() < 1e-14, "{loss}");
    let (g0, g1) = (
        0.311_229_665_600_927_24_f64 as f32,
        0.494_506_528_684_703_4_f64 as f32,
    );
    assert_eq!(chosen, [0.0, 0.0, 0.0, -g0, 0.0, -g1]);
    assert_eq!(rejected, [0.0, 0.0, g0, 0.0, 0.0, 0.0, g1]);
}

#[test]
fn gradients_agree_with_central_differences() {
    // Steps and scores are exact in f32; the error of the difference is of the order of the step squared.
    const STEP: f32 = 1.0 / 512.0;
    let (_, by_chosen, by_rejected) = loss(&CHOSEN, &REJECTED);
    for t in 0..CHOSEN.len() {
        let at = |step| {
            let mut chosen = CHOSEN;
            chosen[t] += step;
            loss(&chosen, &REJECTED).0
        };
        let numeric = (at(STEP) - at(-STEP)) / f64::from(2.0 * STEP);
        assert!(
            (numeric - f64::from(by_chosen[t])).abs() < 1e-6,
            "chosen {t}"
        );
    }
    for t in 0..REJECTED.len() {
        let at = |step| {
            let mut rejected = REJECTED;
            rejected[t] += step;
            loss(&CHOSEN, &rejected).0
        };
        let numeric = (at(STEP) - at(-STEP)) / f64::from(2.0 * STEP);
        assert!(
            (numeric - f64::from(by_rejected[t])).abs() < 1e-6,
            "rejected {t}"
        );
    }
}

/// Sequence and token rewards of responses with these scores.
fn rewards(scores: &[f32], offsets: &[u64]) -> Result<(Vec<f32>, Vec<f32>)> {
    let rows = offsets.len() - 1;
    let empty = vec![0; offsets.len()];
    let rollouts = Rollouts {
        scores: Ragged::new(scores, offsets)?,
        ids: Ragged::new(&[0; 7][..scores.len()], offsets)?,
        prompt_ids: Ragged::new(&[], &empty)?,
        prompts: TextBatch::new(b"", &empty)?,
        responses: TextBatch::new(b"", &empty)?,
        ended: &[1; 7][..rows],
    };
    let (mut sequence, mut tokens) = (vec![f32::NAN; rows], vec![f32::NAN; scores.len()]);
    scheme().token_rewards(&rollouts, &mut tokens, &context())?;
    scheme().sequence_reward(&rollouts, &mut sequence, &context())?;
    Ok((sequence, tokens))
}

#[test]
fn the_last_token_gets_the_whole_reward() {
    let (sequence, tokens) = rewards(&CHOSEN, &[0, 4, 6]).expect("a valid batch");
    assert_eq!(sequence, [0.25, -0.5]);
    assert_eq!(tokens, [0.0, 0.0, 0.0, 0.25, 0.0, -0.5]);
}

#[test]
fn a_response_without_tokens_is_refused_with_its_row() {
    let error = rewards(&CHOSEN[..4], &[0, 4, 4]).expect_err("row 1 has no last token");
    assert_eq!(error.row, Some(1));
}
