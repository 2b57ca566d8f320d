//! The kernel of small products: a tile of some rows and 16 or 32 columns of the result stays in registers while the inner
//! axis runs. Legend: m rows, n columns, s steps of the inner axis.
//!
//! Every element of the result is one chain of multiply-adds over the steps, from zero and in their order, whatever stands
//! beside it: its bits do not depend on how many rows or columns there are.

#![expect(
    unsafe_code,
    reason = "operands are read through pointers: a check of every element would take as long as its arithmetic"
)]

use super::element::Element;
use super::lanes::LANES;
use super::register::Register;

/// Columns of a panel, the most that a tile has.
pub(crate) const PANEL: usize = 2 * LANES;

/// Rows of a tile: with AVX-512, 8 × 2 of 32 registers hold sums, which hides the latency of multiply-add; without, 16
/// registers of half the width hold 4 × 1 tiles.
const ROWS: usize = if WIDE { 8 } else { 4 };
const WIDE: bool = cfg!(target_feature = "avx512f");

/// The left operand, (m, s): element (i, j) lies at `i · row + j · step`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Left<'a, T> {
    pub(crate) values: &'a [T],
    pub(crate) row: usize,
    pub(crate) step: usize,
}

/// The right operand, (s, n): step j begins at `j · step`, its columns side by side. Whole registers are read: up to 15
/// elements behind a step's last column, which take part in nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Right<'a, T> {
    pub(crate) values: &'a [T],
    pub(crate) step: usize,
}

/// The result, (m, n): rows begin `row` apart.
#[derive(Debug)]
pub(crate) struct Out<'a, T> {
    pub(crate) values: &'a mut [T],
    pub(crate) row: usize,
}

/// out (m, n) = left (m, s) · right (s, n), or out += left · right, with n ≤ 32.
///
/// # Panics
/// Operands that are too short.
#[expect(
    clippy::needless_pass_by_value,
    reason = "a result is written once; callers would take a reference of a temporary every time"
)]
pub(crate) fn product<T: Element>(
    out: Out<'_, T>,
    left: Left<'_, T>,
    right: Right<'_, T>,
    (m, steps, n): (usize, usize, usize),
    add: bool,
) {
    assert!(n <= PANEL, "columns of one panel");
    if m == 0 || n == 0 {
        return;
    }
    let registers = n.div_ceil(LANES);
    if steps > 0 {
        let last = (m - 1) * left.row + (steps - 1) * left.step;
        assert!(last < left.values.len(), "the left operand of a tile");
        let last = (steps - 1) * right.step + registers * LANES;
        assert!(last <= right.values.len(), "the right operand of a tile");
    }
    assert!((m - 1) * out.row + n <= out.values.len(), "the result of a tile");
    if WIDE && registers == 2 {
        tiles::<T, 2>(out, left, right, (m, steps, n), add);
        return;
    }
    for first in (0..n).step_by(LANES) {
        let out = Out {
            values: &mut out.values[first..],
            row: out.row,
        };
        let right = Right {
            values: right.values.get(first..).unwrap_or_default(),
            ..right
        };
        tiles::<T, 1>(out, left, right, (m, steps, LANES.min(n - first)), add);
    }
}

/// The rows of the result, a tile after the other; what is left over in tiles of fewer rows.
fn tiles<T: Element, const V: usize>(
    out: Out<'_, T>,
    left: Left<'_, T>,
    right: Right<'_, T>,
    (m, steps, n): (usize, usize, usize),
    add: bool,
) {
    let mut first = 0;
    while first < m {
        let rest = m - first;
        let kernel = match rest {
            1 => tile::<T, 1, V>,
            2 | 3 => tile::<T, 2, V>,
            4.. if rest >= ROWS => tile::<T, ROWS, V>,
            _ => tile::<T, 4, V>,
        };
        let rows = [1, 2, 4, ROWS].into_iter().filter(|&rows| rows <= rest);
        let rows = rows.max().unwrap_or(1);
        let left = Left {
            values: &left.values[(first * left.row).min(left.values.len())..],
            ..left
        };
        let values = &mut out.values[first * out.row..];
        if n == V * LANES {
            kernel(values, out.row, left, right, steps, add);
        } else {
            // A narrower result goes by way of a whole one.
            let mut whole = [T::zero(); ROWS * PANEL];
            kernel(&mut whole, V * LANES, left, right, steps, false);
            for (out, sums) in values.chunks_mut(out.row).zip(whole.chunks_exact(V * LANES)).take(rows) {
                for (out, &sum) in out.iter_mut().zip(&sums[..n]) {
                    *out = if add { *out + sum } else { sum };
                }
            }
        }
        first += rows;
    }
}

/// R rows by V registers. The operands hold them: [`product`] checks.
///
/// Not inlined: the sums stay in registers where the compiler sees nothing else.
#[inline(never)]
fn tile<T: Element, const R: usize, const V: usize>(
    out: &mut [T],
    out_row: usize,
    left: Left<'_, T>,
    right: Right<'_, T>,
    steps: usize,
    add: bool,
) {
    let mut sums = [[T::Register::zero(); V]; R];
    let rows: [*const T; R] = std::array::from_fn(|r| left.values.as_ptr().wrapping_add(r * left.row));
    let mut step = right.values.as_ptr();
    let mut at = 0;
    for _ in 0..steps {
        // SAFETY: step j < s of the right operand holds V registers, and `step` points to its first element.
        let columns: [T::Register; V] = std::array::from_fn(|v| unsafe {
            T::Register::load(&*step.add(v * LANES).cast())
        });
        for r in 0..R {
            // SAFETY: element (r, j) of the left operand; r < m and j < s.
            let x = T::Register::splat(unsafe { *rows[r].add(at) });
            for v in 0..V {
                sums[r][v] = x.fma(columns[v], sums[r][v]);
            }
        }
        at += left.step;
        step = step.wrapping_add(right.step);
    }
    for r in 0..R {
        let registers = out[r * out_row..][..V * LANES].as_chunks_mut::<LANES>().0;
        for v in 0..V {
            let sum = if add {
                T::Register::load(&registers[v]).add(sums[r][v])
            } else {
                sums[r][v]
            };
            sum.store(&mut registers[v]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values<T: Element>(count: usize) -> Vec<T> {
        (0..count).map(|i| T::from_f64((i * 7 % 11) as f64 - 5.0)).collect()
    }

    /// Small whole numbers: every order of summation gives the same.
    fn check<T: Element + std::fmt::Debug>(m: usize, steps: usize, n: usize, turned: bool, add: bool) {
        let (left_values, right_values) = (values::<T>(m * steps), values::<T>(steps * 40));
        let (row, step) = if turned { (1, m) } else { (steps, 1) };
        let (left, right) = (
            Left { values: &left_values, row, step },
            Right { values: &right_values, step: 40 },
        );
        let mut found = vec![T::one(); m * 50];
        let out = Out { values: &mut found, row: 50 };
        product(out, left, right, (m, steps, n), add);
        for i in 0..m {
            for j in 0..50 {
                let terms = (0..steps).map(|s| left_values[i * row + s * step] * right_values[s * 40 + j % 40]);
                let sum = terms.fold(T::zero(), |sum, term| sum + term);
                let expected = match (j < n, add) {
                    (false, _) => T::one(),
                    (true, false) => sum,
                    (true, true) => T::one() + sum,
                };
                assert_eq!(found[i * 50 + j], expected, "({i}, {j}) of {m} {steps} {n}");
            }
        }
    }

    #[test]
    fn tiles_of_every_size_agree_with_sums() {
        for m in [1, 2, 3, 5, 8, 23] {
            for n in [1, 15, 16, 17, 32] {
                for steps in [0, 1, 9] {
                    for (turned, add) in [(false, false), (true, false), (false, true), (true, true)] {
                        check::<f32>(m, steps, n, turned, add);
                        check::<f64>(m, steps, n, turned, add);
                    }
                }
            }
        }
    }

    #[test]
    fn an_element_has_the_same_bits_in_every_tile() {
        let left: Vec<f32> = (0..23 * 50).map(|i| (i as f32 * 0.7).sin()).collect();
        let right: Vec<f32> = (0..50 * 32).map(|i| (i as f32 * 0.3).cos()).collect();
        let run = |first: usize, m: usize, n: usize| {
            let mut out = vec![0.0; m * n];
            let left = Left { values: &left[first * 50..], row: 50, step: 1 };
            let right = Right { values: &right, step: 32 };
            product(Out { values: &mut out, row: n }, left, right, (m, 50, n), false);
            out
        };
        let whole = run(0, 23, 32);
        for (first, m, n) in [(0, 1, 1), (3, 1, 32), (21, 2, 16), (5, 11, 17)] {
            for (i, row) in run(first, m, n).chunks_exact(n).enumerate() {
                assert_eq!(row, &whole[(first + i) * 32..][..n]);
            }
        }
    }

    #[test]
    #[should_panic(expected = "the right operand of a tile")]
    fn a_right_operand_without_whole_registers_is_refused() {
        let (left, right) = ([1.0f32; 2], [1.0f32; 19]);
        let mut out = [0.0f32; 4];
        let (left, right) = (
            Left { values: &left, row: 2, step: 1 },
            Right { values: &right, step: 4 },
        );
        product(Out { values: &mut out, row: 4 }, left, right, (1, 2, 4), false);
    }
}
