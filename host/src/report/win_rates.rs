//! Table 1: win rates, and what their differences support.

use super::comparison::{ComparisonResult, WinRateRow};
use super::figures::{or_none, percent, percent_of};
use super::sheet::Sheet;
use crate::eval::WinRate;

/// Table 1, and a row per seed as detail.
pub(super) fn sheets(result: &ComparisonResult) -> Vec<Sheet> {
    vec![main(result), per_seed(result)]
}

fn main(result: &ComparisonResult) -> Sheet {
    let mut sheet = Sheet::new(
        format!(
            "Table 1. Win rate against {}, judged by {} in both orders, with 95% intervals",
            result.reference, result.judge
        ),
        &[
            "Variant",
            "Win rate %",
            "n",
            "Length-controlled %",
            "Length",
            "Flips",
            "Failed",
        ],
    );
    for row in &result.win_rates {
        let sum = |of: fn(&WinRate) -> usize| -> String {
            row.win_rate
                .seeds
                .iter()
                .map(|s| of(&s.value))
                .sum::<usize>()
                .to_string()
        };
        sheet.push([
            row.variant.clone(),
            percent(row.win_rate.overall),
            or_none(row.win_rate.overall, |e| e.n.to_string()),
            percent(row.length_controlled.overall),
            lengths(row),
            sum(|w| w.flips),
            sum(|w| w.failures),
        ]);
    }
    for row in &result.win_rates {
        if let Some(verdict) = &row.verdict {
            sheet.note(verdict.text.clone());
        }
    }
    if result.seeds.len() > 1 {
        for row in &result.win_rates {
            let seeds = row.win_rate.seeds.iter();
            let rates: Vec<String> = seeds
                .map(|s| {
                    format!(
                        "{} (seed {})",
                        or_none(s.value.rate, |r| percent_of(r, None)),
                        s.seed
                    )
                })
                .collect();
            sheet.note(format!(
                "{}, win rate per seed: {}.",
                row.variant,
                rates.join(", ")
            ));
        }
    }
    sheet.note(
        "Length: mean characters of the model's and of the reference's responses. Ties count half.",
    );
    sheet.note(if result.seeds.len() > 1 {
        "n counts prompts; flips and failures are summed over seeds. Intervals cover seeds and prompts, but a few seeds \
         show less variation than there is."
    } else {
        "One seed: intervals cover the choice of prompts, not the variation between training runs."
    });
    if result
        .win_rates
        .iter()
        .filter(|r| r.difference.is_some())
        .count()
        > 1
    {
        sheet.note(
            "p-values are of the paired bootstrap; Holm's correction over all variants decides what is said, and intervals are \
             uncorrected.",
        );
    }
    sheet
}

/// The mean over seeds of both sides' mean lengths: `412 / 396`.
fn lengths(row: &WinRateRow) -> String {
    let side = |of: fn(&WinRate) -> Option<f64>| {
        let lengths: Vec<f64> = row
            .win_rate
            .seeds
            .iter()
            .filter_map(|s| of(&s.value))
            .collect();
        or_none(crate::eval::statistics::mean(&lengths), |l| {
            format!("{l:.0}")
        })
    };
    format!(
        "{} / {}",
        side(|w| w.mean_length_model),
        side(|w| w.mean_length_reference)
    )
}

fn per_seed(result: &ComparisonResult) -> Sheet {
    let mut sheet = Sheet::new(
        "Table 1, per seed",
        &[
            "Variant",
            "Seed",
            "Win rate %",
            "SE",
            "n",
            "Wins / ties / losses",
            "Flips",
            "Identical",
            "Failed",
            "Length-controlled %",
            "Slope",
        ],
    );
    sheet.detail = true;
    for row in &result.win_rates {
        for (own, control) in row.win_rate.seeds.iter().zip(&row.length_controlled.seeds) {
            let WinRate {
                wins, ties, losses, ..
            } = own.value;
            sheet.push([
                row.variant.clone(),
                own.seed.to_string(),
                or_none(own.value.rate, |r| percent_of(r, own.value.interval)),
                or_none(own.value.se, |se| format!("{:.1}", 100.0 * se)),
                own.value.n.to_string(),
                format!("{wins} / {ties} / {losses}"),
                own.value.flips.to_string(),
                own.value.identical.to_string(),
                own.value.failures.to_string(),
                or_none(control.value, |c| percent_of(c.rate, c.interval)),
                or_none(control.value, |c| format!("{:.2}", c.slope)),
            ]);
        }
    }
    sheet.note(
        "SE is one standard error, what AlpacaFarm prints after ±; the brackets are 95% intervals.",
    );
    sheet.note("Slope: above 0, the judge prefers the longer response.");
    sheet
}
