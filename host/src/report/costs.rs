//! Table 3: what training cost, and how soon PPO was as good as it got.

use super::comparison::{ComparisonResult, CostRow, RunCost};
use super::figures::{NONE, count_span, duration, duration_span, or_none};
use super::sheet::Sheet;
use crate::eval::statistics::mean;
use crate::eval::{EvaluationPoint, Milestone};

/// Picks one milestone of a run.
type Pick = fn(&RunCost) -> Option<Milestone>;

/// Table 3: three lines a variant, one a milestone.
pub(super) fn sheets(result: &ComparisonResult) -> Vec<Sheet> {
    let mut sheet = Sheet::new(
        "Table 3. Training cost, and what PPO spent until it reached a score",
        &[
            "Variant",
            "Reward model",
            "PPO",
            "Milestone",
            "Wall time",
            "Samples",
            "Optimizer steps",
        ],
    );
    sheet.text_columns.push(3);
    for row in &result.costs {
        let milestones: [(&str, Pick); 3] = [
            ("best", |c| c.efficiency?.to_best),
            ("95% of gain", |c| c.efficiency?.to_95_percent),
            ("baseline's best", |c| c.to_baseline_best),
        ];
        for (line, (name, of)) in milestones.into_iter().enumerate() {
            if name == "baseline's best" && row.variant == result.baseline {
                continue;
            }
            let [variant, reward_model, ppo] = if line == 0 {
                totals(row)
            } else {
                Default::default()
            };
            let [wall, samples, steps] = milestone(row, of);
            sheet.push([
                variant,
                reward_model,
                ppo,
                reached(row, name, of),
                wall,
                samples,
                steps,
            ]);
        }
    }
    sheet.note("a–b: not yet at evaluation a, first seen at evaluation b; the moment itself lies between them.");
    sheet.note("95% of gain: the first score plus 95% of what the run gained over it. Reward model and PPO: whole stages.");
    if result.seeds.len() > 1 {
        sheet.note("Means over seeds; a milestone that only some seeds reached says how many, and averages those.");
    }
    vec![sheet]
}

fn totals(row: &CostRow) -> [String; 3] {
    let average = |of: fn(&RunCost) -> Option<f64>| {
        mean(
            &row.seeds
                .iter()
                .filter_map(|s| of(&s.value))
                .collect::<Vec<_>>(),
        )
    };
    [
        row.variant.clone(),
        or_none(average(|c| c.reward_model_seconds), duration),
        or_none(average(|c| Some(c.ppo_seconds)), duration),
    ]
}

/// The milestone's name, and how many seeds reached it where not all did.
fn reached(row: &CostRow, name: &str, of: Pick) -> String {
    let reached = row.seeds.iter().filter(|s| of(&s.value).is_some()).count();
    if reached == row.seeds.len() || reached == 0 {
        name.to_owned()
    } else {
        format!("{name} ({reached} of {} seeds)", row.seeds.len())
    }
}

/// Wall time, samples and optimizer steps, each as the span between two evaluations.
fn milestone(row: &CostRow, of: Pick) -> [String; 3] {
    let found: Vec<Milestone> = row.seeds.iter().filter_map(|s| of(&s.value)).collect();
    let span = |figure: fn(&EvaluationPoint) -> f64| {
        let ends: Vec<f64> = found.iter().map(|m| figure(&m.at)).collect();
        // A milestone at the very first evaluation has none before it: its span is a point.
        let starts: Vec<f64> = found
            .iter()
            .map(|m| figure(&m.previous.unwrap_or(m.at)))
            .collect();
        let (from, to) = (mean(&starts)?, mean(&ends)?);
        Some(((from < to).then_some(from), to))
    };
    let Some((from, to)) = span(|p| p.wall_seconds) else {
        return ["never", NONE, NONE].map(str::to_owned);
    };
    [
        duration_span(from, to),
        or_none(span(|p| p.samples as f64), |(from, to)| {
            count_span(from, to)
        }),
        or_none(span(|p| p.optimizer_steps as f64), |(from, to)| {
            count_span(from, to)
        }),
    ]
}
