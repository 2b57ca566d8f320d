//! Small products for attention: a tile of 8 rows and 16 columns stays in registers while the inner axis runs.

use super::super::element::Element;
use super::super::lanes::LANES;

/// Rows of a tile: eight running sums hide the latency of multiply-add on two ports.
pub(super) const ROWS: usize = 8;

/// A tile of results.
pub(super) type Tile<T> = [[T; LANES]; ROWS];

/// A matrix in a slice: rows `stride` apart.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a, T> {
    values: &'a [T],
    stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// The matrix whose rows begin `stride` elements apart.
    pub(super) fn new(values: &'a [T], stride: usize) -> Self {
        Self { values, stride }
    }

    /// The matrix that begins at (row, column).
    pub(super) fn at(self, row: usize, column: usize) -> Self {
        let values = &self.values[row * self.stride + column..];
        Self { values, ..self }
    }
}

/// left (8, steps) · right (steps, 16).
///
/// Not inlined: the compiler keeps the tile in registers where it sees nothing else; inlined into a loop that adds to
/// memory, it gathered columns of it.
#[inline(never)]
pub(super) fn product<T: Element>(left: Matrix<T>, right: Matrix<T>, steps: usize) -> Tile<T> {
    let rows: [&[T]; ROWS] = std::array::from_fn(|r| &left.values[r * left.stride..][..steps]);
    let mut tile = [[T::zero(); LANES]; ROWS];
    for step in 0..steps {
        let column = &right.values[step * right.stride..][..LANES];
        for r in 0..ROWS {
            for lane in 0..LANES {
                tile[r][lane] = rows[r][step].fma(column[lane], tile[r][lane]);
            }
        }
    }
    tile
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_product_agrees_with_sums() {
        let steps = 3;
        let left: Vec<f64> = (0..ROWS * steps).map(|i| i as f64 - 7.0).collect();
        let right: Vec<f64> = (0..steps * LANES).map(|i| (i * i % 11) as f64).collect();
        let tile = product(Matrix::new(&left, steps), Matrix::new(&right, LANES), steps);
        for r in 0..ROWS {
            for lane in 0..LANES {
                let sum: f64 = (0..steps)
                    .map(|s| left[r * steps + s] * right[s * LANES + lane])
                    .sum();
                assert_eq!(tile[r][lane], sum);
            }
        }
    }
}
