//! Attention's kernels against the processor's version in f64, on the operands as they were rounded on the device.
//! Legend: n tokens, m tokens that ask, H heads, K key/value heads, D head size.

use crate::device::{Buffer, Dtype, Gpu, Real, testing};
use crate::error::Result;
use crate::ops::attention::{self, Scoring, Sizes, Span};
use crate::ops::gradient_check::wave;

use std::sync::Arc;

/// Rows of one token to more than three tiles; the first, the last, some and none of their tokens ask.
fn spans() -> Vec<Span> {
    let rows = [
        (1, 0..1),
        (65, 0..65),
        (70, 0..0),
        (130, 20..130),
        (200, 199..200),
        (33, 5..20),
    ];
    let (mut tokens, mut queries) = (0, 0);
    let spans = rows.map(|(length, asking)| {
        let span = Span {
            keys: tokens..tokens + length,
            queries: queries..queries + asking.len(),
            first: asking.start,
        };
        tokens += length;
        queries += asking.len();
        span
    });
    spans.to_vec()
}

fn upload(gpu: &Arc<Gpu>, count: usize, phase: f64) -> Result<(Buffer<Real>, Vec<f64>)> {
    let values: Vec<f32> = wave(count, phase).iter().map(|&x| x as f32).collect();
    let buffer = Buffer::upload_real(gpu, &values)?;
    let rounded = buffer
        .download_real()?
        .iter()
        .map(|&x| f64::from(x))
        .collect();
    Ok((buffer, rounded))
}

/// The largest difference over the largest value.
fn assert_near(ours: &[f32], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(ours.len(), expected.len());
    let most = expected.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
    for (i, (&ours, expected)) in ours.iter().zip(expected).enumerate() {
        let error = (f64::from(ours) - expected).abs() / most;
        assert!(error <= tolerance, "{what}[{i}]: {ours} for {expected}");
    }
}

fn check(
    gpu: &Arc<Gpu>,
    (heads, kv_heads, size): (usize, usize, usize),
    tolerance: f64,
) -> Result<()> {
    let sizes = Sizes {
        heads,
        kv_heads,
        size,
    };
    let how = (sizes, Scoring::plain(size));
    let spans = spans();
    let (m, n) = spans
        .last()
        .map_or((0, 0), |span| (span.queries.end, span.keys.end));
    let (query, query_values) = upload(gpu, m * sizes.query_width(), 0.5)?;
    let (key_value, key_values) = upload(gpu, n * sizes.key_value_width(), 2.0)?;
    let (grad, grad_values) = upload(gpu, m * sizes.query_width(), 4.0)?;

    let mut integers = Vec::new();
    let layout = super::Layout::new(&spans, size, |values| {
        let start = integers.len().next_multiple_of(2);
        integers.resize(start, 0);
        integers.extend(values);
        start..integers.len()
    });
    let integers = Buffer::upload(gpu, &integers)?;
    let on = layout.on(integers.view());
    let mut out = Buffer::<Real>::new(gpu, query.len())?;
    let mut log_sums = Buffer::<f32>::new(gpu, m * heads)?;
    let operands = (query.view(), key_value.view());
    super::forward(gpu, operands, on, how, out.view_mut(), log_sums.view_mut())?;
    let given = super::Given {
        query: query.view(),
        key_value: key_value.view(),
        out: out.view(),
        log_sums: log_sums.view(),
        grad: grad.view(),
    };
    let mut d_query = Buffer::<Real>::new(gpu, query.len())?;
    let mut d_key_value = Buffer::<Real>::new(gpu, key_value.len())?;
    super::backward(
        gpu,
        given,
        on,
        how,
        d_query.view_mut(),
        d_key_value.view_mut(),
    )?;

    let mut expected_out = vec![0.0; query.len()];
    let mut expected_sums = vec![0.0; m * heads];
    attention::forward(
        &query_values,
        &key_values,
        &spans,
        how,
        &mut expected_out,
        &mut expected_sums,
    );
    let mut expected_d_query = vec![0.0; query.len()];
    let mut expected_d_key_value = vec![0.0; key_value.len()];
    let given = attention::Given {
        query: &query_values,
        key_value: &key_values,
        out: &expected_out,
        log_sums: &expected_sums,
        grad: &grad_values,
    };
    attention::backward(
        &given,
        &spans,
        how,
        &mut expected_d_query,
        &mut expected_d_key_value,
    );
    for (what, ours, expected, tolerance) in [
        ("out", out.download_real()?, &expected_out, tolerance),
        ("log_sums", log_sums.download()?, &expected_sums, 1e-5),
        (
            "d_query",
            d_query.download_real()?,
            &expected_d_query,
            tolerance,
        ),
        (
            "d_key_value",
            d_key_value.download_real()?,
            &expected_d_key_value,
            tolerance,
        ),
    ] {
        assert_near(&ours, expected, tolerance, &format!("D = {size}: {what}"));
    }
    Ok(())
}

/// With tensor cores at either number of rows a step, and without.
#[test]
fn agrees_with_the_processor_in_bf16() -> Result<()> {
    let Some(gpu) = testing::gpu(Dtype::Bf16) else {
        return Ok(());
    };
    [(3, 1, 64), (2, 2, 128), (2, 1, 8)]
        .into_iter()
        .try_for_each(|sizes| check(&gpu, sizes, 2e-2))
}

/// At either number of rows a step, in a tile and at a size that is padded.
#[test]
fn agrees_with_the_processor_in_f32() -> Result<()> {
    let Some(gpu) = testing::gpu(Dtype::F32) else {
        return Ok(());
    };
    [(3, 1, 64), (2, 2, 128), (2, 1, 256), (4, 2, 6)]
        .into_iter()
        .try_for_each(|sizes| check(&gpu, sizes, 1e-4))
}

/// A step of decoding of rows of `LENGTHS` tokens, in slots that lie in another order, against the last tokens of the
/// processor's rows.
fn check_decoding(
    gpu: &Arc<Gpu>,
    (heads, kv_heads, size): (usize, usize, usize),
    (cap, window): (Option<f64>, Option<usize>),
    tolerance: f64,
) -> Result<()> {
    const LENGTHS: [usize; 4] = [1, 40, 150, 17];
    const SLOTS: [usize; 4] = [2, 4, 0, 1];
    const ROOM: usize = 160;
    let sizes = Sizes {
        heads,
        kv_heads,
        size,
    };
    let scoring = Scoring {
        cap,
        window,
        ..Scoring::plain(size)
    };
    let narrow = kv_heads * size;
    let (keys, key_values) = upload(gpu, 5 * ROOM * narrow, 2.0)?;
    let (values, value_values) = upload(gpu, 5 * ROOM * narrow, 3.0)?;
    let (query, query_values) = upload(gpu, LENGTHS.len() * sizes.query_width(), 0.5)?;
    let mut both = Vec::new();
    let mut spans = Vec::new();
    let mut positions = vec![0; 5];
    for (row, (length, slot)) in LENGTHS.into_iter().zip(SLOTS).enumerate() {
        let first = both.len() / (2 * narrow);
        for token in slot * ROOM..slot * ROOM + length {
            let of = token * narrow..(token + 1) * narrow;
            both.extend_from_slice(&key_values[of.clone()]);
            both.extend_from_slice(&value_values[of]);
        }
        spans.push(Span {
            keys: first..first + length,
            queries: row..row + 1,
            first: length - 1,
        });
        positions[slot] = length as i32 - 1;
    }
    let mut expected = vec![0.0; query.len()];
    let mut log_sums = vec![0.0; LENGTHS.len() * heads];
    let how = (sizes, scoring);
    attention::forward(
        &query_values,
        &both,
        &spans,
        how,
        &mut expected,
        &mut log_sums,
    );
    let active = Buffer::upload(gpu, &SLOTS.map(|slot| slot as i32))?;
    let positions = Buffer::upload(gpu, &positions)?;
    let cached = super::Cached {
        keys: keys.view(),
        values: values.view(),
        room: ROOM,
        active: active.view(),
        positions: positions.view(),
    };
    let mut out = Buffer::<Real>::new(gpu, query.len())?;
    super::decode(gpu, query.view(), cached, how, out.view_mut())?;
    let what = format!("D = {size}, {scoring:?}");
    assert_near(&out.download_real()?, &expected, tolerance, &what);
    Ok(())
}

/// More query heads a key/value head than are taken at a time; windows shorter and longer than rows.
#[test]
fn decoding_agrees_with_the_processor() -> Result<()> {
    for (dtype, tolerance) in [(Dtype::F32, 1e-5), (Dtype::Bf16, 2e-2)] {
        let Some(gpu) = testing::gpu(dtype) else {
            return Ok(());
        };
        for sizes in [(3, 1, 64), (12, 2, 8), (2, 2, 6)] {
            for scoring in [
                (None, None),
                (Some(0.5), None),
                (None, Some(33)),
                (Some(0.5), Some(1)),
            ] {
                check_decoding(&gpu, sizes, scoring, tolerance)?;
            }
        }
    }
    Ok(())
}
