//! Which rows make a step, and which of them go through the model together.
//!
//! A **batch** decides the mathematics (one optimizer step); a **micro-batch** decides the memory only: the gradients of
//! its losses add up to the batch's.

use std::ops::Range;

use finegrain_sdk::rng::Stream;
use rand::seq::SliceRandom;

/// The numbers below `n` in an order drawn from `stream`.
pub fn shuffled(n: usize, stream: &Stream) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    order.shuffle(&mut stream.rng());
    order
}

/// An endless walk over `n` rows in shuffled epochs: entry `k` of it, for `k` in `range`. A function of the stream and
/// the position alone, so a resumed run needs no sampler state.
pub fn walk(n: usize, stream: &Stream, range: Range<u64>) -> Vec<usize> {
    let mut rows = Vec::with_capacity((range.end - range.start) as usize);
    let mut epoch: Option<(u64, Vec<usize>)> = None;
    for k in range {
        let (number, place) = (k / n as u64, (k % n as u64) as usize);
        if epoch.as_ref().is_none_or(|(current, _)| *current != number) {
            epoch = Some((number, shuffled(n, &stream.index(number))));
        }
        if let Some((_, order)) = &epoch {
            rows.push(order[place]);
        }
    }
    rows
}

/// Cuts rows of these lengths (in tokens), in their order, into runs of at most `budget` tokens. A row that is longer
/// than the budget goes alone; a budget of 0 puts all rows together.
pub fn micro_batches(lengths: &[usize], budget: usize) -> Vec<Range<usize>> {
    let mut batches = Vec::new();
    let (mut start, mut tokens) = (0, 0);
    for (row, &length) in lengths.iter().enumerate() {
        if budget > 0 && row > start && tokens + length > budget {
            batches.push(start..row);
            (start, tokens) = (row, 0);
        }
        tokens += length;
    }
    if start < lengths.len() {
        batches.push(start..lengths.len());
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_is_whole_epochs_and_can_start_anywhere() {
        let stream = Stream::new(3);
        let whole = walk(5, &stream, 0..15);
        for epoch in whole.chunks(5) {
            let mut sorted = epoch.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3, 4]);
        }
        assert_ne!(whole[..5], whole[5..10]);
        assert_eq!(walk(5, &stream, 3..12), whole[3..12]);
        assert_ne!(walk(5, &Stream::new(4), 0..15), whole);
    }

    #[test]
    fn micro_batches_keep_the_order_and_the_budget() {
        assert_eq!(micro_batches(&[3, 3, 3, 9, 1], 6), [0..2, 2..3, 3..4, 4..5]);
        assert_eq!(micro_batches(&[30, 3, 3], 0).first(), Some(&(0..3)));
        assert!(micro_batches(&[], 4).is_empty());
    }
}
