//! Tests of attention as a whole. Legend: n tokens, m tokens that ask, H heads, K key/value heads, D head size.

use super::super::element::Element;
use super::super::gradient_check::{Operation, assert_close, assert_gradients, test_device, wave};
use super::*;
use crate::device::Device;
#[cfg(feature = "cuda")]
use {
    super::super::gradient_check::with_gpus,
    crate::device::{Buffer, Gpu, Real},
    std::sync::Arc,
};

struct Attention {
    spans: Vec<Span>,
    sizes: Sizes,
    scoring: Scoring,
}

impl Attention {
    /// Rows of `lengths` tokens of which the last `asking` ask.
    fn new(rows: &[(usize, Range<usize>)], (heads, kv_heads, size): (usize, usize, usize)) -> Self {
        let (mut tokens, mut queries) = (0, 0);
        let spans = rows.iter().map(|(length, asking)| {
            let span = Span {
                keys: tokens..tokens + length,
                queries: queries..queries + asking.len(),
                first: asking.start,
            };
            tokens += length;
            queries += asking.len();
            span
        });
        Self {
            spans: spans.collect(),
            sizes: Sizes {
                heads,
                kv_heads,
                size,
            },
            scoring: Scoring::plain(size),
        }
    }

    /// The same with another scoring.
    fn scored(mut self, cap: Option<f64>, window: Option<usize>) -> Self {
        self.scoring = Scoring {
            scale: 0.7 * self.scoring.scale,
            cap,
            window,
        };
        self
    }

    fn whole(lengths: &[usize], sizes: (usize, usize, usize)) -> Self {
        let rows: Vec<_> = lengths.iter().map(|&length| (length, 0..length)).collect();
        Self::new(&rows, sizes)
    }

    fn queries(&self) -> usize {
        self.spans.last().map_or(0, |span| span.queries.end)
    }

    fn tokens(&self) -> usize {
        self.spans.last().map_or(0, |span| span.keys.end)
    }

    /// Queries (m, H·D), keys and values side by side (n, 2·K·D).
    fn operands(&self) -> [Vec<f64>; 2] {
        [
            wave(self.queries() * self.sizes.query_width(), 0.5),
            wave(self.tokens() * self.sizes.key_value_width(), 2.0),
        ]
    }

    fn run<T: Element>(&self, inputs: &[Vec<T>]) -> [Vec<T>; 2] {
        let [query, key_value] = inputs else {
            panic!("two operands");
        };
        let mut out = vec![T::zero(); query.len()];
        let mut log_sums = vec![T::zero(); self.queries() * self.sizes.heads];
        let (spans, how) = (&self.spans, (self.sizes, self.scoring));
        forward(query, key_value, spans, how, &mut out, &mut log_sums);
        [out, log_sums]
    }

    /// Rows and their tiles on a GPU.
    #[cfg(feature = "cuda")]
    fn layout(&self, gpu: &Arc<Gpu>) -> Result<(Buffer<i32>, cuda::Layout)> {
        let mut all: Vec<i32> = Vec::new();
        let layout = cuda::Layout::new(&self.spans, self.sizes.size, |part| {
            let start = all.len().next_multiple_of(4);
            all.resize(start, 0);
            all.extend(part);
            start..all.len()
        });
        Ok((Buffer::upload(gpu, &all)?, layout))
    }

    #[cfg(feature = "cuda")]
    fn run_on(
        &self,
        gpu: &Arc<Gpu>,
        inputs: &[Buffer<Real>],
        spans: cuda::Spans<'_>,
    ) -> Result<(Buffer<Real>, Buffer<f32>)> {
        let mut out = Buffer::new(gpu, inputs[0].len())?;
        let mut log_sums = Buffer::new(gpu, self.queries() * self.sizes.heads)?;
        let operands = (inputs[0].view(), inputs[1].view());
        let (o, l) = (out.view_mut(), log_sums.view_mut());
        let how = (self.sizes, self.scoring);
        cuda::forward(gpu, operands, spans, how, o, l)?;
        Ok((out, log_sums))
    }
}

impl Operation for Attention {
    fn forward<T: Element>(&self, inputs: &[Vec<T>]) -> Vec<T> {
        let [out, _] = self.run(inputs);
        out
    }

    fn backward<T: Element>(&self, inputs: &[Vec<T>], grad: &[T]) -> Vec<Vec<T>> {
        let [out, log_sums] = self.run(inputs);
        let given = Given {
            query: &inputs[0],
            key_value: &inputs[1],
            out: &out,
            log_sums: &log_sums,
            grad,
        };
        let mut d_query = vec![T::zero(); inputs[0].len()];
        let mut d_key_value = vec![T::zero(); inputs[1].len()];
        backward(
            &given,
            &self.spans,
            (self.sizes, self.scoring),
            &mut d_query,
            &mut d_key_value,
        );
        vec![d_query, d_key_value]
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Tensor> {
        let Sizes {
            heads,
            kv_heads,
            size,
        } = self.sizes;
        let query = inputs[0].reshape((self.queries(), heads, size))?;
        let both = inputs[1].reshape((self.tokens(), 2 * kv_heads, size))?;
        let keys = both.narrow(1, 0, kv_heads)?.contiguous()?;
        let values = both.narrow(1, kv_heads, kv_heads)?.contiguous()?;
        reference(&query, &keys, &values, &self.spans, self.scoring)
    }

    #[cfg(feature = "cuda")]
    fn forward_on(&self, gpu: &Arc<Gpu>, inputs: &[Buffer<Real>]) -> Result<Vec<f32>> {
        let (upload, layout) = self.layout(gpu)?;
        let (out, _) = self.run_on(gpu, inputs, layout.on(upload.view()))?;
        out.download_real()
    }

    #[cfg(feature = "cuda")]
    fn backward_on(
        &self,
        gpu: &Arc<Gpu>,
        inputs: &[Buffer<Real>],
        grad: &[f32],
    ) -> Result<Vec<Vec<f32>>> {
        let (upload, layout) = self.layout(gpu)?;
        let spans = layout.on(upload.view());
        let (out, log_sums) = self.run_on(gpu, inputs, spans)?;
        let grad = Buffer::upload_real(gpu, grad)?;
        let given = cuda::Given {
            query: inputs[0].view(),
            key_value: inputs[1].view(),
            out: out.view(),
            log_sums: log_sums.view(),
            grad: grad.view(),
        };
        let mut d_query = Buffer::<Real>::new(gpu, inputs[0].len())?;
        let mut d_key_value = Buffer::<Real>::new(gpu, inputs[1].len())?;
        let (d_q, d_kv) = (d_query.view_mut(), d_key_value.view_mut());
        let how = (self.sizes, self.scoring);
        cuda::backward(gpu, given, spans, how, d_q, d_kv)?;
        Ok(vec![d_query.download_real()?, d_key_value.download_real()?])
    }
}

/// PyTorch in f64 on waves of phases 0.5, 2 and 3 for q, k and v:
/// `scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)`, the last of three tokens, two heads of size 4
/// that share one key/value head.
#[test]
fn agrees_with_torch() {
    let attention = Attention::whole(&[3], (2, 1, 4));
    let (keys, values) = (wave(12, 2.0), wave(12, 3.0));
    let tokens = keys.chunks(4).zip(values.chunks(4));
    let key_value = tokens.flat_map(|(k, v)| [k, v].concat()).collect();
    let out = attention.forward(&[wave(24, 0.5), key_value]);
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
    assert_close(&out[16..], &expected, 1e-12);
    // The first token attends to itself alone.
    assert_close(&out[..8], &[&values[..4], &values[..4]].concat(), 1e-12);
}

#[test]
fn gradients() -> Result<()> {
    for attention in [
        // Grouped heads; an empty row.
        Attention::whole(&[1, 0, 4, 1], (4, 2, 3)),
        // One row longer than a block of queries, as many key/value heads as heads.
        Attention::whole(&[19], (2, 2, 2)),
        // The first, the last and none of a row's tokens ask; a block that begins between tiles.
        Attention::new(&[(4, 0..1), (5, 3..5), (3, 0..0), (22, 3..21)], (2, 1, 2)),
        Attention::whole(&[1, 33, 32, 1, 16], (4, 2, 32)),
        Attention::whole(&[130], (3, 1, 20)),
        Attention::whole(&[16, 1], (2, 2, 64)),
        Attention::new(&[(70, 25..61), (130, 129..130)], (4, 2, 24)),
    ] {
        assert_gradients(&Device::Cpu, &attention, &attention.operands())?;
    }
    Ok(())
}

/// `eager_attention_forward(module, q, k, v, mask, scaling=0.3, softcap=2.0)` of transformers 5.17's `modeling_gemma2` on the
/// waves above, q times 4, four tokens that see two each by a mask of −∞, and the same without softcap. Its softmax is in f32.
#[test]
fn scoring_agrees_with_transformers() {
    let mut attention = Attention::whole(&[4], (2, 1, 4));
    let (keys, values) = (wave(16, 2.0), wave(16, 3.0));
    let tokens = keys.chunks(4).zip(values.chunks(4));
    let key_value: Vec<f64> = tokens.flat_map(|(k, v)| [k, v].concat()).collect();
    let query: Vec<f64> = wave(32, 0.5).iter().map(|x| 4.0 * x).collect();
    let capped = [
        -0.889_139_880_004,
        -0.262_249_856_727,
        0.956_718_780_342,
        0.015_713_961_854,
        -0.913_290_475_757,
        -0.205_559_895_902,
        0.966_260_997_427,
        -0.043_434_923_239,
    ];
    let open = [
        -0.897_646_924_413,
        -0.242_280_915_645,
        0.960_080_048_521,
        -0.005_121_141_024,
        -0.926_325_433_838,
        -0.174_962_109_129,
        0.971_411_242_781,
        -0.075_359_871_529,
    ];
    for (cap, expected) in [(Some(2.0), capped), (None, open)] {
        attention.scoring = Scoring {
            scale: 0.3,
            cap,
            window: Some(2),
        };
        let out = attention.forward(&[query.clone(), key_value.clone()]);
        assert_close(&out[24..], &expected, 1e-6);
    }
}

/// Windows shorter and longer than a block of queries, than a register and than the row; of one token; caps near the scores.
#[test]
fn gradients_of_scorings() -> Result<()> {
    let many = || Attention::new(&[(70, 25..61), (130, 129..130), (90, 0..90)], (4, 2, 24));
    for attention in [
        Attention::whole(&[1, 0, 4, 1], (4, 2, 3)).scored(Some(0.8), None),
        Attention::whole(&[19], (2, 2, 2)).scored(None, Some(3)),
        Attention::whole(&[7, 5], (2, 1, 2)).scored(Some(0.5), Some(1)),
        Attention::new(&[(22, 3..21), (5, 3..5)], (2, 1, 2)).scored(Some(0.5), Some(9)),
        many().scored(None, Some(1)),
        many().scored(None, Some(16)),
        many().scored(Some(0.5), Some(37)),
        many().scored(None, Some(64)),
        many().scored(Some(0.5), Some(1000)),
    ] {
        assert_gradients(&Device::Cpu, &attention, &attention.operands())?;
    }
    Ok(())
}

/// Tokens before the window take no part, whatever they hold, and a window as long as the row changes no bit.
#[test]
fn tokens_before_the_window_are_not_looked_at() {
    let single = |values: Vec<f64>| values.iter().map(|&x| x as f32).collect::<Vec<_>>();
    let attention = Attention::new(&[(150, 120..150)], (4, 2, 32)).scored(None, Some(20));
    let [query, key_value] = attention.operands().map(single);
    let inputs = [query, key_value];
    let plain = attention.run(&inputs);
    let grad = single(wave(inputs[0].len(), 0.3));
    let gradients = attention.backward(&inputs, &grad);
    // Positions up to 100 are in no window; whole registers are read from 96 on.
    let mut changed = inputs.clone();
    let unseen = 96 * attention.sizes.key_value_width();
    changed[1][..unseen].fill(f32::NAN);
    assert_eq!(plain, attention.run(&changed));
    assert_eq!(gradients, attention.backward(&changed, &grad));
    assert!(gradients[1][..unseen].iter().all(|&d| d == 0.0));
    let [open, long] = [None, Some(150)].map(|window| {
        let same = Attention::new(&[(150, 120..150)], (4, 2, 32)).scored(None, window);
        (same.run(&inputs), same.backward(&inputs, &grad))
    });
    assert!(open == long, "bits differ");
    assert!(open.0 != plain);
}

/// Rows around the sizes of tiles; the first, the last, some and none of a row's tokens ask; grouped heads.
fn gradients_of_tiles(device: &Device) -> Result<()> {
    let some = [
        (70, 25..61),
        (130, 129..130),
        (65, 0..1),
        (3, 0..0),
        (17, 3..17),
    ];
    for attention in [
        Attention::whole(&[1, 0, 2, 17], (4, 2, 6)),
        Attention::whole(&[1, 2, 17, 64, 65, 130], (4, 2, 8)),
        Attention::new(&some, (4, 1, 8)),
        Attention::whole(&[1, 2, 17, 64, 65, 130], (2, 1, 64)),
        Attention::new(&some, (3, 3, 64)),
        Attention::whole(&[2, 65], (2, 1, 128)),
        Attention::whole(&[1, 2, 17, 64, 65, 130], (4, 2, 8)).scored(Some(0.5), Some(33)),
        Attention::new(&some, (4, 1, 8)).scored(None, Some(1)),
        Attention::new(&some, (4, 1, 8)).scored(Some(0.5), None),
        Attention::whole(&[1, 2, 17, 64, 65, 200], (2, 1, 64)).scored(None, Some(20)),
        Attention::whole(&[200], (2, 1, 64)).scored(Some(1.0), Some(100)),
        Attention::new(&some, (3, 3, 64)).scored(Some(1.0), Some(7)),
        Attention::new(&some, (3, 3, 64)).scored(None, Some(64)),
        Attention::whole(&[2, 130], (2, 1, 128)).scored(Some(1.0), Some(40)),
        Attention::whole(&[2, 65], (2, 1, 256)).scored(Some(1.0), Some(40)),
    ] {
        assert_gradients(device, &attention, &attention.operands())?;
    }
    Ok(())
}

test_device!(
    gradients_of_tiles,
    gradients_of_tiles_on_cpu,
    gradients_of_tiles_on_cuda
);

/// No rows, and rows of which no token asks: their keys and values have gradients of zero.
#[cfg(feature = "cuda")]
#[test]
fn a_gpu_takes_rows_that_do_not_ask() -> Result<()> {
    with_gpus(|gpu| {
        for rows in [vec![], vec![(5, 0..0)]] {
            let attention = Attention::new(&rows, (2, 1, 8));
            assert_gradients(
                &Device::Cuda(gpu.clone()),
                &attention,
                &attention.operands(),
            )?;
        }
        Ok(())
    })
}

/// A row alone, the beginning of a row, and some of a row's tokens alone give the bits that they give in the whole batch.
#[test]
fn a_token_depends_on_the_tokens_before_it_in_its_row_alone() {
    let sizes = (4, 2, 32);
    let single = |values: Vec<f64>| values.iter().map(|&x| x as f32).collect::<Vec<_>>();
    let batch = Attention::whole(&[7, 33, 20], sizes);
    let [query, key_value] = batch.operands().map(single);
    let whole = batch.forward(&[query.clone(), key_value.clone()]);
    let wide = batch.sizes.query_width();
    for (start, length, asking) in [
        (7, 33, 0..33),
        (7, 20, 0..20),
        (40, 1, 0..1),
        (7, 33, 11..30),
        (0, 7, 6..7),
    ] {
        let asked = (start + asking.start) * wide..(start + asking.end) * wide;
        let part = Attention::new(&[(length, asking)], sizes);
        let narrow = part.sizes.key_value_width();
        let key_value = key_value[start * narrow..(start + length) * narrow].to_vec();
        let alone = part.forward(&[query[asked.clone()].to_vec(), key_value]);
        assert_eq!(alone, whole[asked]);
    }
}

/// Scores of ±1000 overflow e^s unless they are counted from the highest.
#[test]
fn extreme_scores_stay_finite() {
    let attention = Attention::whole(&[2], (1, 1, 1));
    let inputs = [vec![1000f32, 1000.0], vec![-1.0, 3.0, 1.0, 5.0]];
    assert_eq!(attention.forward(&inputs), [3.0, 5.0]);
}
