//! Matrix products by the `gemm` crate, on slices: c = s · a · b or c += s · a · b.
//!
//! Candle's own product takes the same crate, but asks for the number of threads at every call by reading the machine's
//! description, fills the result with zeros first, and cannot add to a result that is there.

#![expect(
    unsafe_code,
    reason = "the kernels of the gemm crate take raw pointers"
)]

use gemm::Parallelism;

use super::element::Element;
use super::lanes::LANES;
use super::register::Register as _;

/// A matrix in a slice: element (i, j) lies at `i · row_stride + j · column_stride`.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a, T> {
    values: &'a [T],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// The slice as (rows, columns), row by row.
    ///
    /// # Panics
    /// A slice of another length: the caller computes both.
    pub fn new(values: &'a [T], rows: usize, columns: usize) -> Self {
        assert_eq!(values.len(), rows * columns, "a matrix fills its slice");
        Self {
            values,
            rows,
            columns,
            row_stride: columns,
            column_stride: 1,
        }
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The transpose, without moving an element.
    #[must_use]
    pub fn t(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// `count` columns from `first` on.
    #[must_use]
    pub fn part(self, first: usize, count: usize) -> Self {
        assert!(first + count <= self.columns, "columns of the matrix");
        let start = (first * self.column_stride).min(self.values.len());
        Self {
            values: &self.values[start..],
            columns: count,
            ..self
        }
    }
}

impl<T: Element> Matrix<'_, T> {
    /// Writes the rows into `out`, `stride` elements apart; what lies between them stays.
    pub(super) fn copy_rows(self, out: &mut [T], stride: usize) {
        if self.column_stride == 1 && self.row_stride >= self.columns {
            let rows = self.values.chunks(self.row_stride.max(1));
            for (out, row) in out.chunks_mut(stride).zip(rows).take(self.rows) {
                out[..self.columns].copy_from_slice(&row[..self.columns]);
            }
            return;
        }
        // The elements of a column lie side by side: squares of them are turned in registers.
        let whole = |count: usize| count / LANES * LANES;
        let squares = if self.row_stride == 1 {
            (whole(self.rows), whole(self.columns))
        } else {
            (0, 0)
        };
        for column in (0..squares.1).step_by(LANES) {
            for row in (0..squares.0).step_by(LANES) {
                let square = std::array::from_fn(|i| {
                    let start = (column + i) * self.column_stride + row;
                    let values = self.values[start..].first_chunk();
                    T::Register::load(values.expect("invariant: a column holds its rows"))
                });
                let turned = T::Register::transpose(square);
                for (i, register) in turned.into_iter().enumerate() {
                    let to = out[(row + i) * stride + column..].first_chunk_mut();
                    register.store(to.expect("invariant: a row holds its columns"));
                }
            }
        }
        for column in 0..self.columns {
            let first = if column < squares.1 { squares.0 } else { 0 };
            let from = &self.values[column * self.column_stride..];
            let from = from.iter().step_by(self.row_stride).take(self.rows);
            let to = out[column..].iter_mut().step_by(stride);
            let rest = to.zip(from).skip(first);
            rest.for_each(|(to, &from)| *to = from);
        }
    }
}

/// A matrix to be written: rows `stride` apart, columns side by side.
#[derive(Debug)]
pub struct MatrixMut<'a, T> {
    values: &'a mut [T],
    rows: usize,
    columns: usize,
    stride: usize,
}

impl<'a, T> MatrixMut<'a, T> {
    /// The slice as (rows, columns), row by row.
    ///
    /// # Panics
    /// A slice of another length: the caller computes both.
    pub fn new(values: &'a mut [T], rows: usize, columns: usize) -> Self {
        assert_eq!(values.len(), rows * columns, "a matrix fills its slice");
        Self {
            values,
            rows,
            columns,
            stride: columns,
        }
    }

    /// `count` columns from `first` on.
    #[must_use]
    pub fn part(self, first: usize, count: usize) -> Self {
        assert!(first + count <= self.columns, "columns of the matrix");
        let start = first.min(self.values.len());
        Self {
            values: &mut self.values[start..],
            columns: count,
            ..self
        }
    }
}

/// What becomes of a product.
#[derive(Clone, Copy, Debug)]
pub struct Product<T> {
    /// What it is multiplied by.
    pub scale: T,
    /// Whether it is added to the result that is there, or replaces it.
    pub add: bool,
    /// Threads that may share the work; a product that is too small for several takes one. The bits do not depend on it.
    pub threads: usize,
}

impl<T: Element> Product<T> {
    /// Replaces the result.
    pub fn set(threads: usize) -> Self {
        Self {
            scale: T::one(),
            add: false,
            threads,
        }
    }

    /// Adds to the result.
    pub fn add(threads: usize) -> Self {
        Self {
            add: true,
            ..Self::set(threads)
        }
    }
}

/// Products of fewer multiplications than this are not worth waking a second thread for.
pub(super) const PARALLEL: usize = 48 * 48 * 256;

/// out (m, n) = scale · a (m, k) · b (k, n), or out += scale · a · b.
///
/// The sums run over k in an order that depends on the sizes and the processor alone.
///
/// # Panics
/// Sizes that do not fit: the callers compute them from one configuration.
#[expect(
    clippy::needless_pass_by_value,
    reason = "a result is written once; callers would take a reference of a temporary every time"
)]
pub fn multiply<T: Element>(
    out: MatrixMut<'_, T>,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    how: Product<T>,
) {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    assert_eq!(b.rows, k, "the inner sizes of a product agree");
    assert_eq!(
        (out.rows, out.columns),
        (m, n),
        "a product fills its result"
    );
    if m == 0 || n == 0 {
        return;
    }
    let threads = match (how.threads, m * n * k) {
        (0 | 1, _) => Parallelism::None,
        (_, small) if small < PARALLEL => Parallelism::None,
        (threads, _) => Parallelism::Rayon(threads),
    };
    // SAFETY: `Matrix` only exists over a slice that holds its last element: `new` checks the length, and `t` and `part`
    // keep rows, columns and strides within it; the same holds for `out`, which is borrowed mutably and addressed row by
    // row. T is f32 or f64, for which the crate has kernels.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.values.as_mut_ptr(),
            1,
            out.stride as isize,
            how.add,
            a.values.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            T::one(),
            how.scale,
            false,
            false,
            false,
            threads,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Σ over k, element by element.
    fn plain(a: Matrix<'_, f64>, b: Matrix<'_, f64>) -> Vec<f64> {
        let at = |m: Matrix<'_, f64>, i, j| m.values[i * m.row_stride + j * m.column_stride];
        let mut out = Vec::new();
        for i in 0..a.rows {
            for j in 0..b.columns {
                out.push((0..a.columns).map(|k| at(a, i, k) * at(b, k, j)).sum());
            }
        }
        out
    }

    fn values(n: usize, phase: f64) -> Vec<f64> {
        (0..n).map(|i| (i as f64 * 0.7 + phase).sin()).collect()
    }

    #[test]
    fn products_of_both_layouts_and_sums_agree_with_plain_loops() {
        for (m, k, n) in [(1, 1, 1), (3, 5, 4), (70, 33, 90), (2, 300, 64), (4, 0, 3)] {
            let (a, b) = (values(m * k, 0.1), values(k * n, 1.0));
            let (at, bt) = (values(k * m, 0.3), values(n * k, 2.0));
            for (a, b) in [
                (Matrix::new(&a, m, k), Matrix::new(&b, k, n)),
                (Matrix::new(&at, k, m).t(), Matrix::new(&b, k, n)),
                (Matrix::new(&a, m, k), Matrix::new(&bt, n, k).t()),
                (Matrix::new(&at, k, m).t(), Matrix::new(&bt, n, k).t()),
            ] {
                let expected = plain(a, b);
                let mut found = vec![f64::NAN; m * n];
                multiply(MatrixMut::new(&mut found, m, n), a, b, Product::set(2));
                let mut tripled = found.clone();
                let twice = Product {
                    scale: 2.0,
                    ..Product::add(2)
                };
                multiply(MatrixMut::new(&mut tripled, m, n), a, b, twice);
                for ((found, tripled), expected) in found.iter().zip(&tripled).zip(&expected) {
                    assert!((found - expected).abs() < 1e-12, "{found} {expected}");
                    assert!((tripled - 3.0 * expected).abs() < 1e-12);
                }
            }
        }
    }

    #[test]
    fn parts_of_columns_are_read_and_written_in_place() {
        let (a, b) = (values(12, 0.1), values(6, 1.0));
        // Columns 1 and 2 of (3, 4) times (2, 3), into columns 2 to 4 of (3, 6).
        let left = Matrix::new(&a, 3, 4).part(1, 2);
        let right = Matrix::new(&b, 2, 3);
        let mut out = vec![9.0; 18];
        multiply(
            MatrixMut::new(&mut out, 3, 6).part(2, 3),
            left,
            right,
            Product::set(1),
        );
        let expected = plain(left, right);
        for i in 0..3 {
            assert_eq!(out[6 * i..6 * i + 2], [9.0, 9.0]);
            assert_eq!(out[6 * i + 5], 9.0);
            for j in 0..3 {
                assert!((out[6 * i + 2 + j] - expected[3 * i + j]).abs() < 1e-14);
            }
        }
    }

    /// Large enough for several threads, and for blocks of every dimension.
    #[test]
    fn the_number_of_threads_does_not_change_a_bit() {
        let (m, k, n) = (150, 700, 130);
        let single = |n: usize, phase| {
            values(n, phase)
                .iter()
                .map(|&x| x as f32)
                .collect::<Vec<_>>()
        };
        let (a, b) = (single(m * k, 0.1), single(n * k, 1.0));
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let mut out = vec![0.0; m * n];
            pool.unwrap().install(|| {
                multiply(
                    MatrixMut::new(&mut out, m, n),
                    Matrix::new(&a, m, k),
                    Matrix::new(&b, n, k).t(),
                    Product::set(threads),
                );
            });
            out
        };
        let alone = run(1);
        let dot = |i: usize, j: usize| -> f64 {
            let pairs = a[i * k..][..k].iter().zip(&b[j * k..][..k]);
            pairs.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
        };
        for (i, j) in [(0, 0), (77, 129), (149, 64)] {
            assert!((f64::from(alone[i * n + j]) - dot(i, j)).abs() < 1e-4);
        }
        for threads in [2, 3] {
            assert_eq!(run(threads), alone, "{threads} threads");
        }
    }
}
