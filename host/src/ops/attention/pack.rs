//! Heads of a row copied out of (n, stride), with both sizes rounded up to whole tiles and the rest zero.
//! Legend: L tokens of the row, D head size, L′ and D′ rounded up to 16.

use std::ops::Range;

use super::super::element::Element;
use super::super::lanes::LANES;

/// Sizes of attention on one ragged batch.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// H.
    pub heads: usize,
    /// K, a divisor of H.
    pub kv_heads: usize,
    /// D.
    pub size: usize,
}

impl Sizes {
    /// Query heads that share a key/value head.
    pub(super) fn group(self) -> usize {
        self.heads / self.kv_heads
    }

    /// H · D.
    pub fn query_width(self) -> usize {
        self.heads * self.size
    }

    /// 2 · K · D: the keys of a token, then its values.
    pub fn key_value_width(self) -> usize {
        2 * self.kv_heads * self.size
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

/// One head of some tokens of (n, stride).
#[derive(Clone, Copy)]
pub(super) struct Head<'a, T> {
    tokens: &'a [T],
    stride: usize,
    column: usize,
    size: usize,
}

impl<'a, T: Element> Head<'a, T> {
    /// The `size` channels from `column` on of the tokens `tokens` of `values` (n, stride).
    pub(super) fn of(
        values: &'a [T],
        tokens: &Range<usize>,
        stride: usize,
        column: usize,
        size: usize,
    ) -> Self {
        Self {
            tokens: &values[tokens.start * stride..tokens.end * stride],
            stride,
            column,
            size,
        }
    }

    /// The head's D channels, token by token.
    pub(super) fn rows(&self) -> impl Iterator<Item = &'a [T]> + use<'a, T> {
        let (start, size) = (self.column, self.size);
        self.tokens
            .chunks_exact(self.stride)
            .map(move |token| &token[start..start + size])
    }

    fn len(&self) -> usize {
        self.tokens.len() / self.stride
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
        let head = Head::of(&tokens, &(0..2), 6, 3, 3);
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
