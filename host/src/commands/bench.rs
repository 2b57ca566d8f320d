//! `finegrain bench`: whole workloads on random ids, timed beside the least they can take.

use serde::Serialize;

use crate::bench::report::Spread;
use crate::bench::shape::{Batch, Shape};
use crate::bench::{self, BenchReport, Plan, Workload, sweep};
use crate::cli::{BenchArgs, BenchCommand};
use crate::commands::{emit, emit_json, interrupt, start_threads};
use crate::device::{Device, DeviceConfig, DeviceKind, Dtype};
use crate::error::{Error, Result};
use crate::model::SamplingWeights;

/// The result with the figures that follow from it.
#[derive(Serialize)]
struct Output<'a> {
    #[serde(flatten)]
    report: &'a BenchReport,
    tokens_per_second: Spread,
    gflops_per_second: f64,
}

pub(super) fn bench(command: &BenchCommand) -> Result<()> {
    let f32 = SamplingWeights::F32;
    let (workload, args, sweeps, weights) = match command {
        BenchCommand::Train { args, sweep, .. } => (Workload::Train, args, *sweep, f32),
        BenchCommand::Generate { args, weights } => (Workload::Generate, args, false, *weights),
        BenchCommand::Ppo { args, .. } => (Workload::Ppo, args, false, f32),
    };
    let mut plan = plan(workload, args, weights)?;
    if let BenchCommand::Train { training, .. } | BenchCommand::Ppo { training, .. } = command {
        (plan.recompute, plan.lora) = (training.recompute, training.lora);
    }
    if let BenchCommand::Ppo {
        micro_batch_tokens, ..
    } = command
    {
        plan.micro_batch_tokens = *micro_batch_tokens;
    }
    start_threads(args.threads)?;
    let cancel = interrupt::install()?;
    if sweeps {
        let report = sweep::run(&plan, cancel)?;
        return if args.json {
            emit_json(&report)
        } else {
            emit(&report.to_string())
        };
    }
    let report = bench::run(workload, &plan, cancel)?;
    if args.json {
        emit_json(&Output {
            tokens_per_second: report.tokens_per_second(),
            gflops_per_second: report.gflops(),
            report: &report,
        })
    } else {
        emit(&report.to_string())
    }
}

fn plan(workload: Workload, args: &BenchArgs, weights: SamplingWeights) -> Result<Plan> {
    let mut shape: Shape = args.shape.parse()?;
    if args.tied {
        if args.shape.contains(',') {
            shape.tied = true;
        } else {
            return Err(Error::input(format!(
                "--tied: the shape {} says by itself whether the head is tied",
                args.shape
            ))
            .hint("--tied belongs to six sizes V,C,LAYERS,HEADS,KV,FFN"));
        }
    }
    let mut batch: Batch = match &args.batch {
        Some(batch) => batch.parse()?,
        None => shape.batch(workload).ok_or_else(|| {
            Error::input("--batch is needed with an explicit shape")
                .hint("--batch 32x64 is 32 rows of 64 tokens")
        })?,
    };
    if let Some(prompt) = args.prompt {
        batch = batch.with_prompt(prompt)?;
    }
    Ok(Plan {
        device: device(args, weights)?,
        shape,
        batch,
        repetitions: args.repetitions,
        warm_up: args.warm_up,
        seed: args.seed,
        weights,
        recompute: false,
        lora: None,
        micro_batch_tokens: 0,
        profile: args.profile,
    })
}

fn device(args: &BenchArgs, weights: SamplingWeights) -> Result<Device> {
    match (args.device, args.dtype) {
        (DeviceKind::Cpu, Some(Dtype::Bf16)) => {
            return Err(Error::input("--dtype bf16: the processor computes in f32")
                .hint("--device cuda, or --weights bf16 of `bench generate`"));
        }
        (DeviceKind::Cpu, _) if args.profile => {
            return Err(Error::input(
                "--profile: the processor's operations are not timed one by one",
            )
            .hint("--device cuda, or a profiler of the system's, such as perf"));
        }
        (DeviceKind::Cuda, _) if weights.rounds() => {
            return Err(Error::input(format!(
                "--weights {weights}: a GPU samples with weights of its own dtype"
            ))
            .hint("--dtype bf16 or --dtype f32"));
        }
        _ => {}
    }
    Device::open(&DeviceConfig {
        kind: args.device,
        ordinal: args.ordinal,
        dtype: args.dtype.unwrap_or_default(),
    })
}
