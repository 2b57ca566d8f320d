//! Heads of a row copied out of (N, H, D), with both sizes rounded up to whole tiles and the rest zero.
//! Legend: L tokens of the row, D head size, L′ and D′ rounded up to 16.

use std::ops::Range;

use super::super::element::Element;
use super::super::lanes::LANES;

/// Sizes of attention on one ragged batch.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) size: usize,
}

impl Sizes {
    /// Query heads that share a key/value head.
    pub(super) fn group(self) -> usize {
        self.heads / self.kv_heads
    }

    /// D′.
    pub(super) fn padded(self) -> usize {
        self.size.next_multiple_of(LANES)
    }

    /// 1 / √D.
    pub(super) fn scale<T: Element>(self) -> T {
        T::from_f64(1.0 / (self.size as f64).sqrt())
    }
}

/// One head of a row of (N, heads, D): `tokens` are the row's elements of all heads.
#[derive(Clone, Copy)]
pub(super) struct Head<'a, T> {
    tokens: &'a [T],
    heads: usize,
    index: usize,
    size: usize,
}

impl<'a, T: Element> Head<'a, T> {
    /// Head `head` of the tokens `tokens` of `values` (N, heads, D).
    pub(super) fn of(
        values: &'a [T],
        tokens: &Range<usize>,
        heads: usize,
        head: usize,
        size: usize,
    ) -> Self {
        let width = heads * size;
        Self {
            tokens: &values[tokens.start * width..tokens.end * width],
            heads,
            index: head,
            size,
        }
    }

    /// The head's D channels, token by token.
    pub(super) fn rows(&self) -> impl Iterator<Item = &'a [T]> + use<'a, T> {
        let (start, size) = (self.index * self.size, self.size);
        self.tokens
            .chunks_exact(self.heads * size)
            .map(move |token| &token[start..start + size])
    }

    fn len(&self) -> usize {
        self.tokens.len() / (self.heads * self.size)
    }

    /// (L′, D′), times `factor`, into `out`.
    pub(super) fn pack(&self, factor: T, out: &mut Vec<T>) {
        let padded = self.size.next_multiple_of(LANES);
        out.clear();
        out.resize(self.len().next_multiple_of(LANES) * padded, T::zero());
        for (out, row) in out.chunks_exact_mut(padded).zip(self.rows()) {
            out.iter_mut().zip(row).for_each(|(o, &x)| *o = x * factor);
        }
    }

    /// (D′, L′), the transpose, times `factor`, into `out`.
    pub(super) fn pack_turned(&self, factor: T, out: &mut Vec<T>) {
        let length = self.len().next_multiple_of(LANES);
        out.clear();
        out.resize(self.size.next_multiple_of(LANES) * length, T::zero());
        for (token, row) in self.rows().enumerate() {
            for (channel, &x) in row.iter().enumerate() {
                out[channel * length + token] = x * factor;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_lies_in_the_corner_of_its_tiles() {
        // Two tokens, two heads of size 3; the second head.
        let tokens: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let head = Head::of(&tokens, &(0..2), 2, 1, 3);
        let (mut packed, mut turned) = (vec![9.0], vec![9.0]);
        head.pack(2.0, &mut packed);
        head.pack_turned(1.0, &mut turned);
        assert_eq!(packed.len(), 256);
        assert_eq!(packed[..4], [6.0, 8.0, 10.0, 0.0]);
        assert_eq!(packed[16..20], [18.0, 20.0, 22.0, 0.0]);
        assert!(packed[32..].iter().all(|&x| x == 0.0));
        assert_eq!(turned[..3], [3.0, 9.0, 0.0]);
        assert_eq!(turned[32..35], [5.0, 11.0, 0.0]);
    }
}
