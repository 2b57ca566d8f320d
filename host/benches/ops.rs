//! Every operation at the three shapes of `finegrain bench`: `cargo bench -p finegrain`, or a part of it by name:
//! `cargo bench -p finegrain -- attention/medium`.
//!
//! `forward` builds no graph; `both` is forward and backward; `plain` is the same by the reference of tensor operations.
//! Throughput counts tokens.

use std::hint::black_box;
use std::time::Duration;

use candle_core::{Device, Tensor, Var};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use finegrain::bench::shape::NAMED;
use finegrain::bench::{Batch, Shape, Workload};
use finegrain::{Result, ops};

/// As in the command itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Operation<'a> = &'a dyn Fn(&[Tensor]) -> Result<Tensor>;

/// One operation at one shape: its operands' shapes, itself and its reference.
fn measure(
    criterion: &mut Criterion,
    name: &str,
    shape: &str,
    operands: &[&[usize]],
    tokens: usize,
    fused: Operation<'_>,
    plain: Operation<'_>,
) {
    let vars: Vec<Var> = operands
        .iter()
        .map(|&dims| Var::randn(0f32, 1.0, dims, &Device::Cpu).expect("memory for the operands"))
        .collect();
    let mut group = criterion.benchmark_group(format!("{name}/{shape}"));
    group.throughput(Throughput::Elements(tokens as u64));
    let frozen: Vec<Tensor> = vars.iter().map(Var::as_detached_tensor).collect();
    group.bench_function("forward", |bencher| {
        bencher.iter(|| black_box(fused(&frozen).expect("operands that fit")));
    });
    both(&mut group, "both", &vars, fused);
    both(&mut group, "plain", &vars, plain);
    group.finish();
}

fn both(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    vars: &[Var],
    function: Operation<'_>,
) {
    let inputs: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let pass = || function(&inputs)?.sum_all()?.backward().map_err(Into::into);
    group.bench_function(name, |bencher| {
        bencher.iter(|| black_box::<Result<_>>(pass()).expect("operands that fit"));
    });
}

fn operations(criterion: &mut Criterion) {
    for (name, shape) in NAMED {
        let batch = shape
            .batch(Workload::Train)
            .expect("a named shape has a batch");
        at_shape(criterion, name, &shape, batch);
    }
}

fn at_shape(criterion: &mut Criterion, shape: &str, sizes: &Shape, batch: Batch) {
    let (n, c, f, v) = (
        batch.tokens(),
        sizes.channels,
        sizes.feed_forward,
        sizes.vocabulary,
    );
    let (h, k, d) = (sizes.heads, sizes.kv_heads, sizes.head_size());
    let offsets: Vec<u64> = (0..=batch.rows)
        .map(|row| (row * batch.length) as u64)
        .collect();
    let positions: Vec<u32> = (0..n).map(|token| (token % batch.length) as u32).collect();
    let ids: Vec<u32> = (0..n).map(|token| (token * token % v) as u32).collect();
    let rows: Vec<u32> = (0..n).map(|token| (token * 7 % n) as u32).collect();
    let mut measure =
        |name: &str, operands: &[&[usize]], fused: Operation<'_>, plain: Operation<'_>| {
            measure(criterion, name, shape, operands, n, fused, plain);
        };
    measure(
        "rms_norm",
        &[&[n, c], &[c]],
        &|t| ops::rms_norm(&t[0], &t[1], 1e-5),
        &|t| ops::rms_norm::reference(&t[0], &t[1], 1e-5),
    );
    measure(
        "rope",
        &[&[n, h, d]],
        &|t| ops::rope(&t[0], &positions, 1e4),
        &|t| ops::rope::reference(&t[0], &positions, 1e4),
    );
    measure(
        "attention",
        &[&[n, h, d], &[n, k, d], &[n, k, d]],
        &|t| ops::attention(&t[0], &t[1], &t[2], &offsets),
        &|t| ops::attention::reference(&t[0], &t[1], &t[2], &offsets),
    );
    measure(
        "swiglu",
        &[&[n, f], &[n, f]],
        &|t| ops::swiglu(&t[0], &t[1]),
        &|t| ops::swiglu::reference(&t[0], &t[1]),
    );
    for (name, inputs, outputs) in [
        ("linear_c_c", c, c),
        ("linear_c_f", c, f),
        ("linear_f_c", f, c),
    ] {
        measure(
            name,
            &[&[n, inputs], &[outputs, inputs]],
            &|t| ops::linear(&t[0], &t[1]),
            &|t| ops::linear::reference(&t[0], &t[1]),
        );
    }
    measure(
        "log_probs",
        &[&[n, c], &[v, c]],
        &|t| log_prob(&ops::log_probs(&t[0], &t[1], &ids, 1.0)?),
        &|t| log_prob(&ops::log_prob::reference(&t[0], &t[1], &ids, 1.0)?),
    );
    measure("gather", &[&[n, c]], &|t| ops::gather(&t[0], &rows), &|t| {
        ops::gather::reference(&t[0], &rows)
    });
    measure(
        "embedding",
        &[&[v, c]],
        &|t| ops::embedding(&t[0], &ids),
        &|t| ops::gather::reference(&t[0], &ids),
    );
}

/// Log-probability and entropy as one number a token.
fn log_prob(of: &ops::LogProbs) -> Result<Tensor> {
    Ok((&of.logprobs + &of.entropy)?)
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
