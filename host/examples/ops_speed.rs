//! Measures every operation against its plain reference: `cargo run --release -p finegrain --example ops_speed`.
//!
//! Forward and backward together, in f32, at the sizes of the sandbox's model: N = 2048 tokens in rows of 128, C = 128
//! channels, H = 4 heads of D = 32, F = 344, V = 512. The best of several rounds, in which both sides take turns.

#![expect(
    clippy::print_stdout,
    reason = "the figures are what this program is for"
)]

use std::time::Instant;

use candle_core::{Device, Tensor, Var};
use finegrain::Result;
use finegrain::ops;

const N: usize = 2048;
const ROW: usize = 128;
const C: usize = 128;
const H: usize = 4;
const D: usize = 32;
const F: usize = 344;
const V: usize = 512;
const ROUNDS: usize = 30;

/// Seconds of one forward and backward pass.
fn seconds(vars: &[Var], function: &dyn Fn(&[Tensor]) -> Result<Tensor>) -> Result<f64> {
    let inputs: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let start = Instant::now();
    let grads = function(&inputs)?.sum_all()?.backward()?;
    let elapsed = start.elapsed().as_secs_f64();
    drop(grads);
    Ok(elapsed)
}

fn measure(
    name: &str,
    shapes: &[&[usize]],
    fused: impl Fn(&[Tensor]) -> Result<Tensor>,
    plain: impl Fn(&[Tensor]) -> Result<Tensor>,
) -> Result<()> {
    let vars: Vec<Var> = shapes
        .iter()
        .map(|&shape| Ok(Var::randn(0f32, 1.0, shape, &Device::Cpu)?))
        .collect::<Result<_>>()?;
    let mut best = [f64::INFINITY; 2];
    for _ in 0..ROUNDS {
        best[0] = best[0].min(seconds(&vars, &fused)?);
        best[1] = best[1].min(seconds(&vars, &plain)?);
    }
    let [fused, plain] = best;
    println!(
        "{name:<10} {:>8.3} ms {:>8.3} ms {:>6.1}x {:>9.0} thousand tokens/s",
        fused * 1e3,
        plain * 1e3,
        plain / fused,
        N as f64 / fused / 1e3
    );
    Ok(())
}

fn main() -> Result<()> {
    let offsets: Vec<u64> = (0..=N / ROW).map(|row| (row * ROW) as u64).collect();
    let positions: Vec<u32> = (0..N).map(|token| (token % ROW) as u32).collect();
    let ids: Vec<u32> = (0..N).map(|token| (token * token % V) as u32).collect();
    println!("{:<10} {:>11} {:>11}", "", "fused", "plain");
    measure(
        "rms_norm",
        &[&[N, C], &[C]],
        |t| ops::rms_norm(&t[0], &t[1], 1e-5),
        |t| ops::rms_norm::reference(&t[0], &t[1], 1e-5),
    )?;
    measure(
        "rope",
        &[&[N, H, D]],
        |t| ops::rope(&t[0], &positions, 1e4),
        |t| ops::rope::reference(&t[0], &positions, 1e4),
    )?;
    measure(
        "attention",
        &[&[N, H, D], &[N, H, D], &[N, H, D]],
        |t| ops::attention(&t[0], &t[1], &t[2], &offsets),
        |t| ops::attention::reference(&t[0], &t[1], &t[2], &offsets),
    )?;
    measure(
        "swiglu",
        &[&[N, F], &[N, F]],
        |t| ops::swiglu(&t[0], &t[1]),
        |t| ops::swiglu::reference(&t[0], &t[1]),
    )?;
    for (name, inputs, outputs) in [("C → C", C, C), ("C → F", C, F), ("F → C", F, C)] {
        measure(
            name,
            &[&[N, inputs], &[outputs, inputs]],
            |t| ops::linear(&t[0], &t[1]),
            |t| ops::linear::reference(&t[0], &t[1]),
        )?;
    }
    measure(
        "log_probs",
        &[&[N, C], &[V, C]],
        |t| both(&ops::log_probs(&t[0], &t[1], &ids, 1.0)?),
        |t| both(&ops::log_prob::reference(&t[0], &t[1], &ids, 1.0)?),
    )?;
    measure(
        "gather",
        &[&[N, C]],
        |t| ops::gather(&t[0], &ids),
        |t| ops::gather::reference(&t[0], &ids),
    )?;
    measure(
        "embedding",
        &[&[V, C]],
        |t| ops::embedding(&t[0], &ids),
        |t| ops::gather::reference(&t[0], &ids),
    )
}

fn both(of: &ops::LogProbs) -> Result<Tensor> {
    Ok((&of.logprobs + &of.entropy)?)
}
