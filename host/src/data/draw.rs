//! Drawing some rows of many: which ones are drawn goes by a stream and their ids alone.

use finegrain_sdk::rng::Stream;

/// `n` of the rows, in their order; all where there are no more. Whether a row is drawn depends on no other row but by rank: one
/// that is added takes the place of at most one, so that what was asked about the others is asked already.
pub fn drawn<T>(rows: Vec<T>, n: usize, id: impl Fn(&T) -> &str, stream: &Stream) -> Vec<T> {
    let mut rows: Vec<(u64, usize, T)> = rows
        .into_iter()
        .enumerate()
        .map(|(at, row)| (stream.child(id(&row)).seed(), at, row))
        .collect();
    rows.sort_by_key(|(draw, at, _)| (*draw, *at));
    rows.truncate(n);
    rows.sort_by_key(|(_, at, _)| *at);
    rows.into_iter().map(|(_, _, row)| row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ten(of: usize, n: usize, seed: u64) -> Vec<usize> {
        let rows: Vec<String> = (0..of).map(|row| row.to_string()).collect();
        let stream = Stream::new(seed).child("rows");
        let drawn = drawn(rows, n, |row| row, &stream);
        drawn.iter().map(|row| row.parse().unwrap()).collect()
    }

    #[test]
    fn a_draw_takes_each_row_once_in_order_and_goes_by_the_seed() {
        assert_eq!(ten(50, 80, 1), (0..50).collect::<Vec<_>>());
        let drawn = ten(50, 10, 1);
        assert!(drawn.len() == 10 && drawn.is_sorted_by(|a, b| a < b));
        assert_eq!(drawn, ten(50, 10, 1));
        assert_ne!(drawn, ten(50, 10, 2));
        assert!(drawn[9] > 10, "not the first ten");
    }

    #[test]
    fn a_row_that_is_added_takes_the_place_of_one_at_most() {
        let (before, after) = (ten(50, 10, 1), ten(51, 10, 1));
        let kept = before.iter().filter(|row| after.contains(row)).count();
        assert!(kept >= 9, "{before:?} {after:?}");
    }
}
