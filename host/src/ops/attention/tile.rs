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
#[inline]
pub(super) fn by_rows<T: Element>(left: Matrix<T>, right: Matrix<T>, steps: usize) -> Tile<T> {
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

/// leftᵀ (8, steps) · right (steps, 16), left (steps, 8), added to `tile`.
#[inline]
pub(super) fn by_columns<T: Element>(
    mut tile: Tile<T>,
    left: Matrix<T>,
    right: Matrix<T>,
    steps: usize,
) -> Tile<T> {
    for step in 0..steps {
        let row = &left.values[step * left.stride..][..ROWS];
        let column = &right.values[step * right.stride..][..LANES];
        for r in 0..ROWS {
            for lane in 0..LANES {
                tile[r][lane] = row[r].fma(column[lane], tile[r][lane]);
            }
        }
    }
    tile
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_products_agree_with_sums() {
        let steps = 3;
        let left: Vec<f64> = (0..ROWS * steps).map(|i| i as f64 - 7.0).collect();
        let turned: Vec<f64> = (0..steps * ROWS)
            .map(|i| left[(i % ROWS) * steps + i / ROWS])
            .collect();
        let right: Vec<f64> = (0..steps * LANES).map(|i| (i * i % 11) as f64).collect();
        let rows = by_rows(Matrix::new(&left, steps), Matrix::new(&right, LANES), steps);
        let start = [[1.0; LANES]; ROWS];
        let columns = by_columns(
            start,
            Matrix::new(&turned, ROWS),
            Matrix::new(&right, LANES),
            steps,
        );
        for r in 0..ROWS {
            for lane in 0..LANES {
                let sum: f64 = (0..steps)
                    .map(|s| left[r * steps + s] * right[s * LANES + lane])
                    .sum();
                assert_eq!(rows[r][lane], sum);
                assert_eq!(columns[r][lane], sum + 1.0);
            }
        }
    }
}
