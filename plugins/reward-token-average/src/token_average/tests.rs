//! Losses and gradients against torch and central differences; rewards against numbers worked out by hand.

use std::sync::atomic::AtomicBool;

use finegrain_sdk::kinds::{PairGradients, RewardScheme, Rollouts, ScoredPairs, ScoredSide};
use finegrain_sdk::{CallContext, Plugin, Ragged, TextBatch};

use super::TokenAverage;
use crate::options::{Options, Scale, Tokens};

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

const EOS: u32 = 9;

/// Two pairs: the second is a pure insertion seen from the rejected side, so its chosen side has no changed token.
#[derive(Clone)]
struct Pairs {
    chosen: Vec<f32>,
    rejected: Vec<f32>,
}

impl Pairs {
    fn new() -> Self {
        Self {
            chosen: vec![0.5, -1.25, 2.0, 0.25, 3.0, -0.5],
            rejected: vec![0.5, 1.5, 0.75, -1.0, 0.5, 0.25, 4.0],
        }
    }

    /// Loss, gradient by the chosen scores, gradient by the rejected scores.
    fn loss(&self, options: &Options) -> (f64, Vec<f32>, Vec<f32>) {
        self.loss_with_masks(options, &[0, 1, 1, 0, 0, 0], &[0, 1, 0, 0, 1, 1, 0])
    }

    fn loss_with_masks(
        &self,
        options: &Options,
        chosen_changed: &[u8],
        rejected_changed: &[u8],
    ) -> (f64, Vec<f32>, Vec<f32>) {
        let pairs = ScoredPairs {
            chosen: side(
                &self.chosen,
                &[1, 2, 3, EOS, 4, EOS],
                chosen_changed,
                &[0, 4, 6],
            ),
            rejected: side(
                &self.rejected,
                &[1, 5, 6, 4, 7, 8, 2],
                rejected_changed,
                &[0, 3, 7],
            ),
        };
        let mut chosen = vec![f32::NAN; self.chosen.len()];
        let mut rejected = vec![f32::NAN; self.rejected.len()];
        let gradients = PairGradients {
            chosen: &mut chosen,
            rejected: &mut rejected,
        };
        let loss = TokenAverage::new(options.clone())
            .and_then(|scheme| scheme.preference_loss(&pairs, gradients, &context()))
            .expect("a valid batch");
        (loss, chosen, rejected)
    }
}

fn side<'a>(
    scores: &'a [f32],
    ids: &'a [u32],
    changed: &'a [u8],
    offsets: &'a [u64],
) -> ScoredSide<'a> {
    ScoredSide {
        scores: Ragged::new(scores, offsets).expect("offsets fit"),
        ids: Ragged::new(ids, offsets).expect("offsets fit"),
        changed: Ragged::new(changed, offsets).expect("offsets fit"),
    }
}

fn options(tokens: Tokens, exclude_eos_id: Option<u32>) -> Options {
    Options {
        tokens,
        exclude_eos_id,
        ..Options::default()
    }
}

#[track_caller]
fn assert_close(ours: &[f32], theirs: &[f64]) {
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(theirs) {
        assert!(
            (f64::from(*ours) - theirs).abs() < 1e-8,
            "{ours} is not {theirs}"
        );
    }
}

// import torch; torch.set_default_dtype(torch.float64); t = lambda x: torch.tensor(x, requires_grad=True)
// c = [t([.5, -1.25, 2., .25]), t([3., -.5])]; r = [t([.5, 1.5, .75]), t([-1., .5, .25, 4.])]
// mc = [torch.tensor([0., 1, 1, 0]), torch.tensor([0., 0])]; mr = [torch.tensor([0., 1, 0]), torch.tensor([0., 1, 1, 0])]
// loss = sum(-torch.nn.functional.logsigmoid((a*p).sum()/len(a) - (b*q).sum()/len(b))/2 for a, b, p, q in zip(c, r, mc, mr))
// loss.backward(); print(loss.item(), [x.grad.tolist() for x in c + r])
#[test]
fn changed_tokens_agree_with_torch() {
    let (loss, chosen, rejected) = Pairs::new().loss(&options(Tokens::Changed, None));
    assert!((loss - 0.826_420_075_913_131_5).abs() < 1e-15, "{loss}");
    let g = 0.072_186_920_648_226_46;
    assert_close(&chosen, &[0.0, -g, -g, 0.0, 0.0, 0.0]);
    let (g0, g1) = (0.096_249_227_530_968_61, 0.068_342_268_998_076_73);
    assert_close(&rejected, &[0.0, g0, 0.0, 0.0, g1, g1, 0.0]);
}

// As above with `a.mean() - b.mean()`.
#[test]
fn all_tokens_agree_with_torch() {
    let (loss, chosen, rejected) = Pairs::new().loss(&options(Tokens::All, None));
    assert!((loss - 0.774_635_471_140_696_5).abs() < 1e-15, "{loss}");
    let (g0, g1) = (-0.079_025_005_204_314_94, -0.105_626_158_703_547_07);
    assert_close(&chosen, &[g0, g0, g0, g0, g1, g1]);
    let (g0, g1) = (0.105_366_673_605_753_25, 0.052_813_079_351_773_53);
    assert_close(&rejected, &[g0, g0, g0, g1, g1, g1, g1]);
}

// As above with `a[:-1].mean() - b.mean()`: the chosen responses end with EOS, the rejected ones do not.
#[test]
fn an_excluded_eos_leaves_the_length_and_the_sum() {
    let (loss, chosen, rejected) = Pairs::new().loss(&options(Tokens::All, Some(EOS)));
    assert!((loss - 0.546_878_324_684_992).abs() < 1e-15, "{loss}");
    let (g0, g1) = (-0.103_743_221_866_975_75, -0.056_397_703_141_446_62);
    assert_close(&chosen, &[g0, g0, g0, 0.0, g1, 0.0]);
    let (g0, g1) = (0.103_743_221_866_975_75, 0.014_099_425_785_361_655);
    assert_close(&rejected, &[g0, g0, g0, g1, g1, g1, g1]);
}

#[test]
fn gradients_agree_with_central_differences() {
    // Steps and scores are exact in f32; the error of the difference is of the order of the step squared.
    const STEP: f32 = 1.0 / 128.0;
    for tokens in [Tokens::Changed, Tokens::All] {
        for eos in [None, Some(EOS)] {
            let options = options(tokens, eos);
            let pairs = Pairs::new();
            let (_, chosen, rejected) = pairs.loss(&options);
            let difference = |shift: &dyn Fn(&mut Pairs, f32)| {
                let at = |step| {
                    let mut shifted = pairs.clone();
                    shift(&mut shifted, step);
                    shifted.loss(&options).0
                };
                (at(STEP) - at(-STEP)) / f64::from(2.0 * STEP)
            };
            for (t, gradient) in chosen.iter().enumerate() {
                let numeric = difference(&|pairs, step| pairs.chosen[t] += step);
                assert!(
                    (numeric - f64::from(*gradient)).abs() < 1e-6,
                    "{options:?} chosen {t}"
                );
            }
            for (t, gradient) in rejected.iter().enumerate() {
                let numeric = difference(&|pairs, step| pairs.rejected[t] += step);
                assert!(
                    (numeric - f64::from(*gradient)).abs() < 1e-6,
                    "{options:?} rejected {t}"
                );
            }
        }
    }
}

#[test]
fn a_pair_without_changed_tokens_teaches_nothing() {
    let (loss, chosen, rejected) =
        Pairs::new().loss_with_masks(&options(Tokens::Changed, None), &[0; 6], &[0; 7]);
    assert_eq!(loss, std::f64::consts::LN_2);
    assert!(
        chosen
            .iter()
            .chain(&rejected)
            .all(|&gradient| gradient == 0.0)
    );
}

#[test]
fn a_score_that_is_not_finite_is_refused_with_its_row() {
    let scores = [0.0, f32::INFINITY];
    let (ids, changed, offsets) = ([1, 2], [1, 1], [0, 1, 2]);
    let side = side(&scores, &ids, &changed, &offsets);
    let pairs = ScoredPairs {
        chosen: side,
        rejected: side,
    };
    let gradients = PairGradients {
        chosen: &mut [f32::NAN; 2],
        rejected: &mut [f32::NAN; 2],
    };
    let error = TokenAverage::new(Options::default())
        .and_then(|scheme| scheme.preference_loss(&pairs, gradients, &context()))
        .expect_err("infinity minus infinity is no loss");
    assert_eq!(error.to_string(), "row 1: scores are not finite");
}

/// Rewards of two responses: [1, 2, 6] ending with EOS, and [−4, 0] that ran into the limit.
fn rewards(options: Options) -> (Vec<f32>, Vec<f32>) {
    let rollouts = Rollouts {
        scores: Ragged::new(&[1.0, 2.0, 6.0, -4.0, 0.0], &[0, 3, 5]).expect("offsets fit"),
        ids: Ragged::new(&[1, 2, EOS, 3, 4], &[0, 3, 5]).expect("offsets fit"),
        prompt_ids: Ragged::new(&[7, 7], &[0, 1, 2]).expect("offsets fit"),
        prompts: TextBatch::new(b"pp", &[0, 1, 2]).expect("offsets fit"),
        responses: TextBatch::new(b"abcd", &[0, 2, 4]).expect("offsets fit"),
        ended: &[1, 0],
    };
    let scheme = TokenAverage::new(options).expect("valid options");
    let (mut sequence, mut tokens) = (vec![f32::NAN; 2], vec![f32::NAN; 5]);
    scheme
        .sequence_reward(&rollouts, &mut sequence, &context())
        .expect("a valid batch");
    scheme
        .token_rewards(&rollouts, &mut tokens, &context())
        .expect("a valid batch");
    (sequence, tokens)
}

#[test]
fn rewards_are_the_scores_and_their_average() {
    let (sequence, tokens) = rewards(Options::default());
    assert_eq!(sequence, [3.0, -2.0]);
    assert_eq!(tokens, [1.0, 2.0, 6.0, -4.0, 0.0]);
}

#[test]
fn with_scale_mean_the_rewards_of_a_response_sum_to_its_average() {
    let (sequence, tokens) = rewards(Options {
        scale: Scale::Mean,
        ..Options::default()
    });
    assert_eq!(sequence, [3.0, -2.0]);
    assert_eq!(tokens, [1.0 / 3.0, 2.0 / 3.0, 2.0, -2.0, 0.0]);
}

#[test]
fn an_excluded_eos_gets_no_reward() {
    let (sequence, tokens) = rewards(Options {
        scale: Scale::Mean,
        exclude_eos_id: Some(EOS),
        ..Options::default()
    });
    assert_eq!(sequence, [1.5, -2.0]);
    assert_eq!(tokens, [0.5, 1.0, 0.0, -2.0, 0.0]);
}
