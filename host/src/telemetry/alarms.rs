//! Alarms: a state machine over the lines of `metrics.jsonl`, and nothing else.

mod config;

use std::collections::{BTreeSet, VecDeque};
use std::fmt;

use serde_json::Value;

pub use config::{
    Action, AlarmsConfig, EntropyCollapse, KlRunaway, LengthBlowUp, NotFiniteAlarm,
    OverOptimisation,
};

use super::line::MetricLine;
use crate::error::Error;

/// Steps over which figures are averaged: one odd rollout is no trend.
const WINDOW: usize = 3;

/// An alarm that went off.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Its key in `[alarms]`.
    pub alarm: &'static str,
    /// What the configuration asks for.
    pub action: Action,
    /// The stage's step.
    pub step: u64,
    /// Figure and threshold.
    pub what: String,
    /// What may help.
    pub hint: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "alarm {} at step {}: {}",
            self.alarm, self.step, self.what
        )
    }
}

impl Finding {
    /// The error with which a gate stops a stage.
    pub fn gate(&self) -> Error {
        Error::gate(self.to_string()).hint(format!(
            "{}; or let the run go on: --set alarms.{}.action=warn",
            self.hint, self.alarm
        ))
    }
}

/// The mean of the last few values.
#[derive(Debug, Default)]
struct Recent(VecDeque<f64>);

impl Recent {
    fn push(&mut self, value: f64) {
        self.0.push_back(value);
        if self.0.len() > WINDOW {
            self.0.pop_front();
        }
    }

    /// `None` until a value is there.
    fn mean(&self) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.iter().sum::<f64>() / self.0.len() as f64)
    }

    /// `None` until there are enough.
    fn full_mean(&self) -> Option<f64> {
        (self.0.len() == WINDOW).then(|| self.mean())?
    }
}

/// A figure's first value and its recent mean.
#[derive(Debug, Default)]
struct Trend {
    first: Option<f64>,
    recent: Recent,
}

impl Trend {
    /// First value and recent mean, once there are enough, where the line has the figure.
    fn push(&mut self, value: Option<f64>) -> Option<(f64, f64)> {
        let value = value?;
        let first = *self.first.get_or_insert(value);
        self.recent.push(value);
        Some((first, self.recent.full_mean()?))
    }
}

/// An evaluation with the reward at its time.
#[derive(Clone, Copy, Debug)]
struct Evaluation {
    step: u64,
    score: f64,
    standard_error: f64,
    /// Missing at step 0, until the first rollout, which the policy of step 0 has sampled.
    reward: Option<f64>,
}

/// What has been seen of a stage.
#[derive(Debug)]
pub struct Alarms {
    config: AlarmsConfig,
    gone_off: BTreeSet<&'static str>,
    kl: Trend,
    entropy: Trend,
    length: Trend,
    eos: Trend,
    reward: Recent,
    /// The step and the standard error of the evaluation that is about to be told.
    standard_error: Option<(u64, f64)>,
    best: Option<Evaluation>,
}

impl Alarms {
    /// Alarms that have seen nothing.
    pub fn new(config: &AlarmsConfig) -> Self {
        Self {
            config: config.clone(),
            gone_off: BTreeSet::new(),
            kl: Trend::default(),
            entropy: Trend::default(),
            length: Trend::default(),
            eos: Trend::default(),
            reward: Recent::default(),
            standard_error: None,
            best: None,
        }
    }

    /// What goes off over some lines, from the first to the last.
    pub fn over(config: &AlarmsConfig, lines: &[MetricLine]) -> Vec<Finding> {
        let mut alarms = Self::new(config);
        lines.iter().flat_map(|line| alarms.observe(line)).collect()
    }

    /// Takes the next line of a stage; returns the alarms that go off with it. Each goes off once.
    pub fn observe(&mut self, line: &MetricLine) -> Vec<Finding> {
        let found = [
            self.not_finite(line),
            self.kl_runaway(line),
            self.entropy_collapse(line),
            self.length_blow_up(line),
            self.over_optimisation(line),
        ];
        found
            .into_iter()
            .flatten()
            .filter(|finding| finding.action != Action::Off && self.gone_off.insert(finding.alarm))
            .collect()
    }

    fn not_finite(&self, line: &MetricLine) -> Option<Finding> {
        let (name, _) = line
            .values
            .iter()
            .find(|(_, value)| **value == Value::Null)?;
        Some(Finding {
            alarm: "not_finite",
            action: self.config.not_finite.action,
            step: line.step,
            what: format!("{name} is not finite"),
            hint: "lower the learning rate or max_grad_norm, or warm up longer",
        })
    }

    fn kl_runaway(&mut self, line: &MetricLine) -> Option<Finding> {
        let (_, mean) = self.kl.push(line.get("kl/response_k1"))?;
        let above = self.config.kl_runaway.above;
        (mean > above).then(|| Finding {
            alarm: "kl_runaway",
            action: self.config.kl_runaway.action,
            step: line.step,
            what: format!(
                "kl/response_k1 is {mean:.2} nats, mean of {WINDOW} steps; the threshold is {above}"
            ),
            hint: "raise ppo.kl_coef, or lower ppo.learning_rate",
        })
    }

    fn entropy_collapse(&mut self, line: &MetricLine) -> Option<Finding> {
        let (first, mean) = self.entropy.push(line.get("policy/entropy"))?;
        let below = self.config.entropy_collapse.below;
        (mean < below * first).then(|| Finding {
            alarm: "entropy_collapse",
            action: self.config.entropy_collapse.action,
            step: line.step,
            what: format!(
                "policy/entropy is {mean:.3} nats, mean of {WINDOW} steps; the threshold is {below} of the first step's \
                 {first:.3}"
            ),
            hint: "raise ppo.entropy_coef or ppo.kl_coef, or lower ppo.learning_rate",
        })
    }

    fn length_blow_up(&mut self, line: &MetricLine) -> Option<Finding> {
        let config = &self.config.length_blow_up;
        // Both are pushed before either is looked at.
        let length = self.length.push(line.get("response/mean_length"));
        let eos = self.eos.push(line.get("response/eos_rate"));
        let too_long = length.filter(|(first, mean)| *mean > config.factor * first);
        let endless = eos.filter(|(first, mean)| *mean < config.eos_below * first);
        let what = if let Some((first, mean)) = too_long {
            format!(
                "response/mean_length is {mean:.1} tokens, mean of {WINDOW} steps; the threshold is {} times the first \
                 step's {first:.1}",
                config.factor
            )
        } else if let Some((first, mean)) = endless {
            format!(
                "response/eos_rate is {mean:.3}, mean of {WINDOW} steps; the threshold is {} of the first step's {first:.3}",
                config.eos_below
            )
        } else {
            return None;
        };
        Some(Finding {
            alarm: "length_blow_up",
            action: config.action,
            step: line.step,
            what,
            hint: "look whether every further token pays (reward/* by response), or set ppo.missing_eos",
        })
    }

    fn over_optimisation(&mut self, line: &MetricLine) -> Option<Finding> {
        if let Some(total) = line.get("reward/total") {
            let not_the_scheme = ["reward/kl", "reward/missing_eos"];
            let rest: f64 = not_the_scheme
                .iter()
                .filter_map(|name| line.get(name))
                .sum();
            self.reward.push(total - rest);
            let mean = self.reward.mean();
            if let Some(best) = &mut self.best {
                best.reward = best.reward.or(mean);
            }
        }
        if let Some(error) = line.get("evaluation/standard_error") {
            self.standard_error = Some((line.step, error));
        }
        let score = line.get("evaluation/score")?;
        // Without its noise, a fall says nothing.
        let (_, standard_error) = self.standard_error.filter(|(step, _)| *step == line.step)?;
        let now = Evaluation {
            step: line.step,
            score,
            standard_error,
            reward: self.reward.mean(),
        };
        let Some(best) = self.best.filter(|best| best.score >= score) else {
            self.best = Some(now);
            return None;
        };
        let config = &self.config.over_optimisation;
        let noise = config.standard_errors * best.standard_error.hypot(standard_error);
        let (before, after) = (best.reward?, now.reward?);
        (best.score - score > noise && after > before).then(|| Finding {
            alarm: "over_optimisation",
            action: config.action,
            step: line.step,
            what: format!(
                "evaluation/score is {score:.3}, {:.3} below that of step {}, and the threshold is {noise:.3}, while the \
                 reward rose from {before:.3} to {after:.3}",
                best.score - score,
                best.step
            ),
            hint: "raise ppo.kl_coef, stop earlier (evaluation.checkpoint = \"best\"), or look at what the reward model pays for",
        })
    }
}

#[cfg(test)]
mod tests;
