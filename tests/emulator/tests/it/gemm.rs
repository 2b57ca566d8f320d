//! Matrix products against the naive sum in f64.

use std::{
    ffi::{c_int, c_void},
    ptr,
};

use crate::support::{Gpu, call, gpu};

const F32: c_int = 0;
const BF16: c_int = 14;
const COMPUTE_F32: c_int = 68;

fn handle(gpu: &Gpu) -> *mut c_void {
    let mut handle = ptr::null_mut();
    assert_eq!(
        call!(gpu.cublas, cublasCreate_v2(&raw mut handle => *mut *mut c_void)),
        0
    );
    assert_eq!(
        call!(gpu.cublas, cublasSetStream_v2(handle => *mut c_void, gpu.stream => *mut c_void)),
        0
    );
    handle
}

/// Small multiples of 1/8, exact in bf16.
fn values(count: usize, seed: usize) -> Vec<f32> {
    (0..count)
        .map(|i| ((i * 37 + seed * 11) % 61) as f32 / 8.0 - 3.75)
        .collect()
}

fn to_bf16(values: &[f32]) -> Vec<u16> {
    values
        .iter()
        .map(|value| (value.to_bits() >> 16) as u16)
        .collect()
}

/// m, n, k; whether A and B are transposed.
#[derive(Clone, Copy, Debug)]
struct Case(usize, usize, usize, bool, bool);

/// op(A) · op(B), column-major, in f64; leading dimensions are the rows plus `pad`.
fn naive(Case(m, n, k, ta, tb): Case, pad: usize, a: &[f32], b: &[f32]) -> Vec<f64> {
    let (lda, ldb) = (if ta { k } else { m } + pad, if tb { n } else { k } + pad);
    let mut c = vec![0.0; m * n];
    for j in 0..n {
        for i in 0..m {
            c[j * m + i] = (0..k)
                .map(|l| {
                    let x = if ta { a[i * lda + l] } else { a[l * lda + i] };
                    let y = if tb { b[l * ldb + j] } else { b[j * ldb + l] };
                    f64::from(x) * f64::from(y)
                })
                .sum();
        }
    }
    c
}

struct Product {
    types: (c_int, c_int),
    alpha: f32,
    beta: f32,
    pad: usize,
}

fn multiply(
    gpu: &Gpu,
    handle: *mut c_void,
    Case(m, n, k, ta, tb): Case,
    (a, b, c): (u64, u64, u64),
    product: &Product,
) -> c_int {
    let (lda, ldb) = (
        if ta { k } else { m } + product.pad,
        if tb { n } else { k } + product.pad,
    );
    let (input, output) = product.types;
    call!(gpu.cublas, cublasGemmEx(
        handle => *mut c_void, c_int::from(ta) => c_int, c_int::from(tb) => c_int, m as c_int => c_int, n as c_int => c_int,
        k as c_int => c_int, &raw const product.alpha => *const f32, a => u64, input => c_int, lda as c_int => c_int, b => u64,
        input => c_int, ldb as c_int => c_int, &raw const product.beta => *const f32, c => u64, output => c_int, m as c_int => c_int,
        COMPUTE_F32 => c_int, -1 => c_int))
}

#[test]
fn products_in_f32_and_bf16() {
    let Some(gpu) = gpu() else { return };
    let handle = handle(&gpu);
    for (m, n, k) in [
        (1, 1, 1),
        (5, 7, 3),
        (64, 64, 256),
        (70, 133, 300),
        (130, 65, 17),
    ] {
        for (ta, tb) in [(false, false), (true, false), (false, true), (true, true)] {
            let case = Case(m, n, k, ta, tb);
            let pad = 3;
            let a = values((m.max(k) + pad) * m.max(k), 1);
            let b = values((n.max(k) + pad) * n.max(k), 2);
            let expected = naive(case, pad, &a, &b);
            let addresses = [
                gpu.upload(&a),
                gpu.upload(&b),
                gpu.upload(&to_bf16(&a)),
                gpu.upload(&to_bf16(&b)),
            ];
            // C is NaN at first: with beta = 0 it must not be read. The sums are exact in f32.
            let c = gpu.allocate(m * n * 4);
            let product = Product {
                types: (F32, F32),
                alpha: 1.0,
                beta: 0.0,
                pad,
            };
            assert_eq!(
                multiply(
                    &gpu,
                    handle,
                    case,
                    (addresses[0], addresses[1], c),
                    &product
                ),
                0
            );
            let found = gpu.read::<f32>(c, m * n);
            assert!(
                found
                    .iter()
                    .zip(&expected)
                    .all(|(&x, &y)| f64::from(x) == y),
                "{case:?}"
            );
            // On top of that, half of the product of the same values in bf16.
            let product = Product {
                types: (BF16, F32),
                alpha: 0.5,
                beta: 2.0,
                pad,
            };
            assert_eq!(
                multiply(
                    &gpu,
                    handle,
                    case,
                    (addresses[2], addresses[3], c),
                    &product
                ),
                0
            );
            let found = gpu.read::<f32>(c, m * n);
            assert!(
                found
                    .iter()
                    .zip(&expected)
                    .all(|(&x, &y)| f64::from(x) == 2.5 * y),
                "{case:?}"
            );
            // Rounded once, to nearest even, on the way to bf16.
            let product = Product {
                types: (BF16, BF16),
                alpha: 1.0,
                beta: 0.0,
                pad,
            };
            assert_eq!(
                multiply(
                    &gpu,
                    handle,
                    case,
                    (addresses[2], addresses[3], c),
                    &product
                ),
                0
            );
            let found = gpu.read::<u16>(c, m * n);
            for (&x, &y) in found.iter().zip(&expected) {
                let bits = (y as f32).to_bits();
                assert_eq!(
                    u32::from(x),
                    (bits + 0x7fff + (bits >> 16 & 1)) >> 16,
                    "{case:?}: {y}"
                );
            }
            for address in addresses.into_iter().chain([c]) {
                gpu.free(address);
            }
        }
    }
}

#[test]
fn tf32_rounds_the_inputs_to_ten_bits() {
    let Some(gpu) = gpu() else { return };
    let handle = handle(&gpu);
    let case = Case(1, 1, 2, false, false);
    let half_a_step = 1.0 + 2.0_f32.powi(-11); // a tie: to the even 1
    let above = 1.0 + 2.0_f32.powi(-11) + 2.0_f32.powi(-20);
    let (a, b, c) = (
        gpu.upload(&[half_a_step, above]),
        gpu.upload(&[1.0_f32, 1.0]),
        gpu.allocate(4),
    );
    let product = Product {
        types: (F32, F32),
        alpha: 1.0,
        beta: 0.0,
        pad: 0,
    };
    assert_eq!(multiply(&gpu, handle, case, (a, b, c), &product), 0);
    assert_eq!(gpu.read::<f32>(c, 1), [half_a_step + above]);
    assert_eq!(
        call!(gpu.cublas, cublasSetMathMode(handle => *mut c_void, 3 => c_int)),
        0
    );
    assert_eq!(multiply(&gpu, handle, case, (a, b, c), &product), 0);
    assert_eq!(gpu.read::<f32>(c, 1), [2.0 + 2.0_f32.powi(-10)]);
}

#[test]
fn a_batch_of_products_is_captured_and_replayed() {
    let Some(gpu) = gpu() else { return };
    let handle = handle(&gpu);
    let (m, n, k, batch) = (6_usize, 5_usize, 4_usize, 3_usize);
    let (a, b) = (values(m * k * batch, 3), values(k * n * batch, 4));
    let (device_a, device_b, c) = (
        gpu.upload(&a),
        gpu.upload(&b),
        gpu.allocate(m * n * batch * 4),
    );
    let (one, zero) = (1.0_f32, 0.0_f32);
    gpu.begin_capture();
    let status = call!(gpu.cublas, cublasGemmStridedBatchedEx(
        handle => *mut c_void, 0 => c_int, 0 => c_int, m as c_int => c_int, n as c_int => c_int, k as c_int => c_int,
        &raw const one => *const f32, device_a => u64, F32 => c_int, m as c_int => c_int, (m * k) as i64 => i64,
        device_b => u64, F32 => c_int, k as c_int => c_int, (k * n) as i64 => i64, &raw const zero => *const f32,
        c => u64, F32 => c_int, m as c_int => c_int, (m * n) as i64 => i64, batch as c_int => c_int,
        COMPUTE_F32 => c_int, -1 => c_int));
    assert_eq!(status, 0);
    let graph = gpu.end_capture().unwrap();
    for factor in [1.0_f32, 2.0] {
        let scaled = a.iter().map(|value| factor * value).collect::<Vec<_>>();
        assert_eq!(gpu.write(device_a, &scaled), 0);
        gpu.replay(graph);
        let found = gpu.read::<f32>(c, m * n * batch);
        for i in 0..batch {
            let expected = naive(
                Case(m, n, k, false, false),
                0,
                &scaled[i * m * k..],
                &b[i * k * n..],
            );
            assert!(
                found[i * m * n..][..m * n]
                    .iter()
                    .zip(&expected)
                    .all(|(&x, &y)| f64::from(x) == y),
                "{factor} {i}"
            );
        }
    }
}

#[test]
fn matrices_outside_of_their_allocations_are_refused() {
    let Some(gpu) = gpu() else { return };
    let handle = handle(&gpu);
    let case = Case(8, 8, 8, false, false);
    let (a, short, c) = (
        gpu.upload(&values(64, 1)),
        gpu.upload(&values(60, 1)),
        gpu.allocate(256),
    );
    let product = Product {
        types: (F32, F32),
        alpha: 1.0,
        beta: 0.0,
        pad: 0,
    };
    assert_eq!(multiply(&gpu, handle, case, (a, short, c), &product), 7);
    assert_eq!(
        multiply(
            &gpu,
            handle,
            case,
            (a, values(64, 1).as_ptr() as u64, c),
            &product
        ),
        7
    );
    assert_eq!(multiply(&gpu, handle, case, (a, a, c), &product), 0);
    let leading_too_small = call!(gpu.cublas, cublasSgemm_v2(
        handle => *mut c_void, 0 => c_int, 0 => c_int, 8 => c_int, 8 => c_int, 8 => c_int, &raw const product.alpha => *const f32,
        a => u64, 7 => c_int, a => u64, 8 => c_int, &raw const product.beta => *const f32, c => u64, 8 => c_int));
    assert_eq!(leading_too_small, 7);
}
