//! Heads of a row as operands of tiles. Legend: L tokens of the row, D head size, L′ and D′ rounded up to 16.

use std::ops::Range;

use super::super::element::Element;
use super::super::lanes::LANES;
use super::super::register::Register;
use super::super::tile::{Left, Right};

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
}

/// One head of some tokens of (n, stride).
#[derive(Clone, Copy)]
pub(super) struct Head<'a, T> {
    /// From the first token's first channel to the end of the last token.
    values: &'a [T],
    length: usize,
    stride: usize,
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
        let values = &values[tokens.start * stride..tokens.end * stride];
        Self {
            values: values.get(column..).unwrap_or_default(),
            length: tokens.len(),
            stride,
            size,
        }
    }

    /// The head's D channels, token by token from `first` on.
    pub(super) fn rows(&self, first: usize) -> impl Iterator<Item = &'a [T]> + use<'a, T> {
        let size = self.size;
        let values = self.values.get(first * self.stride..).unwrap_or_default();
        let rows = values.chunks(self.stride);
        rows.map(move |row| &row[..size])
    }

    /// (L, D) from token `first` on, as it lies there.
    pub(super) fn left(&self, first: usize) -> Left<'a, T> {
        Left {
            values: &self.values[first * self.stride..],
            row: self.stride,
            step: 1,
        }
    }

    /// (L, D) as it lies there where D is a number of whole registers, or a copy with rows of D′ in `copy`.
    pub(super) fn right(&self, copy: &'a mut Vec<T>) -> Right<'a, T> {
        if self.size.is_multiple_of(LANES) {
            return Right {
                values: self.values,
                step: self.stride,
            };
        }
        let padded = self.size.next_multiple_of(LANES);
        copy.clear();
        copy.resize(self.length * padded, T::zero());
        for (out, row) in copy.chunks_exact_mut(padded).zip(self.rows(0)) {
            out[..self.size].copy_from_slice(row);
        }
        Right {
            values: copy,
            step: padded,
        }
    }

    /// The transpose, (D, L′), times `factor`; zeros behind the last token.
    pub(super) fn turned(&self, factor: T, copy: &'a mut Vec<T>) -> Right<'a, T> {
        let length = self.length.next_multiple_of(LANES);
        copy.resize(self.size * length, T::zero());
        let factor = T::Register::splat(factor);
        for block in (0..self.length).step_by(LANES) {
            for channel in (0..self.size).step_by(LANES) {
                let width = LANES.min(self.size - channel);
                let square = std::array::from_fn(|token| {
                    let start = (block + token) * self.stride + channel;
                    if block + token >= self.length {
                        return T::Register::zero();
                    }
                    let row = &self.values[start..start + width];
                    let mut whole = [T::zero(); LANES];
                    let row = row.first_chunk().unwrap_or_else(|| {
                        whole[..width].copy_from_slice(row);
                        &whole
                    });
                    let register = T::Register::load(row);
                    register.fma(factor, T::Register::zero())
                });
                let columns = T::Register::transpose(square);
                let out = copy[channel * length..].chunks_exact_mut(length);
                for (out, column) in out.zip(columns) {
                    if let Some(out) = out[block..].first_chunk_mut() {
                        column.store(out);
                    }
                }
            }
        }
        Right {
            values: copy,
            step: length,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_lies_there_or_in_rows_of_whole_registers() {
        // Two tokens, two heads of size 3; the second head.
        let tokens: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let head = Head::of(&tokens, &(0..2), 6, 3, 3);
        let rows: Vec<_> = head.rows(0).collect();
        assert_eq!(rows, [[3.0, 4.0, 5.0], [9.0, 10.0, 11.0]]);
        let (mut copy, mut turned) = (vec![9.0], vec![9.0; 48]);
        let right = head.right(&mut copy);
        assert_eq!((right.step, right.values.len()), (16, 32));
        assert_eq!(right.values[..4], [3.0, 4.0, 5.0, 0.0]);
        assert_eq!(right.steps(1).values[..4], [9.0, 10.0, 11.0, 0.0]);
        let right = head.turned(2.0, &mut turned);
        assert_eq!((right.step, right.values.len()), (16, 48));
        assert_eq!(right.values[..3], [6.0, 18.0, 0.0]);
        assert_eq!(right.steps(2).columns(1).values[..2], [22.0, 0.0]);
        assert!(right.values[2..16].iter().all(|&x| x == 0.0));

        // One head of size 16 among two.
        let tokens: Vec<f32> = (0..96).map(|i| i as f32).collect();
        let head = Head::of(&tokens, &(1..3), 32, 16, 16);
        let right = head.right(&mut copy);
        assert_eq!(
            (right.step, right.values[0], right.values.len()),
            (32, 48.0, 48)
        );
        assert_eq!(head.left(1).values[0], 80.0);
    }
}
