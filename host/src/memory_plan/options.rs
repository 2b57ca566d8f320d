//! What brings the peak down: settings, each alone, then one on top of the other, each with the peak that it leaves.

use serde::Serialize;

use super::question::Question;
use super::{highest, stages};
use crate::device::Dtype;
use crate::model::LoraConfig;

/// A change of the configuration, and what the run needs then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Remedy {
    /// What is set, as it is typed.
    pub set: Vec<String>,
    /// The peak then, in bytes.
    pub peak: u64,
    /// Where it lies then.
    pub peak_at: String,
    /// Whether it is within the device's memory.
    pub fits: bool,
    /// Whether other mathematics come of it: adapters instead of all weights, other rollouts or minibatches. What is left
    /// computes the same as before, but for rounding.
    pub changes_results: bool,
}

impl Remedy {
    /// The flags that set it.
    pub fn typed(&self) -> String {
        let flag = |set: &String| {
            if set.contains(' ') {
                format!("--set '{set}'")
            } else {
                format!("--set {set}")
            }
        };
        self.set.iter().map(flag).collect::<Vec<_>>().join(" ")
    }
}

/// The fewest tokens that a micro-batch is cut down to: below, a GPU and a CPU's threads have too little to do.
const LEAST_TOKENS: usize = 256;

/// A question that differs in one setting.
#[derive(Clone)]
struct Change {
    question: Question,
    set: Vec<String>,
    changes_results: bool,
}

/// One way to change a question: from the question, and the bytes that the peak is to stay within, to the question that is
/// changed no more than needed; `None` where there is nothing to change.
type Step = fn(&Question, u64) -> Option<Change>;

/// In the order in which they are tried: what costs nothing, what costs time, what changes results.
const STEPS: [Step; 6] = [
    smaller_micro_batches,
    recompute,
    bf16,
    two_minibatches,
    lora,
    fewer_rollout_rows,
];

/// Every setting by itself that makes the peak smaller; then settings on top of each other.
pub(super) fn remedies(question: &Question, memory: u64) -> Vec<Remedy> {
    let (now, _) = peak(question);
    let alone = STEPS
        .iter()
        .filter_map(|step| step(question, memory))
        .map(|change| change.judged(memory))
        .filter(|remedy| remedy.peak < now);
    alone.chain(together(question, memory)).collect()
}

/// Settings on top of each other, from the second on: always the first that makes the peak smaller, up to where it is within
/// `memory` or none helps.
fn together(question: &Question, memory: u64) -> Vec<Remedy> {
    let mut so_far = Change::of(question.clone(), Vec::new());
    let mut remedies = Vec::new();
    loop {
        let (now, _) = peak(&so_far.question);
        let mut helping = STEPS
            .iter()
            .filter_map(|step| step(&so_far.question, memory))
            .filter(|change| peak(&change.question).0 < now);
        let next = helping.next();
        drop(helping);
        let (Some(change), true) = (next, now > memory) else {
            break;
        };
        let is_first = so_far.set.is_empty();
        so_far = Change {
            set: merged(&so_far.set, change.set),
            changes_results: so_far.changes_results || change.changes_results,
            question: change.question,
        };
        if !is_first {
            remedies.push(so_far.judged(memory));
        }
    }
    remedies
}

/// Settings of both; the later one where they set the same key.
fn merged(earlier: &[String], later: Vec<String>) -> Vec<String> {
    let key = |set: &String| set.split('=').next().unwrap_or_default().to_owned();
    let mut all: Vec<String> = earlier
        .iter()
        .filter(|set| later.iter().all(|other| key(other) != key(set)))
        .cloned()
        .collect();
    all.extend(later);
    all
}

impl Change {
    fn of(question: Question, set: Vec<String>) -> Self {
        Self {
            question,
            set,
            changes_results: false,
        }
    }

    fn judged(&self, memory: u64) -> Remedy {
        let (peak, peak_at) = peak(&self.question);
        Remedy {
            set: self.set.clone(),
            peak,
            peak_at,
            fits: peak <= memory,
            changes_results: self.changes_results,
        }
    }
}

fn peak(question: &Question) -> (u64, String) {
    let phases = stages::phases(question);
    let highest = highest(&phases).map(|phase| (phase.peak, phase.name()));
    highest.unwrap_or_default()
}

/// The first of ever smaller changes that is enough; where none is, the first with the smallest peak.
fn first_enough(changes: impl Iterator<Item = Change>, memory: u64) -> Option<Change> {
    let mut best: Option<(u64, Change)> = None;
    for change in changes {
        let (peak, _) = peak(&change.question);
        if peak <= memory {
            return Some(change);
        }
        if best.as_ref().is_none_or(|(least, _)| peak < *least) {
            best = Some((peak, change));
        }
    }
    best.map(|(_, change)| change)
}

fn bf16(question: &Question, _: u64) -> Option<Change> {
    if !question.machine.is_gpu() || question.machine.dtype == Dtype::Bf16 {
        return None;
    }
    let mut question = question.clone();
    question.machine.dtype = Dtype::Bf16;
    let change = Change::of(question, vec!["device.dtype=bf16".into()]);
    Some(Change {
        changes_results: true,
        ..change
    })
}

fn recompute(question: &Question, _: u64) -> Option<Change> {
    if question.config.model.recompute {
        return None;
    }
    let mut question = question.clone();
    question.config.model.recompute = true;
    Some(Change::of(question, vec!["model.recompute=true".into()]))
}

fn lora(question: &Question, _: u64) -> Option<Change> {
    if question.config.model.lora.is_some() {
        return None;
    }
    let mut question = question.clone();
    let lora = LoraConfig::default();
    let set = format!("model.lora={{ rank = {} }}", lora.rank);
    question.config.model.lora = Some(lora);
    let change = Change::of(question, vec![set]);
    Some(Change {
        changes_results: true,
        ..change
    })
}

/// Budgets of all stages cut down to powers of two.
fn smaller_micro_batches(question: &Question, memory: u64) -> Option<Change> {
    let config = &question.config;
    let budgets = [
        config.sft.micro_batch_tokens,
        config.reward_model.micro_batch_tokens,
        config.ppo.micro_batch_tokens,
    ];
    // 0 is no limit.
    let unlimited = |budget: usize| if budget == 0 { usize::MAX } else { budget };
    let most = budgets.into_iter().map(unlimited).max()?;
    let sizes = std::iter::successors(Some(1_usize << 17), |size| Some(size / 2));
    let sizes = sizes.take_while(|&size| size >= LEAST_TOKENS);
    let changes = sizes.filter(|&size| size < most).map(|size| {
        let mut question = question.clone();
        let mut set = Vec::new();
        let config = &mut question.config;
        for (key, budget) in [
            ("sft", &mut config.sft.micro_batch_tokens),
            ("reward_model", &mut config.reward_model.micro_batch_tokens),
            ("ppo", &mut config.ppo.micro_batch_tokens),
        ] {
            if unlimited(*budget) > size {
                *budget = size;
                set.push(format!("{key}.micro_batch_tokens={size}"));
            }
        }
        Change::of(question, set)
    });
    first_enough(changes, memory)
}

/// A minibatch that is a whole rollout, cut in two.
fn two_minibatches(question: &Question, _: u64) -> Option<Change> {
    let ppo = &question.config.ppo;
    let rows = ppo.rollout_rows;
    if ppo.minibatch_rows < rows || !rows.is_multiple_of(2) {
        return None;
    }
    let mut question = question.clone();
    question.config.ppo.minibatch_rows = rows / 2;
    let change = Change::of(question, vec![format!("ppo.minibatch_rows={}", rows / 2)]);
    Some(Change {
        changes_results: true,
        ..change
    })
}

/// Rollouts cut down to the largest part of them that is enough, minibatches with them.
fn fewer_rollout_rows(question: &Question, memory: u64) -> Option<Change> {
    let ppo = &question.config.ppo;
    let (all, samples, minibatch) = (ppo.rollout_rows, ppo.samples_per_prompt, ppo.minibatch_rows);
    let parts = std::iter::successors(Some(2_usize), |part| part.checked_mul(2));
    let parts =
        parts.take_while(|&part| all.is_multiple_of(part) && minibatch.is_multiple_of(part));
    let changes = parts
        .filter(|part| (all / part).is_multiple_of(samples))
        .map(|part| {
            let mut question = question.clone();
            let ppo = &mut question.config.ppo;
            (ppo.rollout_rows, ppo.minibatch_rows) = (all / part, minibatch / part);
            let set = vec![
                format!("ppo.rollout_rows={}", all / part),
                format!("ppo.minibatch_rows={}", minibatch / part),
            ];
            Change {
                changes_results: true,
                ..Change::of(question, set)
            }
        });
    first_enough(changes, memory)
}
