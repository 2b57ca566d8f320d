//! A buffer over all tokens, cut into the chunks' parts so that each has one writer.

/// The parts of `values`, (n, width), with `counts` tokens each.
pub(super) fn cut<'a, T>(
    values: &'a mut [T],
    width: usize,
    counts: &[usize],
) -> std::vec::IntoIter<&'a mut [T]> {
    let mut rest = values;
    let mut parts = Vec::with_capacity(counts.len());
    for &count in counts {
        parts.push(rest.split_off_mut(..count * width).expect(LONG_ENOUGH));
    }
    parts.into_iter()
}

/// The next part.
pub(super) fn next<'a, T>(parts: &mut std::vec::IntoIter<&'a mut [T]>) -> &'a mut [T] {
    parts.next().expect(LONG_ENOUGH)
}

const LONG_ENOUGH: &str = "invariant: buffers are made for the counts they are cut by";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_each_other() {
        let mut values = [1, 2, 3, 4, 5, 6];
        let mut parts = cut(&mut values, 2, &[2, 0, 1]);
        assert_eq!(next(&mut parts), [1, 2, 3, 4]);
        assert!(next(&mut parts).is_empty());
        assert_eq!(next(&mut parts), [5, 6]);
    }
}
