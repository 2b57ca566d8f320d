//! A plan for people: a table of the phases, what dominates and what was assumed in words, and what would help.

use std::fmt::Write as _;

use indicatif::{HumanBytes, HumanCount};

use super::question::Question;
use super::stages::Phase;
use super::{MemoryPlan, Remedy};
use crate::config::Task;
use crate::data::records::PairSource;
use crate::device::DeviceKind;
use crate::report::tables::{paragraphs, ruled};

/// What dominates, in sentences.
pub(super) fn notes(peak: &Phase, question: &Question) -> Vec<String> {
    let share = |bytes: u64| 100.0 * bytes as f64 / peak.peak.max(1) as f64;
    let mut parts = peak.parts.named().to_vec();
    parts.sort_by_key(|&(_, bytes)| std::cmp::Reverse(bytes));
    let named: Vec<String> = parts
        .iter()
        .take(3)
        .filter(|&&(_, bytes)| share(bytes) >= 1.0)
        .map(|&(name, bytes)| format!("{name} {:.0}% ({})", share(bytes), HumanBytes(bytes)))
        .collect();
    let mut notes = vec![format!(
        "The most is needed in {}: {}; {}.",
        peak.name(),
        named.join(", "),
        peak.work
    )];
    let what = what_dominates(peak, question);
    notes.push(format!("{what}. Alive then: {}.", peak.models.join(", ")));
    notes
}

fn what_dominates(peak: &Phase, question: &Question) -> &'static str {
    let (of, model) = (&peak.parts, &question.config.model);
    let groups = [
        of.parameters + of.optimizer + of.gradients,
        of.activations,
        of.kv_cache,
        of.logits,
        of.other,
    ];
    let largest = (0..groups.len()).rev().max_by_key(|&at| groups[at]);
    match largest.unwrap_or_default() {
        0 if model.lora.is_some() && !model.merge_adapters => {
            "The one copy of the weights that adapters stand on dominates: a smaller model is what helps"
        }
        0 => {
            "What is kept of the models (weights, gradients, moments) dominates: adapters (model.lora) on one shared copy help"
        }
        1 if model.recompute => {
            "Activations dominate although the inputs of layers alone are kept: fewer tokens at once help"
        }
        1 => {
            "Activations dominate: fewer tokens at once or model.recompute help, and neither changes a result but for rounding"
        }
        2 => {
            "Keys and values of the rows that are sampled at once dominate: fewer rows or shorter responses help"
        }
        3 => "Logits dominate: the vocabulary is large for the model",
        _ => "What process and driver take without any model dominates",
    }
}

/// What was assumed, in sentences.
pub(super) fn assumptions(question: &Question) -> Vec<String> {
    let config = &question.config;
    let (data, preferences) = (question.data_row(), question.preference_row());
    let rollout = question.sampled_row(config.ppo.sampling.max_new_tokens);
    let row = |row: super::rows::Row| {
        format!("{} + {}", HumanCount(row.prompt), HumanCount(row.response))
    };
    let mut said = vec![format!(
        "Rows, prompt + response, are as long as they can be: {} tokens in sft, {} in the reward model's training, {} in ppo.",
        row(data),
        row(preferences),
        row(rollout)
    )];
    let unknown = |known: Option<u64>, what: &str, flag: &str| {
        let fills = format!(
            "how long {what} are is not known from the configuration, so they fill the model's {} positions: --{flag} says it",
            HumanCount(question.model.longest_row() as u64)
        );
        known.is_none().then_some(fills)
    };
    let of_data = config.task != Task::EditPairs || config.preferences == PairSource::Edits;
    let mut missing: Vec<String> = Vec::new();
    missing.extend(unknown(question.limits.prompt, "prompts", "prompt-tokens"));
    let what = if of_data {
        "responses in the data"
    } else {
        "demonstrations"
    };
    missing.extend(unknown(question.limits.response, what, "response-tokens"));
    if !missing.is_empty() {
        let mut text = missing.join("; ");
        if let Some(first) = text.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        said.push(text + ".");
    }
    said.push(match question.machine.kind {
        DeviceKind::Cuda => format!(
            "{} for weights that passes read, activations and KV cache. Every peak includes 64 MiB for cuBLAS and 500 MiB for \
             the driver's context, which are assumed. The KV cache takes at most a quarter of the device's memory; more rows wait.",
            question.machine.dtype.name()
        ),
        DeviceKind::Cpu => format!(
            "f32; {} threads; every peak includes 128 MiB for the process, which are assumed. Buffers of an update wait in a pool for the next, so they \
             are there while responses are sampled.",
            question.machine.threads
        ),
    });
    if let (Some(memory), false) = (question.machine.memory, question.machine.memory_given) {
        let whose = match question.machine.kind {
            DeviceKind::Cuda => "are taken for the GPU",
            DeviceKind::Cpu => "are what this machine has",
        };
        said.push(format!(
            "{} {whose}: --device-memory says another figure.",
            HumanBytes(memory)
        ));
    }
    said.push(
        "Stages come one after another; --jobs N needs as much for each of N runs.".to_owned(),
    );
    said
}

/// The plan as text in `width` columns.
pub fn table(plan: &MemoryPlan, width: u16) -> String {
    let unit = Unit::of(plan.peak);
    let adapter = plan.adapter_parameters.map_or_else(String::new, |adapter| {
        format!(", frozen, and {} in each adapter", HumanCount(adapter))
    });
    let mut text = format!(
        "{}: {} parameters{adapter}; {} {}, in {}.\n\n",
        plan.name,
        HumanCount(plan.model_parameters),
        plan.device_name(),
        plan.dtype.name(),
        unit.name
    );
    let header = [
        "Stage",
        "Weights",
        "Optimizer",
        "Gradients",
        "Activations",
        "KV cache",
        "Logits",
        "Peak",
    ];
    let shown = |phase: &Phase| {
        let of = phase.parts;
        [
            of.parameters,
            of.optimizer,
            of.gradients,
            of.activations,
            of.kv_cache,
            of.logits,
        ]
    };
    let rows = plan.phases.iter().map(|phase| {
        let mut row = vec![phase.name()];
        row.extend(shown(phase).map(|bytes| unit.write(bytes)));
        row.push(unit.write(phase.peak));
        row
    });
    text.push_str(&ruled(&header, rows, width, 1, |at| at > 0));
    let said = [vec![plan.verdict()], plan.notes.clone()].concat();
    let _ = write!(text, "\n\n{}\n", paragraphs(&said, width));
    if !plan.remedies.is_empty() {
        let _ = write!(text, "\n{}\n", remedies(plan, unit, width));
    }
    let _ = write!(
        text,
        "\nAssumed:\n{}\n",
        paragraphs(&plan.assumptions, width)
    );
    text
}

impl MemoryPlan {
    /// The device in words.
    pub fn device_name(&self) -> &'static str {
        match self.device {
            DeviceKind::Cpu => "cpu",
            DeviceKind::Cuda => "cuda",
        }
    }

    /// The peak against the device's memory.
    pub fn verdict(&self) -> String {
        let peak = HumanBytes(self.peak);
        match self.device_memory {
            Some(memory) => {
                let share = 100.0 * self.peak as f64 / memory.max(1) as f64;
                let fits = if self.peak <= memory {
                    "it fits"
                } else {
                    "it does not fit"
                };
                format!(
                    "Peak {peak}, {share:.0}% of {}: {fits}.",
                    HumanBytes(memory)
                )
            }
            None => format!(
                "Peak {peak}; how much memory there is is not known: --device-memory says it."
            ),
        }
    }
}

fn remedies(plan: &MemoryPlan, unit: Unit, width: u16) -> String {
    let rows = plan.remedies.iter().map(|remedy| {
        [
            settings(remedy),
            unit.write(remedy.peak),
            remedy.peak_at.clone(),
            if remedy.fits { "yes" } else { "no" }.to_owned(),
            if remedy.changes_results {
                "other"
            } else {
                "same"
            }
            .to_owned(),
        ]
    });
    let header = ["Instead", "Peak", "In", "Fits", "Results"];
    let table = ruled(&header, rows, width, 1, |at| at == 1);
    let said = if plan.remedies.iter().any(|remedy| remedy.fits) {
        "Settings are for --set (commas separate several). Results: the same but for rounding, or those of another training."
    } else {
        "No setting known here is enough: a smaller model, shorter rows or more memory is needed."
    };
    format!("{table}\n\n{}", paragraphs(&[said.to_owned()], width))
}

fn settings(remedy: &Remedy) -> String {
    remedy.set.join(", ")
}

/// The unit of a table's figures.
#[derive(Clone, Copy)]
struct Unit {
    name: &'static str,
    bytes: f64,
}

impl Unit {
    /// That in which the largest figure has at least three digits before or behind the point.
    fn of(largest: u64) -> Self {
        let (name, shift) = if largest >= 1 << 30 {
            ("GiB", 30)
        } else {
            ("MiB", 20)
        };
        Self {
            name,
            bytes: f64::from(1_u32 << shift),
        }
    }

    fn write(self, bytes: u64) -> String {
        let value = bytes as f64 / self.bytes;
        if bytes == 0 {
            "–".to_owned()
        } else if value < 0.005 {
            "<0.01".to_owned()
        } else {
            format!("{value:.2}")
        }
    }
}
