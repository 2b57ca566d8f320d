//! Products on a GPU against plain sums in f64.

use std::sync::Arc;

use super::*;
use crate::device::Buffer;
use crate::ops::gradient_check::{assert_near, doubles, rounded, wave, with_gpus};

/// How a test's result is read back.
trait Back: Written + Sized {
    fn start(gpu: &Arc<Gpu>, values: &[f32]) -> Result<Buffer<Self>>;
    fn back(buffer: &Buffer<Self>) -> Result<Vec<f32>>;
}

impl Back for f32 {
    fn start(gpu: &Arc<Gpu>, values: &[f32]) -> Result<Buffer<Self>> {
        Buffer::upload(gpu, values)
    }

    fn back(buffer: &Buffer<Self>) -> Result<Vec<f32>> {
        buffer.download()
    }
}

impl Back for Real {
    fn start(gpu: &Arc<Gpu>, values: &[f32]) -> Result<Buffer<Self>> {
        Buffer::upload_real(gpu, values)
    }

    fn back(buffer: &Buffer<Self>) -> Result<Vec<f32>> {
        buffer.download_real()
    }
}

/// out (m, n) + scale · a (m, k) · b (k, n), in f64.
fn plain(start: &[f64], (a, b): (&[f64], &[f64]), k: usize, n: usize, scale: f64) -> Vec<f64> {
    let mut out = start.to_vec();
    for (i, row) in out.chunks_mut(n.max(1)).enumerate() {
        for (j, out) in row.iter_mut().enumerate() {
            *out += scale * (0..k).map(|l| a[i * k + l] * b[l * n + j]).sum::<f64>();
        }
    }
    out
}

fn transposed(values: &[f64], columns: usize) -> Vec<f64> {
    let rows = values.len() / columns.max(1);
    (0..columns)
        .flat_map(|j| (0..rows).map(move |i| values[i * columns + j]))
        .collect()
}

/// Both layouts of both operands, replaced and added to, of one kind of result.
fn products<T: Back>(gpu: &Arc<Gpu>, (m, k, n): (usize, usize, usize)) -> Result<()> {
    let [a, b, start] = [(m * k, 0.1), (k * n, 1.0), (m * n, 2.0)]
        .map(|(count, phase)| doubles(&rounded(gpu, &wave(count, phase))));
    let single = |values: &[f64]| values.iter().map(|&x| x as f32).collect::<Vec<_>>();
    let [a_on, a_t_on, b_on, b_t_on] = [&a, &transposed(&a, k), &b, &transposed(&b, n)]
        .map(|values| Buffer::upload_real(gpu, &single(values)));
    let (a_on, a_t_on, b_on, b_t_on) = (a_on?, a_t_on?, b_on?, b_t_on?);
    for a_turned in [false, true] {
        for b_turned in [false, true] {
            for (scale, add) in [(1.0f32, false), (0.5, true)] {
                let left = if a_turned {
                    Matrix::new(a_t_on.view(), k, m).t()
                } else {
                    Matrix::new(a_on.view(), m, k)
                };
                let right = if b_turned {
                    Matrix::new(b_t_on.view(), n, k).t()
                } else {
                    Matrix::new(b_on.view(), k, n)
                };
                let mut out = T::start(gpu, &single(&start))?;
                let into = MatrixMut::new(out.view_mut(), m, n);
                gpu.multiply(into, left, right, scale, add)?;
                let zeros = vec![0.0; m * n];
                let before = if add { &start } else { &zeros };
                let expected = plain(before, (&a, &b), k, n, scale.into());
                let what = format!("{m} × {k} × {n}, {a_turned} {b_turned} {add}");
                assert_near(&what, gpu.dtype(), &T::back(&out)?, &expected);
            }
        }
    }
    Ok(())
}

#[test]
fn products_of_both_layouts_and_sums_are_plain_sums() -> Result<()> {
    with_gpus(|gpu| {
        for sizes in [
            (1, 1, 1),
            (3, 5, 4),
            (70, 33, 90),
            (2, 577, 64),
            (257, 12, 11),
            (4, 0, 3),
            (0, 4, 3),
            (4, 3, 0),
        ] {
            products::<Real>(gpu, sizes)?;
            products::<f32>(gpu, sizes)?;
        }
        Ok(())
    })
}

/// Columns 1 and 2 of (3, 4) times (2, 3), into columns 2 to 4 of (3, 6); and an empty sum into the same place.
#[test]
fn parts_of_columns_are_read_and_written_in_place() -> Result<()> {
    with_gpus(|gpu| {
        let [a, b] = [(12, 0.1), (6, 1.0)].map(|(count, phase)| rounded(gpu, &wave(count, phase)));
        let [left, right] = [&a, &b].map(|values| Buffer::upload_real(gpu, values));
        let (left, right) = (left?, right?);
        let mut out = Buffer::upload(gpu, &[9.0; 18])?;
        let into = MatrixMut::new(out.view_mut(), 3, 6).part(2, 3);
        let columns = Matrix::new(left.view(), 3, 4).part(1, 2);
        gpu.multiply(into, columns, Matrix::new(right.view(), 2, 3), 1.0, false)?;
        let columns: Vec<f64> = doubles(&a)
            .chunks(4)
            .flat_map(|row| [row[1], row[2]])
            .collect();
        let inner = plain(&[0.0; 9], (&columns, &doubles(&b)), 2, 3, 1.0);
        let rows = inner.chunks(3);
        let expected: Vec<f64> = rows
            .flat_map(|row| [&[9.0, 9.0], row, &[9.0]].concat())
            .collect();
        assert_near("parts", gpu.dtype(), &out.download()?, &expected);

        let none = Buffer::<Real>::new(gpu, 0)?;
        let (a, b) = (
            Matrix::new(none.view(), 3, 0),
            Matrix::new(none.view(), 0, 3),
        );
        let into = MatrixMut::new(out.view_mut(), 3, 6).part(2, 3);
        gpu.multiply(into, a, b, 1.0, false)?;
        let expected = [9.0, 9.0, 0.0, 0.0, 0.0, 9.0].repeat(3);
        assert_eq!(out.download()?, expected);
        Ok(())
    })
}
