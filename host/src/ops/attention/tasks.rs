//! Splits a result over (N, H, D) into one disjoint piece for every row and key/value head, so that each has one writer.

/// For every row, then every head group, the row's tokens: `width` elements each, borrowed from `out` (N, groups · width).
pub(super) fn pieces<'a, T>(
    out: &'a mut [T],
    offsets: &[u64],
    groups: usize,
    width: usize,
) -> Vec<Vec<&'a mut [T]>> {
    let mut pieces = Vec::with_capacity(groups * offsets.len().saturating_sub(1));
    let mut parts = out.chunks_exact_mut(width);
    for pair in offsets.windows(2) {
        let len = (pair[1] - pair[0]) as usize;
        let first = pieces.len();
        pieces.extend((0..groups).map(|_| Vec::with_capacity(len)));
        for _ in 0..len {
            for (group, part) in parts.by_ref().take(groups).enumerate() {
                let piece: &mut Vec<&'a mut [T]> = &mut pieces[first + group];
                piece.push(part);
            }
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::pieces;

    #[test]
    fn every_element_belongs_to_its_row_and_group() {
        // Rows of 1, 0 and 2 tokens; two groups two wide.
        let mut out = vec![0; 12];
        for (name, piece) in pieces(&mut out, &[0, 1, 1, 3], 2, 2)
            .into_iter()
            .enumerate()
        {
            for part in piece {
                part.fill(name);
            }
        }
        assert_eq!(out, [0, 0, 1, 1, 4, 4, 5, 5, 4, 4, 5, 5]);
    }
}
