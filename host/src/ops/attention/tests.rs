//! Tests of attention as a whole. Legend: N tokens, H heads, K key/value heads, D head size.

use candle_core::{DType, Device};

use super::super::gradient_check::{assert_agrees, assert_close, assert_gradients, elements, wave};
use super::*;

/// q, k, v of a batch, one phase each.
fn operands(tokens: usize, heads: usize, kv_heads: usize, size: usize) -> [Tensor; 3] {
    [
        wave(&[tokens, heads, size], 0.5),
        wave(&[tokens, kv_heads, size], 2.0),
        wave(&[tokens, kv_heads, size], 3.0),
    ]
}

/// PyTorch in f64 on the same waves: `scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)`, the last of
/// three tokens, two heads of size 4 that share one key/value head.
#[test]
fn agrees_with_torch() -> Result<()> {
    let [q, k, v] = operands(3, 2, 1, 4);
    let out = attention(&q, &k, &v, &[0, 3])?;
    let expected = [
        -0.331_024_795_018_239_9,
        -0.805_563_699_070_579,
        0.538_609_689_877_401_2,
        0.666_769_912_840_732_2,
        -0.396_038_288_259_264_8,
        -0.770_240_444_123_892_9,
        0.594_520_769_277_470_6,
        0.617_038_988_392_408_1,
    ];
    assert_close(&out.get(2)?, &expected, 1e-12);
    // The first token attends to itself alone.
    let first = elements(&v.get(0)?);
    assert_close(&out.get(0)?, &[first.clone(), first].concat(), 1e-12);
    Ok(())
}

#[test]
fn gradients() -> Result<()> {
    // Grouped heads; rows of 1, 0, 4 and 1 tokens.
    let offsets = [0, 1, 1, 5, 6];
    let fused = |t: &[Tensor]| attention(&t[0], &t[1], &t[2], &offsets);
    assert_gradients(fused, &operands(6, 4, 2, 3))?;
    // One row longer than a block of queries, as many key/value heads as heads.
    let fused = |t: &[Tensor]| attention(&t[0], &t[1], &t[2], &[0, 19]);
    assert_gradients(fused, &operands(19, 2, 2, 2))
}

#[test]
fn agrees_with_the_reference() -> Result<()> {
    let shapes: [(&[u64], usize, usize, usize); 3] = [
        (&[0, 1, 34, 66, 67, 83], 4, 2, 32),
        (&[0, 130], 3, 1, 20),
        (&[0, 16, 17], 2, 2, 64),
    ];
    for (offsets, heads, kv_heads, size) in shapes {
        let tokens = offsets[offsets.len() - 1] as usize;
        assert_agrees(
            |t| attention(&t[0], &t[1], &t[2], offsets),
            |t| reference(&t[0], &t[1], &t[2], offsets),
            &operands(tokens, heads, kv_heads, size),
        )?;
    }
    Ok(())
}

/// A row alone, and the beginning of a row, give the bits they give inside a batch.
#[test]
fn a_row_does_not_depend_on_its_batch_nor_a_token_on_the_next() -> Result<()> {
    let whole = operands(60, 4, 2, 32).map(|t| t.to_dtype(DType::F32));
    let [q, k, v] = whole;
    let (q, k, v) = (q?, k?, v?);
    let batch = attention(&q, &k, &v, &[0, 7, 40, 60])?;
    for (start, len) in [(7, 33), (7, 20), (40, 1), (0, 7)] {
        let part = |t: &Tensor| t.narrow(0, start, len);
        let offsets = [0, len as u64];
        let alone = attention(&part(&q)?, &part(&k)?, &part(&v)?, &offsets)?;
        assert_eq!(elements(&alone), elements(&part(&batch)?));
    }
    Ok(())
}

/// A view that is not contiguous, as a projection cut in three would be.
#[test]
fn operands_may_be_views() -> Result<()> {
    let wide = wave(&[5, 3, 8], 0.7);
    let part = |at| wide.narrow(1, at, 1);
    let (q, k, v) = (part(0)?, part(1)?, part(2)?);
    let expected = reference(&q, &k, &v, &[0, 2, 5])?;
    let found = attention(&q, &k, &v, &[0, 2, 5])?;
    assert_close(&found, &elements(&expected), 1e-12);
    Ok(())
}

/// Scores of ±1000 overflow e^s unless they are counted from the highest.
#[test]
fn extreme_scores_stay_finite() -> Result<()> {
    let q = Tensor::new(&[[[1000f32]], [[1000.0]]], &Device::Cpu)?;
    let k = Tensor::new(&[[[-1f32]], [[1.0]]], &Device::Cpu)?;
    let v = Tensor::new(&[[[3f32]], [[5.0]]], &Device::Cpu)?;
    assert_eq!(elements(&attention(&q, &k, &v, &[0, 2])?), [3.0, 5.0]);
    Ok(())
}

#[test]
fn no_tokens_give_no_results() -> Result<()> {
    let empty = Tensor::zeros((0, 2, 4), DType::F32, &Device::Cpu)?;
    for offsets in [&[0][..], &[0, 0, 0]] {
        let out = attention(&empty, &empty, &empty, offsets)?;
        assert_eq!(out.dims(), [0, 2, 4]);
    }
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused() {
    let [q, k, v] = operands(4, 3, 2, 8);
    let error = attention(&q, &k, &v, &[0, 4]).unwrap_err();
    let expected = "attention: q has shape [4, 3, 8], which does not fit k of shape [4, 2, 8]";
    assert_eq!(error.to_string(), expected);
    let [q, k, v] = operands(4, 2, 2, 8);
    for offsets in [&[0, 3][..], &[1, 4], &[0, 3, 2, 4], &[]] {
        let error = attention(&q, &k, &v, offsets).unwrap_err().to_string();
        assert!(error.contains("must rise from 0"), "{error}");
    }
}
