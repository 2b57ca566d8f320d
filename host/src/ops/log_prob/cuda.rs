//! The output head's softmax on a GPU; its products are the model's.

use crate::device::{Gpu, Launch, Program, Real, View, ViewMut};
use crate::error::Result;

const THREADS: u32 = 512;

/// What the forward pass says of some positions, (r,) each.
#[derive(Debug)]
pub(crate) struct SaidMut<'a> {
    pub(crate) logprobs: ViewMut<'a, f32>,
    pub(crate) entropy: ViewMut<'a, f32>,
    pub(crate) log_sums: ViewMut<'a, f32>,
}

/// From undivided logits (r, V) and targets (r,) to log-probabilities, entropies and log-sums. Targets lie inside the
/// vocabulary, which whoever made them sees to.
///
/// # Errors
/// A launch that fails.
pub(crate) fn forward(
    gpu: &Gpu,
    logits: View<'_, f32>,
    targets: View<'_, i32>,
    temperature: f64,
    mut said: SaidMut<'_>,
) -> Result<()> {
    let rows = targets.len();
    if rows == 0 {
        return Ok(());
    }
    let vocabulary = logits.len() / rows;
    assert_eq!(logits.len(), rows * vocabulary);
    for out in [&said.logprobs, &said.entropy, &said.log_sums] {
        assert_eq!(out.len(), rows);
    }
    let args = [
        logits.into(),
        targets.into(),
        (1.0 / temperature as f32).into(),
        (&mut said.logprobs).into(),
        (&mut said.entropy).into(),
        (&mut said.log_sums).into(),
        vocabulary.into(),
    ];
    let launch = Launch::new(rows, THREADS);
    gpu.launch(Program::Common, "log_prob_forward", launch, &args)
}

/// What the backward pass is given of some positions, (r,) each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Given<'a> {
    pub(crate) targets: View<'a, i32>,
    pub(crate) entropy: View<'a, f32>,
    pub(crate) log_sums: View<'a, f32>,
    pub(crate) d_logprobs: View<'a, f32>,
    pub(crate) d_entropy: Option<View<'a, f32>>,
}

/// The gradient of undivided logits, (r, V).
///
/// # Errors
/// A launch that fails.
pub(crate) fn backward(
    gpu: &Gpu,
    logits: View<'_, f32>,
    temperature: f64,
    given: Given<'_>,
    mut d_logits: ViewMut<'_, Real>,
) -> Result<()> {
    let rows = given.targets.len();
    if rows == 0 {
        return Ok(());
    }
    let vocabulary = logits.len() / rows;
    assert_eq!(
        (logits.len(), d_logits.len()),
        (rows * vocabulary, logits.len())
    );
    for part in [
        Some(given.entropy),
        Some(given.log_sums),
        Some(given.d_logprobs),
        given.d_entropy,
    ] {
        assert!(part.is_none_or(|part| part.len() == rows));
    }
    let args = [
        logits.into(),
        given.targets.into(),
        (1.0 / temperature as f32).into(),
        given.entropy.into(),
        given.log_sums.into(),
        given.d_logprobs.into(),
        given.d_entropy.into(),
        (&mut d_logits).into(),
        vocabulary.into(),
    ];
    let launch = Launch::new(rows, THREADS);
    gpu.launch(Program::Common, "log_prob_backward", launch, &args)
}
