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
use super::start::Start;

/// Columns of a panel, the most that a tile has.
pub(crate) const PANEL: usize = 2 * LANES;

/// Rows of a tile: with AVX-512, 8 × 2 of 32 registers hold sums, which hides the latency of multiply-add; without, 16
/// registers of half the width hold 6 × 1.
const ROWS: usize = if WIDE { 8 } else { 6 };
const WIDE: bool = cfg!(target_feature = "avx512f");

/// The left operand, (m, s): element (i, j) lies at `i · row + j · step`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Left<'a, T> {
    pub(crate) values: &'a [T],
    pub(crate) row: usize,
    pub(crate) step: usize,
}

impl<T: Copy> Left<'_, T> {
    /// The rows from `first` on.
    fn rows(self, first: usize) -> Self {
        Self {
            values: self.values.get(first * self.row..).unwrap_or_default(),
            ..self
        }
    }
}

/// The right operand, (s, n): step j begins at `j · step`, its columns side by side. Whole registers are read: up to 15
/// elements behind a step's last column, which take part in nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Right<'a, T> {
    pub(crate) values: &'a [T],
    pub(crate) step: usize,
}

impl<T: Copy> Right<'_, T> {
    /// The columns from `first` on.
    pub(super) fn columns(self, first: usize) -> Self {
        Self {
            values: self.values.get(first..).unwrap_or_default(),
            ..self
        }
    }

    /// The steps from `first` on.
    pub(super) fn steps(self, first: usize) -> Self {
        self.columns(first * self.step)
    }
}

/// The result, (m, n): rows begin `row` apart.
#[derive(Debug)]
pub(crate) struct Out<'a, T> {
    pub(crate) values: &'a mut [T],
    pub(crate) row: usize,
}

/// out (m, n) = start + left (m, s) · right (s, n), with n ≤ 32.
///
/// # Panics
/// Operands that are too short.
pub(crate) fn product<T: Element>(
    out: Out<'_, T>,
    left: Left<'_, T>,
    right: Right<'_, T>,
    (m, steps, n): (usize, usize, usize),
    start: Start<'_, T>,
) {
    assert!(n <= PANEL, "columns of one panel");
    if m == 0 || n == 0 {
        return;
    }
    let Out { values, row } = out;
    if WIDE && n > LANES {
        tiles::<T, 2>((values, row), left, right, (m, steps, n), start);
        return;
    }
    for first in (0..n).step_by(LANES) {
        let out = (&mut values[first..], row);
        let right = right.columns(first);
        let width = LANES.min(n - first);
        tiles::<T, 1>(out, left, right, (m, steps, width), start.from(first));
    }
}

/// The rows of the result: whole tiles, and what is left over in lower ones.
fn tiles<T: Element, const V: usize>(
    (values, row): (&mut [T], usize),
    left: Left<'_, T>,
    right: Right<'_, T>,
    (m, steps, n): (usize, usize, usize),
    start: Start<'_, T>,
) {
    let mut first = 0;
    while first < m {
        let rest = m - first;
        let left = left.rows(first);
        let values = &mut values[first * row..];
        let start = start.from(first * row);
        if n < V * LANES {
            // A narrower result goes by way of a whole one.
            let rows = rest.min(ROWS);
            let mut whole = [T::zero(); ROWS * PANEL];
            let out = (&mut whole[..], V * LANES);
            rows_of_tile::<T, V>(rows, out, left, right, steps, Start::Zero);
            for (r, sums) in whole.chunks_exact(V * LANES).take(rows).enumerate() {
                let out = &mut values[r * row..][..n];
                match start {
                    Start::Zero => out.copy_from_slice(&sums[..n]),
                    Start::Result => out.iter_mut().zip(sums).for_each(|(out, &sum)| *out += sum),
                    Start::Of(base) => {
                        let sums = base[r * row..][..n].iter().zip(sums);
                        let sums = sums.map(|(&base, &sum)| base + sum);
                        out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum);
                    }
                }
            }
            first += rows;
        } else if rest >= ROWS {
            let count = rest / ROWS;
            tile::<T, ROWS, V>(count, (values, row), left, right, steps, start);
            first += count * ROWS;
        } else {
            rows_of_tile::<T, V>(rest, (values, row), left, right, steps, start);
            first = m;
        }
    }
}

/// At most [`ROWS`] rows.
fn rows_of_tile<T: Element, const V: usize>(
    rows: usize,
    (values, row): (&mut [T], usize),
    left: Left<'_, T>,
    right: Right<'_, T>,
    steps: usize,
    start: Start<'_, T>,
) {
    if rows == ROWS {
        tile::<T, ROWS, V>(1, (values, row), left, right, steps, start);
        return;
    }
    let mut first = 0;
    for height in [4, 2, 1] {
        if rows & height == 0 {
            continue;
        }
        let left = left.rows(first);
        let out = (&mut values[first * row..], row);
        let start = start.from(first * row);
        match height {
            4 => tile::<T, 4, V>(1, out, left, right, steps, start),
            2 => tile::<T, 2, V>(1, out, left, right, steps, start),
            _ => tile::<T, 1, V>(1, out, left, right, steps, start),
        }
        first += height;
    }
}

/// `count` times R rows by V registers.
///
/// Not inlined: the sums stay in registers where the compiler sees nothing else.
#[inline(never)]
fn tile<T: Element, const R: usize, const V: usize>(
    count: usize,
    (out, out_row): (&mut [T], usize),
    left: Left<'_, T>,
    right: Right<'_, T>,
    steps: usize,
    start: Start<'_, T>,
) {
    if steps > 0 {
        let last = place((count * R - 1, left.row), (steps - 1, left.step));
        let fits = last.is_some_and(|last| last < left.values.len());
        assert!(fits, "the left operand of a tile");
        let end = place((steps - 1, right.step), (V, LANES));
        let fits = end.is_some_and(|end| end <= right.values.len());
        assert!(fits, "the right operand of a tile");
    }
    for first in (0..count * R).step_by(R) {
        let mut sums = [[T::Register::zero(); V]; R];
        let rows: [*const T; R] =
            std::array::from_fn(|r| left.values.as_ptr().wrapping_add((first + r) * left.row));
        let mut step = right.values.as_ptr();
        let mut at = 0;
        for _ in 0..steps {
            // SAFETY: step j < s of the right operand holds V registers (checked above), and `step` points to its first.
            let columns: [T::Register; V] =
                std::array::from_fn(|v| unsafe { T::Register::load(&*step.add(v * LANES).cast()) });
            for r in 0..R {
                // SAFETY: element (first + r, j) of the left operand, which holds those of count · R rows and s steps.
                let x = T::Register::splat(unsafe { *rows[r].add(at) });
                for v in 0..V {
                    sums[r][v] = x.fma(columns[v], sums[r][v]);
                }
            }
            at += left.step;
            step = step.wrapping_add(right.step);
        }
        for r in 0..R {
            let at = (first + r) * out_row;
            let registers = out[at..][..V * LANES].as_chunks_mut::<LANES>().0;
            match start {
                Start::Zero => {
                    for v in 0..V {
                        sums[r][v].store(&mut registers[v]);
                    }
                }
                Start::Result => {
                    for v in 0..V {
                        let sum = T::Register::load(&registers[v]).add(sums[r][v]);
                        sum.store(&mut registers[v]);
                    }
                }
                Start::Of(base) => {
                    let base = base[at..][..V * LANES].as_chunks::<LANES>().0;
                    for v in 0..V {
                        let sum = T::Register::load(&base[v]).add(sums[r][v]);
                        sum.store(&mut registers[v]);
                    }
                }
            }
        }
    }
}

/// i · row + j · step, unless that is beyond what a slice holds.
fn place((i, row): (usize, usize), (j, step): (usize, usize)) -> Option<usize> {
    i.checked_mul(row)?.checked_add(j.checked_mul(step)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values<T: Element>(count: usize) -> Vec<T> {
        (0..count)
            .map(|i| T::from_f64((i * 7 % 11) as f64 - 5.0))
            .collect()
    }

    /// Small whole numbers: every order of summation gives the same.
    fn check<T: Element + std::fmt::Debug>(
        m: usize,
        steps: usize,
        n: usize,
        turned: bool,
        start: usize,
    ) {
        let (left_values, right_values) = (values::<T>(m * steps), values::<T>(steps * 40));
        let (row, step) = if turned { (1, m) } else { (steps, 1) };
        let (left, right) = (
            Left {
                values: &left_values,
                row,
                step,
            },
            Right {
                values: &right_values,
                step: 40,
            },
        );
        let mut found = vec![T::one(); m * 50];
        let out = Out {
            values: &mut found,
            row: 50,
        };
        let base = vec![T::from_f64(3.0); m * 50];
        let start = [Start::Zero, Start::Result, Start::Of(&base)][start];
        product(out, left, right, (m, steps, n), start);
        for i in 0..m {
            for j in 0..50 {
                let terms = (0..steps)
                    .map(|s| left_values[i * row + s * step] * right_values[s * 40 + j % 40]);
                let sum = terms.fold(T::zero(), |sum, term| sum + term);
                let expected = match start {
                    _ if j >= n => T::one(),
                    Start::Zero => sum,
                    Start::Result => T::one() + sum,
                    Start::Of(_) => T::from_f64(3.0) + sum,
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
                    for (turned, start) in
                        [(false, 0), (true, 0), (false, 1), (true, 2), (false, 2)]
                    {
                        check::<f32>(m, steps, n, turned, start);
                        check::<f64>(m, steps, n, turned, start);
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
            let left = Left {
                values: &left[first * 50..],
                row: 50,
                step: 1,
            };
            let right = Right {
                values: &right,
                step: 32,
            };
            product(
                Out {
                    values: &mut out,
                    row: n,
                },
                left,
                right,
                (m, 50, n),
                Start::Zero,
            );
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
            Left {
                values: &left,
                row: 2,
                step: 1,
            },
            Right {
                values: &right,
                step: 4,
            },
        );
        product(
            Out {
                values: &mut out,
                row: 4,
            },
            left,
            right,
            (1, 2, 4),
            Start::Zero,
        );
    }
}
