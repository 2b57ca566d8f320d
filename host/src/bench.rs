//! Whole workloads on random ids and fresh weights, timed beside the least time that their arithmetic and their memory
//! traffic take: what `finegrain bench` prints. Formulas: `cost` and docs/performance.md.
//!
//! The calls into model and training stand in `train`, `generate` and `ppo`, one place each.

pub mod cost;
mod generate;
mod memory;
mod ppo;
mod rates;
pub mod report;
pub mod shape;
pub mod sweep;
mod train;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use finegrain_sdk::rng::{ChaCha8Rng, Stream};
use rand::RngExt as _;

use crate::device::Device;
use crate::error::{Error, Result};
use crate::model::{CausalLm, LoraConfig, SamplingWeights};

pub use report::{BenchReport, Floor, Profile, Spread};
pub use shape::{Batch, Shape};

/// Which work is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// Forward, backward and an AdamW step of the next-token loss over all positions.
    Train,
    /// Sampling what follows the prompts, with a KV cache.
    Generate,
    /// One iteration of PPO with four models of one shape.
    Ppo,
}

impl Workload {
    /// The name in commands and results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Generate => "generate",
            Self::Ppo => "ppo",
        }
    }
}

/// What is run, and how often.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The model.
    pub shape: Shape,
    /// Rows and tokens a row.
    pub batch: Batch,
    /// Repetitions that count; at least 1.
    pub repetitions: usize,
    /// Repetitions before them, which do not.
    pub warm_up: usize,
    /// Decides ids and weights.
    pub seed: u64,
    /// In which format `generate` keeps the weights; the other workloads are f32.
    pub weights: SamplingWeights,
    /// Whether training keeps layer inputs alone and computes the other activations again.
    pub recompute: bool,
    /// Where the models live.
    pub device: Device,
    /// The rank of the adapters that are trained on all maps of one frozen set of weights, which in `ppo` all four roles
    /// share; all weights are trained where there is none.
    pub lora: Option<usize>,
    /// Tokens that `ppo` takes through a model together; 0 is all.
    pub micro_batch_tokens: usize,
    /// Whether one more repetition, behind those that count, times every operation of a GPU.
    pub profile: bool,
}

impl Plan {
    /// How often the work is done: to warm up, to be timed, to be profiled.
    fn rounds(&self) -> usize {
        self.warm_up + self.repetitions + usize::from(self.profile)
    }

    /// Of the times of all of them those that count.
    fn counted<'a>(&self, seconds: &'a [f64]) -> &'a [f64] {
        &seconds[self.warm_up..][..self.repetitions]
    }

    /// To be called before each repetition, counted from 0: times operations from the last one on, where they are wanted.
    fn before(&self, repetition: usize) -> Result<()> {
        if self.profile && repetition == self.warm_up + self.repetitions {
            return self.device.start_profile();
        }
        Ok(())
    }

    /// What decides the cost beside sizes.
    fn form(&self) -> cost::Form {
        cost::Form {
            element: self.device.dtype().size() as u64,
            adapters: self.lora.is_some(),
        }
    }
}

/// Runs a workload on the threads of the current pool.
///
/// # Errors
/// A shape that is no model, an interruption.
pub fn run(workload: Workload, plan: &Plan, cancel: &AtomicBool) -> Result<BenchReport> {
    if plan.repetitions == 0 {
        return Err(Error::input(
            "--repetitions: 0 is not accepted; at least 1 is",
        ));
    }
    let start_bytes = memory::peak_bytes();
    plan.device.take_peak();
    let seconds = match workload {
        Workload::Train => train::run(plan, cancel)?,
        Workload::Generate => generate::run(plan, cancel)?,
        Workload::Ppo => ppo::run(plan, cancel)?,
    };
    let profile = if plan.profile {
        Some(Profile {
            seconds: seconds[plan.warm_up + plan.repetitions],
            operations: plan.device.take_profile()?,
        })
    } else {
        None
    };
    let seconds = plan.counted(&seconds).to_vec();
    // Before the buffers of the rates and the model's own pass.
    let peak_bytes = memory::peak_bytes();
    let device_peak_bytes = plan.device.take_peak();
    let rounding = match workload {
        Workload::Generate if plan.weights.rounds() => generate::rounding(plan, cancel)?,
        _ => None,
    };
    let form = plan.form();
    let cost = match workload {
        Workload::Train => cost::train(&plan.shape, plan.batch, form),
        Workload::Generate => {
            let bits = match &plan.device {
                Device::Cpu => plan.weights.bits() as u64,
                #[cfg(feature = "cuda")]
                Device::Cuda(_) => 8 * form.element,
            };
            cost::generate(&plan.shape, plan.batch, bits, form)
        }
        Workload::Ppo => cost::ppo(&plan.shape, plan.batch, form),
    };
    Ok(BenchReport {
        workload: workload.name(),
        shape: plan.shape,
        parameters: plan.shape.parameters(),
        rows: plan.batch.rows,
        length: plan.batch.length,
        prompt: plan.batch.prompt,
        lora: plan.lora,
        device: plan.device.name(),
        dtype: plan.device.dtype(),
        threads: rayon::current_num_threads(),
        tokens: match workload {
            Workload::Train => plan.batch.tokens(),
            Workload::Generate | Workload::Ppo => plan.batch.rows * plan.batch.new_tokens(),
        },
        floor: Floor::new(&cost, rates::measure(&cost, &plan.device)?),
        seconds,
        weights: plan.weights,
        rounding,
        peak_bytes,
        start_bytes,
        device_peak_bytes,
        profile,
    })
}

/// Runs `once` for every repetition; how long each took.
fn repeat(
    plan: &Plan,
    cancel: &AtomicBool,
    mut once: impl FnMut(u64) -> Result<Duration>,
) -> Result<Vec<f64>> {
    let mut seconds = Vec::with_capacity(plan.repetitions);
    for repetition in 0..plan.rounds() {
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::interrupted());
        }
        plan.before(repetition)?;
        seconds.push(once(repetition as u64)?.as_secs_f64());
    }
    Ok(seconds)
}

/// What `work` returns, and how long the device took for it.
fn timed<T>(plan: &Plan, work: impl FnOnce() -> Result<T>) -> Result<(Duration, T)> {
    plan.device.synchronize()?;
    let start = Instant::now();
    let done = work()?;
    plan.device.synchronize()?;
    Ok((start.elapsed(), done))
}

/// A fresh model on the plan's device. A large one is of noise, which all threads draw in seconds.
fn model(plan: &Plan, stream: &Stream) -> Result<CausalLm> {
    /// Parameters.
    const LARGE: u64 = 1 << 30;
    let config = plan.shape.config(plan.batch.length);
    let model = if plan.shape.parameters() < LARGE {
        CausalLm::new(config, stream)?
    } else {
        CausalLm::noise(config, plan.seed)?
    };
    model.to(&plan.device)
}

/// The model as the plan trains it: with a fresh adapter, where adapters are trained.
fn adapted(base: &CausalLm, plan: &Plan, stream: &Stream) -> Result<CausalLm> {
    let mut model = match plan.lora {
        None => base.clone(),
        Some(rank) => {
            let lora = LoraConfig {
                rank,
                ..LoraConfig::default()
            };
            base.with_lora(&lora, stream)?
        }
    };
    model.set_recompute(plan.recompute);
    Ok(model)
}

/// Rows of random ids below `vocabulary`, each of `length` tokens.
fn random_rows(stream: &Stream, rows: usize, length: usize, vocabulary: usize) -> Vec<Vec<u32>> {
    let mut rng: ChaCha8Rng = stream.child("ids").rng();
    let mut row = || {
        (0..length)
            .map(|_| rng.random_range(0..vocabulary as u32))
            .collect()
    };
    (0..rows).map(|_| row()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every workload on a model of a few hundred parameters.
    #[test]
    fn every_workload_reports_its_repetitions_and_a_floor() {
        let plan = Plan {
            shape: Shape {
                vocabulary: 11,
                channels: 8,
                layers: 1,
                heads: 2,
                kv_heads: 1,
                feed_forward: 12,
                tied: true,
            },
            batch: Batch::new(3, 6),
            repetitions: 2,
            warm_up: 1,
            seed: 1,
            weights: SamplingWeights::F32,
            recompute: true,
            device: Device::Cpu,
            lora: Some(2),
            micro_batch_tokens: 8,
            profile: false,
        };
        let cancel = AtomicBool::new(false);
        for (workload, tokens) in [
            (Workload::Train, 18),
            (Workload::Generate, 9),
            (Workload::Ppo, 9),
        ] {
            let report = run(workload, &plan, &cancel).unwrap();
            assert_eq!(report.seconds.len(), 2);
            assert!(report.seconds.iter().all(|&seconds| seconds > 0.0));
            assert_eq!(report.tokens, tokens);
            assert!(report.floor.gemm_flops_per_second > 0.0);
            assert!(report.floor.bytes_per_second > 0.0);
            assert_eq!(report.rounding, None);
        }
        let rounded = Plan {
            weights: SamplingWeights::Q8,
            ..plan.clone()
        };
        let report = run(Workload::Generate, &rounded, &cancel).unwrap();
        let rounding = report.rounding.unwrap();
        assert!(rounding.tokens == 9 && rounding.mean > 0.0, "{rounding:?}");
        let text = report.to_string();
        assert!(
            text.contains("q8 weights") && text.contains("|Δ log-prob|"),
            "{text}"
        );
        cancel.store(true, Ordering::Relaxed);
        for workload in [Workload::Train, Workload::Generate, Workload::Ppo] {
            assert_eq!(run(workload, &plan, &cancel).unwrap_err().exit_code(), 130);
        }
    }

    #[test]
    fn ids_stay_below_the_vocabulary_and_the_seed_decides_them() {
        let draw = |seed| random_rows(&Stream::new(seed), 20, 30, 7);
        let rows = draw(1);
        assert!(rows.iter().all(|row| row.len() == 30));
        assert_eq!(rows.iter().flatten().max(), Some(&6));
        assert_eq!(rows, draw(1));
        assert_ne!(rows, draw(2));
    }
}
