//! How much memory a run of a configuration takes at most, stage by stage, and what would make it less: `finegrain plan`.
//!
//! Everything follows from the sizes of the model (its config.json is enough), the configuration and the longest rows that
//! there can be; nothing is allocated, read or trained. The formulas, and what they were compared with, are in
//! docs/memory.md. (`pipeline::plan` is another thing: which stages a run would compute, for `--dry-run`.)
//!
//! Legend: n tokens of a micro-batch, m of them read, V vocabulary, C channels, L layers, H query heads, K key/value heads,
//! D head size, F feed-forward, P parameters, A an adapter's parameters, r bytes of a real.

mod activations;
pub mod machine;
mod options;
mod parts;
mod question;
mod report;
mod rows;
mod sampling;
mod sizes;
mod stages;
#[cfg(test)]
mod tests;

use serde::Serialize;

use crate::device::{DeviceKind, Dtype};
use crate::error::{Error, Result};

pub use machine::Machine;
pub use options::Remedy;
pub use parts::Parts;
pub use question::{Needs, Question};
pub use report::table;
pub use rows::Limits;
pub use stages::Phase;

/// What a run needs, and what would make it less.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MemoryPlan {
    /// The configuration's name.
    pub name: String,
    /// Where the models live.
    pub device: DeviceKind,
    /// The dtype of weights and activations there.
    pub dtype: Dtype,
    /// Bytes that the device has; `None` where nobody knows.
    pub device_memory: Option<u64>,
    /// P.
    pub model_parameters: u64,
    /// A; `None` where all parameters are trained.
    pub adapter_parameters: Option<u64>,
    /// What the run goes through, in its order.
    pub phases: Vec<Phase>,
    /// Bytes at the highest of them.
    pub peak: u64,
    /// Which one that is.
    pub peak_at: String,
    /// Whether the peak is within the device's memory; `None` where that is unknown.
    pub fits: Option<bool>,
    /// What dominates, and what was assumed, as sentences.
    pub notes: Vec<String>,
    /// What was assumed.
    pub assumptions: Vec<String>,
    /// What makes the peak smaller, where it is above the device's memory.
    pub remedies: Vec<Remedy>,
}

/// The answer to a question.
///
/// # Errors
/// Sizes beyond any machine.
pub fn plan(question: &Question) -> Result<MemoryPlan> {
    question.check_sizes()?;
    let phases = stages::phases(question);
    let highest = highest(&phases)
        .ok_or_else(|| Error::internal("a run without stages has no peak of memory"))?;
    let (peak, peak_at) = (highest.peak, highest.name());
    let memory = question.machine.memory;
    let fits = memory.map(|memory| peak <= memory);
    let remedies = match memory {
        Some(memory) if peak > memory => options::remedies(question, memory),
        _ => Vec::new(),
    };
    Ok(MemoryPlan {
        name: question.config.name.clone(),
        device: question.machine.kind,
        dtype: question.machine.dtype,
        device_memory: memory,
        model_parameters: question.sizes().parameters(),
        adapter_parameters: question.sizes().adapter(),
        notes: report::notes(highest, question),
        assumptions: report::assumptions(question),
        peak,
        peak_at,
        fits,
        remedies,
        phases,
    })
}

/// The phase that needs most; the first of equals.
fn highest(phases: &[Phase]) -> Option<&Phase> {
    phases.iter().rev().max_by_key(|phase| phase.peak)
}
