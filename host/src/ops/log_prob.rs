//! Output head and softmax in one: the log-probability of a chosen token and the entropy of its distribution.
//! Legend: M positions, C channels, V vocabulary.

use candle_core::{D, Tensor};

use super::shape;
use crate::error::{Error, Result};

const OP: &str = "log_probs";

/// What the head says at M positions; both are differentiable.
#[derive(Clone, Debug)]
pub struct LogProbs {
    /// log p(target), (M,), nats.
    pub logprobs: Tensor,
    /// −Σ p log p over the vocabulary, (M,), nats.
    pub entropy: Tensor,
}

/// Log-probabilities of `targets` and entropies under softmax(hidden · weightᵀ / temperature): hidden (M, C),
/// weight (V, C), targets (M,) → (M,) and (M,). The temperature is above 0.
pub fn log_probs(
    hidden: &Tensor,
    weight: &Tensor,
    targets: &[u32],
    temperature: f64,
) -> Result<LogProbs> {
    let (positions, channels) = shape::matrix(OP, "hidden", hidden)?;
    let (vocabulary, expected) = shape::matrix(OP, "weight", weight)?;
    shape::same_kind(OP, ("hidden", hidden), ("weight", weight))?;
    if channels != expected {
        return Err(shape::mismatch(OP, ("hidden", hidden), ("weight", weight)));
    }
    if targets.len() != positions {
        return Err(Error::internal(format!(
            "{OP}: {} targets for hidden of shape {:?}",
            targets.len(),
            hidden.dims()
        )));
    }
    shape::indices(OP, "targets", targets, vocabulary)?;
    if !(temperature.is_finite() && temperature > 0.0) {
        return Err(Error::internal(format!(
            "{OP}: temperature is {temperature}, a number above 0 is accepted"
        )));
    }
    reference(hidden, weight, targets, temperature)
}

/// The same by plain tensor operations; holds (M, V) several times.
pub fn reference(
    hidden: &Tensor,
    weight: &Tensor,
    targets: &[u32],
    temperature: f64,
) -> Result<LogProbs> {
    let positions = targets.len();
    if positions == 0 {
        let empty = hidden.sum(D::Minus1)?;
        return Ok(LogProbs {
            logprobs: empty.clone(),
            entropy: empty,
        });
    }
    let logits = (hidden.matmul(&weight.t()?)? / temperature)?;
    let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?.detach())?;
    let log_sum = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    let log_p = shifted.broadcast_sub(&log_sum)?;
    let targets = Tensor::from_slice(targets, (positions, 1), hidden.device())?;
    Ok(LogProbs {
        logprobs: log_p.gather(&targets, 1)?.squeeze(1)?,
        entropy: (log_p.exp()? * &log_p)?.sum(D::Minus1)?.neg()?,
    })
}
