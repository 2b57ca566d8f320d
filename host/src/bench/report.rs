//! What a timed workload says about itself.

use std::fmt;

use serde::Serialize;

use super::cost::Cost;
use super::rates::Rates;
use super::shape::Shape;
use crate::device::{Dtype, OperationTime};
use crate::model::{RoundingEffect, SamplingWeights};

/// Median, least and greatest of several values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one, or the mean of the two in the middle.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// Of at least one value.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (n, last) = (values.len(), values.len() - 1);
        Self {
            median: f64::midpoint(values[(n - 1) / 2], values[n / 2]),
            min: values[0],
            max: values[last],
        }
    }
}

/// The least time a repetition can take on this machine.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Floor {
    /// Operations of a repetition.
    pub flops: u64,
    /// Bytes that a repetition moves at least.
    pub bytes: u64,
    /// Distinct bytes among them.
    pub working_set: u64,
    /// Measured in the same process: on the processor a product of two f32 matrices of 1024², on a GPU of two matrices of
    /// its dtype, up to 8192².
    pub gemm_flops_per_second: f64,
    /// Measured in the same process: on the processor reading a buffer as large as the working set (1 to 256 MiB), on a GPU
    /// copying a large buffer, bytes read and written.
    pub bytes_per_second: f64,
    /// Operations over their rate.
    pub flop_seconds: f64,
    /// Bytes over their rate.
    pub byte_seconds: f64,
}

impl Floor {
    pub(super) fn new(cost: &Cost, rates: Rates) -> Self {
        Self {
            flops: cost.flops,
            bytes: cost.bytes,
            working_set: cost.working_set,
            gemm_flops_per_second: rates.flops_per_second,
            bytes_per_second: rates.bytes_per_second,
            flop_seconds: cost.flops as f64 / rates.flops_per_second,
            byte_seconds: cost.bytes as f64 / rates.bytes_per_second,
        }
    }

    /// The larger of the two.
    pub fn seconds(&self) -> f64 {
        self.flop_seconds.max(self.byte_seconds)
    }
}

/// What every operation of a GPU took in a repetition of its own, which does not count: events between operations slow it
/// down, most where the host is slower than the GPU.
#[derive(Clone, Debug, Serialize)]
pub struct Profile {
    /// Seconds of that repetition.
    pub seconds: f64,
    /// The longest first.
    pub operations: Vec<OperationTime>,
}

/// A timed workload.
#[derive(Clone, Debug, Serialize)]
pub struct BenchReport {
    /// `train`, `generate` or `ppo`.
    pub workload: &'static str,
    /// The model.
    pub shape: Shape,
    /// How many parameters it has.
    pub parameters: u64,
    /// B.
    pub rows: usize,
    /// Tokens a row.
    pub length: usize,
    /// Tokens of a prompt, in `generate` and `ppo`; the rest of a row is sampled.
    pub prompt: usize,
    /// The rank of the adapters that are trained; `None` where all weights are.
    pub lora: Option<usize>,
    /// The GPU's name, or `cpu`.
    pub device: String,
    /// The dtype of weights and activations.
    pub dtype: Dtype,
    /// Threads.
    pub threads: usize,
    /// Tokens of a repetition by which speed is counted: all of them in training, the sampled ones elsewhere.
    pub tokens: usize,
    /// Seconds of every repetition that counts.
    pub seconds: Vec<f64>,
    /// In which format sampling kept the weights.
    pub weights: SamplingWeights,
    /// What rounding them did to the log-probabilities of the tokens of a repetition; `None` where nothing is rounded.
    pub rounding: Option<RoundingEffect>,
    /// What a repetition takes at least.
    pub floor: Floor,
    /// The largest resident set during the work, where the system tells.
    pub peak_bytes: Option<u64>,
    /// The same before the model was made.
    pub start_bytes: Option<u64>,
    /// The most bytes that buffers on the GPU held during the work, weights included; `None` on the processor.
    pub device_peak_bytes: Option<u64>,
    /// Where a GPU's time went, where that was asked.
    pub profile: Option<Profile>,
}

impl fmt::Display for Profile {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Lines; the rest is one.
        const MOST: usize = 40;
        let all: f64 = self
            .operations
            .iter()
            .map(|operation| operation.seconds)
            .sum();
        writeln!(
            out,
            "{:>10} {:>6} {:>7} {:>10} {:>9}  operation, of {:.4} s in a repetition of {:.4} s",
            "ms", "%", "count", "µs each", "TFLOP/s", all, self.seconds
        )?;
        for OperationTime {
            name,
            count,
            seconds,
            flops,
        } in self.operations.iter().take(MOST)
        {
            let rate = flops.map_or_else(
                || "–".to_owned(),
                |flops| format!("{:.1}", flops / seconds / 1e12),
            );
            writeln!(
                out,
                "{:>10.3} {:>6.1} {count:>7} {:>10.1} {rate:>9}  {name}",
                1e3 * seconds,
                1e2 * seconds / all,
                1e6 * seconds / *count as f64,
            )?;
        }
        if let Some(rest) = self.operations.get(MOST..).filter(|rest| !rest.is_empty()) {
            let seconds: f64 = rest.iter().map(|operation| operation.seconds).sum();
            let share = 1e2 * seconds / all;
            writeln!(
                out,
                "{:>10.3} {share:>6.1}  {} more",
                1e3 * seconds,
                rest.len()
            )?;
        }
        Ok(())
    }
}

impl BenchReport {
    /// Seconds of a repetition.
    pub fn time(&self) -> Spread {
        Spread::of(self.seconds.iter().copied())
    }

    /// Tokens a second.
    pub fn tokens_per_second(&self) -> Spread {
        Spread::of(
            self.seconds
                .iter()
                .map(|seconds| self.tokens as f64 / seconds),
        )
    }

    /// Operations a second, in thousand millions, at the median time.
    pub fn gflops(&self) -> f64 {
        self.floor.flops as f64 / self.time().median / 1e9
    }
}

impl fmt::Display for BenchReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shape, floor) = (&self.shape, &self.floor);
        writeln!(
            out,
            "{}: V {}, C {}, {} layers, {}/{} heads, F {}{}: {:.2} million parameters",
            self.workload,
            shape.vocabulary,
            shape.channels,
            shape.layers,
            shape.heads,
            shape.kv_heads,
            shape.feed_forward,
            if shape.tied { ", tied" } else { "" },
            self.parameters as f64 / 1e6,
        )?;
        writeln!(
            out,
            "{} rows of {} tokens{}, {} threads, {} repetitions{}{}",
            self.rows,
            self.length,
            if self.workload == "train" {
                String::new()
            } else {
                format!(" (prompts of {})", self.prompt)
            },
            self.threads,
            self.seconds.len(),
            match self.lora {
                Some(rank) => format!(", adapters of rank {rank} on frozen weights"),
                None => String::new(),
            },
            if self.weights.rounds() {
                format!(", {} weights", self.weights)
            } else {
                String::new()
            }
        )?;
        writeln!(out, "{}, {}\n", self.device, self.dtype.name())?;
        let (speed, time) = (self.tokens_per_second(), self.time());
        writeln!(
            out,
            "tokens/s     {:>10.0}   min {:.0}, max {:.0} ({} tokens a repetition)",
            speed.median, speed.min, speed.max, self.tokens
        )?;
        writeln!(
            out,
            "seconds      {:>10.4}   min {:.4}, max {:.4}",
            time.median, time.min, time.max
        )?;
        writeln!(
            out,
            "GFLOP/s      {:>10.1}   {:.2} GFLOP a repetition",
            self.gflops(),
            floor.flops as f64 / 1e9
        )?;
        writeln!(
            out,
            "floor        {:>10.4}   seconds: {:.4} by arithmetic at {:.1} GFLOP/s, {:.4} by {:.3} GB at {:.1} GB/s",
            floor.seconds(),
            floor.flop_seconds,
            floor.gemm_flops_per_second / 1e9,
            floor.byte_seconds,
            floor.bytes as f64 / 1e9,
            floor.bytes_per_second / 1e9
        )?;
        writeln!(out, "over floor   {:>10.2}", time.median / floor.seconds())?;
        if let (Some(peak), Some(start)) = (self.peak_bytes, self.start_bytes) {
            let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            writeln!(
                out,
                "peak MiB     {:>10.0}   of which {:.0} before the model",
                mib(peak),
                mib(start)
            )?;
        }
        if let Some(peak) = self.device_peak_bytes {
            let mib = peak as f64 / f64::from(1 << 20);
            writeln!(
                out,
                "GPU MiB      {mib:>10.0}   at the peak, weights included"
            )?;
        }
        if let Some(rounding) = &self.rounding {
            writeln!(out, "rounding     {rounding}")?;
        }
        if let Some(profile) = &self.profile {
            write!(out, "\n{profile}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_lies_in_the_middle() {
        let spread = |values: &[f64]| Spread::of(values.iter().copied());
        assert_eq!(
            spread(&[3.0, 1.0, 8.0]),
            Spread {
                median: 3.0,
                min: 1.0,
                max: 8.0
            }
        );
        assert_eq!(spread(&[4.0, 1.0, 2.0, 9.0]).median, 3.0);
        assert_eq!(spread(&[5.0]).max, 5.0);
    }
}
