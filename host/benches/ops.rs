//! Every operation at the shapes of `finegrain bench` that a processor trains: `cargo bench -p finegrain`, or a part of it by name:
//! `cargo bench -p finegrain -- attention/medium`.
//!
//! `forward` and `both` (forward and backward) take one thread, but for products and the output head; `plain` is the same
//! forward and backward by the reference of tensor operations and candle's own graph. Throughput counts tokens.

use std::hint::black_box;
use std::time::Duration;

use candle_core::{Device, Tensor, Var};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use finegrain::Result;
use finegrain::bench::shape::{LLAMA_7B, NAMED};
use finegrain::bench::{Batch, Shape, Workload};
use finegrain::ops::Start;
use finegrain::ops::attention::{self, Given, Scoring, Sizes, Span};
use finegrain::ops::gated::{self, Activation};
use finegrain::ops::log_prob::{self, Form, Head};
use finegrain::ops::product::{Matrix, MatrixMut, Product, multiply};
use finegrain::ops::rms_norm::Norm;
use finegrain::ops::rope::{Direction, Frequencies};
use finegrain::ops::{embedding, rms_norm, rope};

/// As in the command itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What is measured: one operation at one shape.
struct Subject<'a> {
    criterion: &'a mut Criterion,
    shape: &'a str,
    tokens: usize,
}

impl Subject<'_> {
    /// An operation, its backward pass after its forward pass, and its reference on operands of these shapes.
    fn measure(
        &mut self,
        name: &str,
        operands: &[&[usize]],
        mut forward: impl FnMut(&[Vec<f32>]),
        mut both: impl FnMut(&[Vec<f32>]),
        plain: impl Fn(&[Tensor]) -> Result<Tensor>,
    ) {
        let vars: Vec<Var> = operands
            .iter()
            .map(|&dims| Var::randn(0f32, 1.0, dims, &Device::Cpu).expect("memory"))
            .collect();
        let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
        let flat = |tensor: &Tensor| tensor.flatten_all()?.to_vec1();
        let values: candle_core::Result<Vec<Vec<f32>>> = tensors.iter().map(flat).collect();
        let values = values.expect("operands of f32 on the CPU");
        let mut group = self
            .criterion
            .benchmark_group(format!("{name}/{}", self.shape));
        group.throughput(Throughput::Elements(self.tokens as u64));
        group.bench_function("forward", |bencher| {
            bencher.iter(|| forward(black_box(&values)));
        });
        group.bench_function("both", |bencher| {
            bencher.iter(|| both(black_box(&values)));
        });
        let pass = || plain(&tensors)?.sum_all()?.backward().map_err(Into::into);
        group.bench_function("plain", |bencher| {
            bencher.iter(|| black_box::<Result<_>>(pass()).expect("operands that fit"));
        });
        group.finish();
    }
}

fn operations(criterion: &mut Criterion) {
    let trained = NAMED.into_iter().filter(|(_, sizes)| *sizes != LLAMA_7B);
    for (shape, sizes) in trained {
        let batch = sizes
            .batch(Workload::Train)
            .expect("a named shape has a batch");
        let mut subject = Subject {
            criterion,
            shape,
            tokens: batch.tokens(),
        };
        element_wise(&mut subject, &sizes, batch);
        mixing(&mut subject, &sizes, batch);
        linear(&mut subject, &sizes, batch);
    }
}

fn element_wise(subject: &mut Subject<'_>, sizes: &Shape, batch: Batch) {
    let norm = Norm::plain(1e-5);
    let (n, c, f) = (batch.tokens(), sizes.channels, sizes.feed_forward);
    let (h, d) = (sizes.heads, sizes.head_size());
    let mut out = vec![0.0; n * c];
    let (mut again, mut dx, mut dw) = (out.clone(), out.clone(), vec![0.0; c]);
    subject.measure(
        "rms_norm",
        &[&[n, c], &[c]],
        |v| rms_norm::forward(&v[0], &v[1], norm, &mut out),
        |v| {
            rms_norm::forward(&v[0], &v[1], norm, &mut again);
            rms_norm::backward(
                &v[0],
                &v[1],
                norm,
                &again,
                (Start::Result, &mut dx),
                &mut dw,
            );
        },
        |t| rms_norm::reference(&t[0], &t[1], norm),
    );

    let mut out = vec![0.0; n * f];
    let mut again = out.clone();
    subject.measure(
        "gated",
        &[&[n, 2 * f]],
        |v| gated::forward(Activation::Silu, &v[0], f, &mut out),
        |v| {
            // The copy stands for what the products before and after it write.
            let mut gate_up = v[0].clone();
            gated::forward(Activation::Silu, &gate_up, f, &mut again);
            gated::backward(Activation::Silu, &mut gate_up, f, &mut again);
        },
        |t| gated::reference(Activation::Silu, &t[0]),
    );

    let positions: Vec<u32> = (0..n).map(|token| (token % batch.length) as u32).collect();
    let frequencies = Frequencies::new(1e4, d / 2);
    let table = rope::table(&frequencies, batch.length);
    let (mut x, mut again) = (vec![1.0f32; n * h * d], vec![1.0f32; n * h * d]);
    let turn = |x: &mut [f32], direction| {
        rope::turn(x, h * d, (h, d), &positions, &table, direction);
    };
    subject.measure(
        "rope",
        &[&[n, h, d]],
        |_| turn(&mut x, Direction::Forward),
        |_| {
            turn(&mut again, Direction::Forward);
            turn(&mut again, Direction::Backward);
        },
        |t| rope::reference(&t[0], &positions, &frequencies),
    );
}

fn mixing(subject: &mut Subject<'_>, sizes: &Shape, batch: Batch) {
    let (n, h, k, d) = (
        batch.tokens(),
        sizes.heads,
        sizes.kv_heads,
        sizes.head_size(),
    );
    let spans: Vec<Span> = (0..batch.rows)
        .map(|row| Span::whole(row * batch.length..(row + 1) * batch.length))
        .collect();
    let of = Sizes {
        heads: h,
        kv_heads: k,
        size: d,
    };
    let of = (of, Scoring::plain(d));
    let (mut out, mut log_sums) = (vec![0.0f32; n * h * d], vec![0.0f32; n * h]);
    let (mut again, mut sums_again) = (out.clone(), log_sums.clone());
    let (mut d_query, mut d_key_value) = (out.clone(), vec![0.0f32; n * 2 * k * d]);
    subject.measure(
        "attention",
        &[&[n, h, d], &[n, 2 * k, d]],
        |v| attention::forward(&v[0], &v[1], &spans, of, &mut out, &mut log_sums),
        |v| {
            attention::forward(&v[0], &v[1], &spans, of, &mut again, &mut sums_again);
            let given = Given {
                query: &v[0],
                key_value: &v[1],
                out: &again,
                log_sums: &sums_again,
                grad: &again,
            };
            attention::backward(&given, &spans, of, &mut d_query, &mut d_key_value);
        },
        |t| {
            let keys = t[1].narrow(1, 0, k)?.contiguous()?;
            let values = t[1].narrow(1, k, k)?.contiguous()?;
            attention::reference(&t[0], &keys, &values, &spans, Scoring::plain(d))
        },
    );
}

fn linear(subject: &mut Subject<'_>, sizes: &Shape, batch: Batch) {
    let (n, c, f, v) = (
        batch.tokens(),
        sizes.channels,
        sizes.feed_forward,
        sizes.vocabulary,
    );
    let threads = rayon::current_num_threads();
    for (name, inputs, outputs) in [
        ("linear_c_c", c, c),
        ("linear_c_2f", c, 2 * f),
        ("linear_f_c", f, c),
    ] {
        let x = |v: &[Vec<f32>], y: &mut [f32]| {
            let (x, w) = (
                Matrix::new(&v[0], n, inputs),
                Matrix::new(&v[1], outputs, inputs),
            );
            let out = MatrixMut::new(y, n, outputs);
            multiply(out, x, w.t(), Product::set(threads));
        };
        let mut out = vec![0.0; n * outputs];
        let (mut y, mut dx) = (out.clone(), vec![0.0; n * inputs]);
        let mut dw = vec![0.0; outputs * inputs];
        subject.measure(
            name,
            &[&[n, inputs], &[outputs, inputs]],
            |v| x(v, &mut out),
            |v| {
                x(v, &mut y);
                let dy = Matrix::new(&y, n, outputs);
                let w = Matrix::new(&v[1], outputs, inputs);
                let into = MatrixMut::new(&mut dx, n, inputs);
                multiply(into, dy, w, Product::set(threads));
                let into = MatrixMut::new(&mut dw, outputs, inputs);
                let x = Matrix::new(&v[0], n, inputs);
                multiply(into, dy.t(), x, Product::add(threads));
            },
            |t| Ok(t[0].matmul(&t[1].t()?)?),
        );
    }

    let ids: Vec<u32> = (0..n).map(|token| (token * token % v) as u32).collect();
    let head = |weight: &[f32], run: &mut dyn FnMut(Head<'_, f32>)| {
        run(Head {
            weight: Matrix::new(weight, v, c),
            targets: &ids,
            temperature: 1.0,
            form: Form::default(),
            threads,
        });
    };
    let (mut logits, mut again) = (Vec::new(), Vec::new());
    let (mut dx, mut dw, grad) = (vec![0.0; n * c], vec![0.0; v * c], vec![1.0; n]);
    subject.measure(
        "log_probs",
        &[&[n, c], &[v, c]],
        |values| {
            head(&values[1], &mut |head| {
                logits.resize(head.logits_len(), 0.0);
                let mut room = vec![0.0; head.room_len()];
                black_box(head.forward(&values[0], &mut logits, &mut room));
            });
        },
        |values| {
            head(&values[1], &mut |head| {
                again.resize(head.logits_len(), 0.0);
                let mut room = vec![0.0; head.room_len()];
                let said = head.forward(&values[0], &mut again, &mut room);
                let grads = (&grad[..], None);
                let buffers = (&mut again[..], &mut room[..]);
                head.backward(&said, &values[0], grads, buffers, &mut dx, Some(&mut dw));
            });
        },
        |t| Ok(log_prob::reference(&t[0], &t[1], &ids, (1.0, Form::default()))?.0),
    );

    let (mut out, mut dw) = (vec![0.0; n * c], vec![0.0; v * c]);
    let mut rows = out.clone();
    subject.measure(
        "embedding",
        &[&[v, c]],
        |v| embedding::forward(&v[0], &ids, &mut out),
        |v| {
            embedding::forward(&v[0], &ids, &mut rows);
            embedding::backward(&ids, &rows, &mut dw);
        },
        |t| embedding::reference(&t[0], &ids),
    );
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = operations
}
criterion_main!(benches);
