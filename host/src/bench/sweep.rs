//! Time per token of training over rows and lengths: flat over rows; over lengths it follows the operations per token, of
//! which attention's grow with the length.

use std::fmt;
use std::sync::atomic::AtomicBool;

use serde::Serialize;

use super::cost;
use super::report::Spread;
use super::shape::{Batch, Shape};
use super::{Plan, train};
use crate::error::Result;

/// One batch.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct SweepCell {
    /// B.
    pub rows: usize,
    /// Tokens a row.
    pub length: usize,
    /// N.
    pub tokens: usize,
    /// Seconds of a step.
    pub seconds: Spread,
    /// Microseconds per token, at the median.
    pub microseconds_per_token: f64,
    /// Operations per token.
    pub flops_per_token: f64,
    /// Operations a second, in thousand millions, at the median.
    pub gflops_per_second: f64,
}

/// All batches.
#[derive(Clone, Debug, Serialize)]
pub struct SweepReport {
    /// The model.
    pub shape: Shape,
    /// Threads.
    pub threads: usize,
    /// One batch after the other: lengths, and rows within a length.
    pub cells: Vec<SweepCell>,
}

/// Times a training step at a quarter, half, once and twice the plan's rows, and half, once, twice and four times its length.
pub fn run(plan: &Plan, cancel: &AtomicBool) -> Result<SweepReport> {
    let mut cells = Vec::new();
    for batch in batches(plan.batch) {
        let plan = Plan {
            batch,
            ..plan.clone()
        };
        let seconds = train::run(&plan, cancel)?;
        let seconds = Spread::of(plan.counted(&seconds).iter().copied());
        let (tokens, flops) = (
            batch.tokens() as f64,
            cost::train(&plan.shape, batch, plan.form()).flops as f64,
        );
        cells.push(SweepCell {
            rows: batch.rows,
            length: batch.length,
            tokens: batch.tokens(),
            seconds,
            microseconds_per_token: seconds.median / tokens * 1e6,
            flops_per_token: flops / tokens,
            gflops_per_second: flops / seconds.median / 1e9,
        });
    }
    Ok(SweepReport {
        shape: plan.shape,
        threads: rayon::current_num_threads(),
        cells,
    })
}

fn batches(around: Batch) -> Vec<Batch> {
    let scaled = |value: usize, quarters: &[usize], least: usize| {
        let mut values: Vec<usize> = quarters
            .iter()
            .map(|quarters| (value * quarters / 4).max(least))
            .collect();
        values.dedup();
        values
    };
    let rows = scaled(around.rows, &[1, 2, 4, 8], 1);
    scaled(around.length, &[2, 4, 8, 16], 2)
        .into_iter()
        .flat_map(|length| rows.iter().map(move |&rows| Batch::new(rows, length)))
        .collect()
}

impl fmt::Display for SweepReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "length   rows   tokens   seconds (median, min, max)     µs/token   MFLOP/token   GFLOP/s"
        )?;
        let mut length = 0;
        for cell in &self.cells {
            if length != 0 && length != cell.length {
                writeln!(out)?;
            }
            length = cell.length;
            writeln!(
                out,
                "{:>6} {:>6} {:>8}   {:>8.4} {:>8.4} {:>8.4} {:>14.2} {:>13.3} {:>9.1}",
                cell.length,
                cell.rows,
                cell.tokens,
                cell.seconds.median,
                cell.seconds.min,
                cell.seconds.max,
                cell.microseconds_per_token,
                cell.flops_per_token / 1e6,
                cell.gflops_per_second
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_stand_around_the_plan_and_do_not_repeat() {
        let sizes = |rows, length| -> Vec<(usize, usize)> {
            let cells = batches(Batch::new(rows, length)).into_iter();
            cells.map(|batch| (batch.rows, batch.length)).collect()
        };
        assert_eq!(
            sizes(2, 8),
            [
                (1, 4),
                (2, 4),
                (4, 4),
                (1, 8),
                (2, 8),
                (4, 8),
                (1, 16),
                (2, 16),
                (4, 16),
                (1, 32),
                (2, 32),
                (4, 32)
            ]
        );
        assert_eq!(sizes(32, 64).len(), 16);
    }
}
