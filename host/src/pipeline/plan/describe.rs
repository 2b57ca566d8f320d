//! A plan in words: one line before a run, a table where nothing is to be run.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::{Plan, PlannedStage, servers};
use crate::report::tables::ruled;

/// Settings that are named before the others are counted.
const NAMED: usize = 2;

/// `3 variants × 3 seeds: 24 stages, 9 cached, 15 to compute, about 12 min`.
pub fn in_one_line(plan: &Plan) -> String {
    if plan.runs.is_empty() {
        return "nothing to run: every run that was named is finished".to_owned();
    }
    let variants: BTreeSet<&str> = plan.runs.iter().map(|run| run.name.as_str()).collect();
    let seeds: BTreeSet<u64> = plan.runs.iter().map(|run| run.seed).collect();
    let mut line = if plan.runs.len() == variants.len() * seeds.len() {
        format!(
            "{} × {}",
            count(variants.len(), "variant"),
            count(seeds.len(), "seed")
        )
    } else {
        format!(
            "{} of {}",
            count(plan.runs.len(), "run"),
            count(variants.len(), "variant")
        )
    };
    let _ = write!(
        line,
        ": {}, {} cached, {} to compute",
        count(plan.stages.len(), "stage"),
        plan.cached,
        plan.to_compute
    );
    if plan.to_compute > 0 {
        let _ = write!(line, ", {}", time(plan));
    }
    line
}

/// The time that everything may take.
fn time(plan: &Plan) -> String {
    if plan.without_estimate == plan.to_compute {
        return "time unknown: the store has no such stages to go by".to_owned();
    }
    let differ = plan
        .stages
        .iter()
        .filter_map(|stage| stage.estimate.as_ref())
        .any(|estimate| !estimate.differs_in.is_empty());
    let mut words = format!(
        "{} {}",
        if differ { "very roughly" } else { "about" },
        duration(plan.estimated_seconds)
    );
    if plan.without_estimate > 0 {
        let _ = write!(
            words,
            " and {} of unknown time",
            count(plan.without_estimate, "stage")
        );
    }
    words
}

/// Every stage, one a line, in `width` columns, and what is to be known about the estimates.
pub fn table(plan: &Plan, width: u16) -> String {
    let rows = plan.stages.iter().map(|stage| {
        let seeds: Vec<String> = stage.seeds.iter().map(u64::to_string).collect();
        [
            stage.title.clone(),
            stage.hash.clone(),
            seeds.join(", "),
            format!("{} of {}", stage.runs, plan.runs.len()),
            if stage.cached { "cached" } else { "compute" }.to_owned(),
            estimate(stage),
        ]
    });
    let header = ["Stage", "Hash", "Seed", "Runs", "State", "Estimate"];
    let mut text = ruled(&header, rows, width, 2, |at| at == 2);
    let _ = write!(text, "\n\n{}.\n", in_one_line(plan));
    if plan.stages.iter().any(|stage| stage.estimate.is_some()) {
        text.push_str(
            "An estimate is the median time of the stored stages that are most alike, whatever machine and threads they \
             ran on;\nthe sum is for one stage after another.\n",
        );
    }
    if let Some(servers) = &plan.servers {
        text.push_str(&servers::table(servers, width));
    }
    text
}

fn estimate(stage: &PlannedStage) -> String {
    let Some(estimate) = &stage.estimate else {
        return if stage.cached { "" } else { "unknown" }.to_owned();
    };
    let mut words = format!(
        "{}, as {} before",
        duration(estimate.seconds),
        estimate.from
    );
    let differing = &estimate.differs_in;
    if !differing.is_empty() {
        let named: Vec<&str> = differing.iter().take(NAMED).map(String::as_str).collect();
        let _ = write!(words, " with other {}", named.join(", "));
        if differing.len() > NAMED {
            let _ = write!(words, " and {} more", differing.len() - NAMED);
        }
    }
    words
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// `0.4 s`, `12 s`, `12 min`, `3.5 h`.
fn duration(seconds: f64) -> String {
    match seconds {
        ..9.95 => format!("{seconds:.1} s"),
        ..99.5 => format!("{seconds:.0} s"),
        ..5970.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Estimate, PlannedRun};
    use super::*;

    fn stage(cached: bool, estimate: Option<Estimate>) -> PlannedStage {
        PlannedStage {
            stage: "sft".into(),
            hash: "0".into(),
            title: "sft".into(),
            runs: 1,
            seeds: [1].into(),
            cached,
            estimate,
        }
    }

    fn alike(seconds: f64, differs_in: &[&str]) -> Estimate {
        Estimate {
            seconds,
            from: 2,
            differs_in: differs_in.iter().map(ToString::to_string).collect(),
        }
    }

    fn plan(stages: Vec<PlannedStage>, runs: &[(&str, u64)]) -> Plan {
        let cached = stages.iter().filter(|stage| stage.cached).count();
        let known = stages.iter().filter_map(|stage| stage.estimate.as_ref());
        Plan {
            runs: runs
                .iter()
                .map(|&(name, seed)| PlannedRun {
                    name: name.into(),
                    seed,
                    stages: Vec::new(),
                })
                .collect(),
            cached,
            to_compute: stages.len() - cached,
            estimated_seconds: known.clone().map(|estimate| estimate.seconds).sum(),
            without_estimate: stages.len() - cached - known.count(),
            stages,
            servers: None,
        }
    }

    #[test]
    fn the_line_says_what_is_there_what_is_not_and_how_far_the_time_can_be_trusted() {
        let runs = [("a", 1), ("a", 2), ("b", 1), ("b", 2)];
        let line = |stages, runs: &[_]| in_one_line(&plan(stages, runs));
        assert_eq!(
            line(vec![stage(true, None)], &runs),
            "2 variants × 2 seeds: 1 stage, 1 cached, 0 to compute"
        );
        assert_eq!(
            line(
                vec![stage(true, None), stage(false, Some(alike(720.0, &[])))],
                &runs[..1]
            ),
            "1 variant × 1 seed: 2 stages, 1 cached, 1 to compute, about 12 min"
        );
        let unsure = vec![
            stage(false, Some(alike(3.0, &["ppo.steps"]))),
            stage(false, None),
        ];
        assert_eq!(
            line(unsure, &runs[..3]),
            "3 runs of 2 variants: 2 stages, 0 cached, 2 to compute, very roughly 3.0 s and 1 stage of unknown time"
        );
        assert!(
            line(vec![stage(false, None)], &runs)
                .ends_with("time unknown: the store has no such stages to go by")
        );
        assert_eq!(
            estimate(&stage(false, Some(alike(3.0, &["a", "b", "c", "d"])))),
            "3.0 s, as 2 before with other a, b and 2 more"
        );
    }

    #[test]
    fn durations_have_two_figures() {
        for (seconds, words) in [
            (0.42, "0.4 s"),
            (12.3, "12 s"),
            (100.0, "2 min"),
            (12600.0, "3.5 h"),
        ] {
            assert_eq!(duration(seconds), words);
        }
    }
}
