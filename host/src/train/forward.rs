//! Forward passes without a way back over batches of any size: micro-batch after micro-batch, results back to back.
//! Legend: M response tokens of the whole batch.

use super::batching::micro_batches;
use crate::data::ragged::TokenBatch;
use crate::error::Result;
use crate::model::{CausalLm, ScoredModel};
use crate::telemetry::NotFinite;

/// The given rows of a batch, in the given order.
pub fn select(batch: &TokenBatch, rows: impl IntoIterator<Item = usize>) -> TokenBatch {
    let mut selected = TokenBatch::new();
    for row in rows {
        selected.push(batch.prompt(row), batch.response(row));
    }
    selected
}

/// Tokens of every row, prompt included: what a row costs in a forward pass.
pub fn row_lengths(batch: &TokenBatch) -> Vec<usize> {
    batch
        .offsets()
        .windows(2)
        .map(|pair| (pair[1] - pair[0]) as usize)
        .collect()
}

/// Log-probability of every response token and entropy of the distribution it was drawn from, both (M,), in nats at
/// `temperature`. At most `micro_batch_tokens` tokens go through the model together (0 = all).
pub fn log_probs(
    model: &CausalLm,
    batch: &TokenBatch,
    temperature: f64,
    micro_batch_tokens: usize,
) -> Result<(Vec<f32>, Vec<f32>)> {
    let (mut logprobs, mut entropy) = (Vec::new(), Vec::new());
    for rows in micro_batches(&row_lengths(batch), micro_batch_tokens) {
        let out = model.log_probs(&select(batch, rows), temperature)?;
        logprobs.extend(out.logprobs);
        entropy.extend(out.entropy);
    }
    Ok((logprobs, entropy))
}

/// The reward model's score of every response token, (M,), read at the token.
pub fn scores(
    model: &ScoredModel,
    batch: &TokenBatch,
    micro_batch_tokens: usize,
) -> Result<Vec<f32>> {
    gather(batch, micro_batch_tokens, |rows| model.scores(rows))
}

/// The critic's value before every response token, (M,), read one position earlier.
pub fn values(
    model: &ScoredModel,
    batch: &TokenBatch,
    micro_batch_tokens: usize,
) -> Result<Vec<f32>> {
    gather(batch, micro_batch_tokens, |rows| model.values(rows))
}

fn gather(
    batch: &TokenBatch,
    micro_batch_tokens: usize,
    forward: impl Fn(&TokenBatch) -> Result<Vec<f32>>,
) -> Result<Vec<f32>> {
    let mut all = Vec::new();
    for rows in micro_batches(&row_lengths(batch), micro_batch_tokens) {
        all.extend(forward(&select(batch, rows))?);
    }
    Ok(all)
}

/// Refuses a value that is not finite, naming the row of the batch; the error carries the rows at fault. `rows` gives the name of each row of `offsets`.
pub(super) fn check_finite(
    what: &str,
    values: &[f32],
    offsets: &[u64],
    rows: &[usize],
) -> Result<()> {
    let Some(at) = values.iter().position(|value| !value.is_finite()) else {
        return Ok(());
    };
    let row = offsets.partition_point(|&offset| offset <= at as u64) - 1;
    Err(crate::Error::internal(format!(
        "{what} is {} at response token {} of row {}",
        values[at],
        at as u64 - offsets[row],
        rows[row]
    ))
    .hint("the training diverged; a lower learning rate, more warm-up or a smaller max_grad_norm may help")
    .with_not_finite(NotFinite::tokens(what, values, offsets, rows)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finite_is_named() {
        let error = check_finite(
            "the value",
            &[0.0, 1.0, f32::NAN],
            &[0, 1, 1, 3],
            &[7, 8, 9],
        )
        .unwrap_err();
        assert!(
            error
                .to_string()
                .contains("NaN at response token 1 of row 9"),
            "{error}"
        );
        check_finite("the value", &[0.0], &[0, 1], &[0]).unwrap();
    }

    #[test]
    fn selects_rows_in_the_given_order() {
        let mut batch = TokenBatch::new();
        batch.push(&[1, 2], &[3]);
        batch.push(&[4], &[5, 6, 7]);
        assert_eq!(row_lengths(&batch), [3, 4]);
        let swapped = select(&batch, [1, 0]);
        assert_eq!(swapped.ids(), [4, 5, 6, 7, 1, 2, 3]);
        assert_eq!(swapped.prompt(1), [1, 2]);
    }
}
