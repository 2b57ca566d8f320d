//! Matrix products by the `gemm` crate, on slices: c = a · b or c += a · b.
//!
//! Candle's own product takes the same crate, but asks for the number of threads at every call by reading the machine's
//! description, fills the result with zeros first, and cannot add to a result that is there.

#![expect(
    unsafe_code,
    reason = "the kernels of the gemm crate take raw pointers"
)]

use gemm::Parallelism;

use super::element::Element;

/// A matrix in a slice: element (i, j) lies at `i · row_stride + j · column_stride`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matrix<'a, T> {
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
    pub(super) fn new(values: &'a [T], rows: usize, columns: usize) -> Self {
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
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// The number of columns.
    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// The transpose, without moving an element.
    pub(super) fn t(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// Products of fewer multiplications than this are not worth waking a second thread for.
const PARALLEL: usize = 48 * 48 * 256;

/// out (m, n) = a (m, k) · b (k, n), or out += a · b where `add`.
///
/// The sums run over k in an order that depends on the sizes and the processor alone.
///
/// # Panics
/// Sizes that do not fit: the callers check shapes with names.
pub(super) fn multiply<T: Element>(out: &mut [T], a: Matrix<'_, T>, b: Matrix<'_, T>, add: bool) {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    assert_eq!(b.rows, k, "the inner sizes of a product agree");
    assert_eq!(out.len(), m * n, "a product fills its result");
    if out.is_empty() {
        return;
    }
    let threads = match m * n * k {
        small if small < PARALLEL => Parallelism::None,
        _ => match rayon::current_num_threads() {
            1 => Parallelism::None,
            threads => Parallelism::Rayon(threads),
        },
    };
    // SAFETY: `Matrix` only exists over a slice of rows · columns elements with the strides of its row-major layout or of
    // that layout's transpose, so every element that is read lies inside; `out` has m · n elements, is borrowed mutably,
    // and is addressed row by row. T is f32 or f64, for which the crate has kernels.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            add,
            a.values.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            T::one(),
            T::one(),
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
                multiply(&mut found, a, b, false);
                let mut doubled = found.clone();
                multiply(&mut doubled, a, b, true);
                for ((found, doubled), expected) in found.iter().zip(&doubled).zip(&expected) {
                    assert!((found - expected).abs() < 1e-12, "{found} {expected}");
                    assert!((doubled - 2.0 * expected).abs() < 1e-12);
                }
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
                    &mut out,
                    Matrix::new(&a, m, k),
                    Matrix::new(&b, n, k).t(),
                    false,
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
