//! Log-probabilities and entropies of response tokens on a GPU, and their way back. Logits go through in chunks of rows, so
//! that they never take more than [`CHUNK`] elements.
//! Legend: M response tokens, C channels, V vocabulary.

use std::ops::Range;
use std::sync::Arc;

use super::network::Network;
use super::pass::{Pass, prepare};
use crate::data::ragged::TokenBatch;
use crate::device::{Buffer, Gpu, Matrix, MatrixMut, Real, ViewMut};
use crate::error::Result;
use crate::model::{CausalLm, LogProbs, Read};
use crate::ops::log_prob::Form;
use crate::ops::log_prob::cuda::{Given, SaidMut, backward, forward};
use crate::ops::pointwise;

/// Elements of logits at a time: 128 MiB of f32.
pub(crate) const CHUNK: usize = 1 << 25;

/// A batch that has gone through a policy, with its way back.
pub(in crate::model) struct DevicePolicyPass {
    pass: Pass,
    gpu: Arc<Gpu>,
    targets: Buffer<i32>,
    temperature: f64,
    entropy: Buffer<f32>,
    log_sums: Buffer<f32>,
    /// The logits, where all of them are one chunk and there is a way back.
    logits: Option<Buffer<f32>>,
}

/// Rows of the chunks of M rows of V logits.
fn chunks(m: usize, vocabulary: usize) -> impl Iterator<Item = Range<usize>> {
    let rows = (CHUNK / vocabulary).max(1);
    (0..m)
        .step_by(rows)
        .map(move |start| start..m.min(start + rows))
}

/// Logits of the hidden states of some rows, not divided by a temperature, into `out` (rows, V).
fn logits(
    network: &Network<'_>,
    pass: &Pass,
    rows: &Range<usize>,
    out: ViewMut<'_, f32>,
) -> Result<()> {
    let c = network.dimensions.channels;
    network.logits(pass.hidden().part(rows.start * c..rows.end * c), out)
}

/// Log-probabilities and entropies of the response tokens; `keep` says whether there will be a way back.
///
/// # Errors
/// A row that does not fit the model, by name; no memory.
pub(in crate::model) fn log_probs(
    model: &CausalLm,
    gpu: &Arc<Gpu>,
    batch: &TokenBatch,
    temperature: f64,
    keep: bool,
) -> Result<(LogProbs, DevicePolicyPass)> {
    let prepared = prepare(model, gpu, batch, Read::Predicting)?;
    let network = &prepared.network;
    let pass = Pass::forward(&prepared, keep)?;
    let targets: Vec<i32> = batch
        .responses()
        .values()
        .iter()
        .map(|&id| id as i32)
        .collect();
    let (m, v) = (targets.len(), network.dimensions.vocabulary);
    let targets = Buffer::upload(gpu, &targets)?;
    let mut logprobs = Buffer::<f32>::new(gpu, m)?;
    let mut entropy = Buffer::<f32>::new(gpu, m)?;
    let mut log_sums = Buffer::<f32>::new(gpu, m)?;
    let longest = chunks(m, v).map(|rows| rows.len()).max().unwrap_or(0);
    let mut buffer = Buffer::<f32>::new(gpu, longest * v)?;
    for rows in chunks(m, v) {
        let mut part = buffer.part_mut(0..rows.len() * v);
        logits(network, &pass, &rows, part.again())?;
        let said = SaidMut {
            logprobs: logprobs.part_mut(rows.clone()),
            entropy: entropy.part_mut(rows.clone()),
            log_sums: log_sums.part_mut(rows.clone()),
        };
        forward(gpu, part.as_view(), targets.part(rows), temperature, said)?;
    }
    let said = LogProbs {
        logprobs: logprobs.download()?,
        entropy: entropy.download()?,
    };
    let pass = DevicePolicyPass {
        pass,
        gpu: gpu.clone(),
        targets,
        temperature,
        entropy,
        log_sums,
        logits: (keep && longest == m).then_some(buffer),
    };
    Ok((said, pass))
}

/// Logits of the next token at the tokens that are read, (M, V).
///
/// # Errors
/// A row that does not fit the model, by name; no memory.
pub(in crate::model) fn all_logits(
    model: &CausalLm,
    gpu: &Arc<Gpu>,
    batch: &TokenBatch,
    read: Read,
) -> Result<Vec<f32>> {
    let prepared = prepare(model, gpu, batch, read)?;
    let (v, c) = (
        prepared.network.dimensions.vocabulary,
        prepared.network.dimensions.channels,
    );
    let pass = Pass::forward(&prepared, false)?;
    let m = pass.hidden().len() / c;
    let mut out = Buffer::<f32>::new(gpu, m * v)?;
    logits(&prepared.network, &pass, &(0..m), out.view_mut())?;
    out.download()
}

impl DevicePolicyPass {
    /// Adds the gradients of what is trained, given those by the log-probabilities and, where a loss depends on them, by the
    /// entropies, (M,) each.
    ///
    /// # Errors
    /// No memory; a launch that fails.
    pub(in crate::model) fn backward(
        self,
        model: &CausalLm,
        d_logprobs: &[f32],
        d_entropy: Option<&[f32]>,
        mut gradients: ViewMut<'_, f32>,
    ) -> Result<()> {
        let gpu = &self.gpu;
        let network = Network::new(model, gpu, self.pass.longest())?;
        let (v, c) = (network.dimensions.vocabulary, network.dimensions.channels);
        let m = self.targets.len();
        let d_logprobs = Buffer::upload(gpu, d_logprobs)?;
        let d_entropy = d_entropy.map(|d| Buffer::upload(gpu, d)).transpose()?;
        let mut d_hidden = Buffer::<Real>::new(gpu, m * c)?;
        let longest = chunks(m, v).map(|rows| rows.len()).max().unwrap_or(0);
        let kept = self.logits.is_some();
        let mut buffer = match self.logits {
            Some(logits) => logits,
            None => Buffer::new(gpu, longest * v)?,
        };
        let mut d_logits = Buffer::<Real>::new(gpu, longest * v)?;
        for rows in chunks(m, v) {
            let mut part = buffer.part_mut(0..rows.len() * v);
            if !kept {
                logits(&network, &self.pass, &rows, part.again())?;
            }
            let given = Given {
                targets: self.targets.part(rows.clone()),
                entropy: self.entropy.part(rows.clone()),
                log_sums: self.log_sums.part(rows.clone()),
                d_logprobs: d_logprobs.part(rows.clone()),
                d_entropy: d_entropy.as_ref().map(|d| d.part(rows.clone())),
            };
            let mut d_part = d_logits.part_mut(0..rows.len() * v);
            backward(gpu, part.as_view(), self.temperature, given, d_part.again())?;
            let Form { scale, cap } = network.dimensions.logits;
            if let Some(cap) = cap {
                pointwise::cuda::cap_backward(gpu, part.as_view(), cap, d_part.again())?;
            }
            let d = Matrix::new(d_part.as_view(), rows.len(), v);
            let span = rows.start * c..rows.end * c;
            let out = MatrixMut::new(d_hidden.part_mut(span.clone()), rows.len(), c);
            let scale = scale as f32;
            gpu.multiply(out, d, Matrix::new(network.head, v, c), scale, false)?;
            if model.adapter().is_none() {
                // The head's own gradients come last; a tied head's are the table's, which come first.
                let first = if model.config().tie_word_embeddings {
                    0
                } else {
                    gradients.len() - v * c
                };
                let d_weight = gradients.again().into_part(first..first + v * c);
                let hidden = Matrix::new(self.pass.hidden().part(span), rows.len(), c);
                let d_weight = MatrixMut::new(d_weight, v, c);
                gpu.multiply(d_weight, d.t(), hidden, scale, true)?;
            }
        }
        drop((buffer, d_logits));
        self.pass.backward(&network, d_hidden.view(), gradients)
    }
}
