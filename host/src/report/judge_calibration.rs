//! What `finegrain judge calibrate` prints.

use super::comparison::JudgeRow;
use super::figures::{or_none, percent, percent_of, with_interval};
use super::judges::{self, RATES};
use super::sheet::Sheet;
use super::tables;
use crate::eval::Calibration;

/// The tables for a terminal of `width` columns.
pub fn render(found: &Calibration, width: u16) -> String {
    let rows: Vec<JudgeRow> = found
        .judges
        .iter()
        .map(|judge| JudgeRow {
            judge: judge.judge.clone(),
            variant: None,
            rates: judge.rates,
        })
        .collect();
    let mut rates = judges::rates(&rows);
    rates.note(RATES);
    if found.judged_by_some > 0 {
        rates.note(format!(
            "{} pairs were answered by some judges of the panel alone; their preference is the mean of the answers.",
            found.judged_by_some
        ));
    }
    tables::blocks(
        &[
            agreement(found),
            rates,
            judges::agreement(&found.agreements),
        ],
        width,
    ) + "\n"
}

fn agreement(found: &Calibration) -> Sheet {
    let mut sheet = Sheet::new(
        format!(
            "Agreement with the known preferences of {} pairs about {} prompts, with 95% intervals over prompts",
            found.pairs, found.prompts
        ),
        &[
            "Judge",
            "Agrees %",
            "n",
            "Longer wins %",
            "Judge − longer wins, points",
        ],
    );
    for judge in &found.judges {
        sheet.push([
            judge.judge.clone(),
            percent(judge.agreement),
            judge.rates.n.to_string(),
            percent(judge.longer_wins),
            or_none(judge.above_longer_wins, |e| {
                with_interval(100.0 * e.value, e.interval.map(|i| i.scaled(100.0)), 1)
            }),
        ]);
    }
    sheet.push([
        "always the first".to_owned(),
        percent_of(0.5, None),
        found.pairs.to_string(),
        String::new(),
        String::new(),
    ]);
    sheet.note(
        "Asked in both orders; a pair of which the judge prefers neither, or each once, counts half. Longer wins: the longer \
         response, by characters, on the same pairs; shorter wins is 100 minus it. A judge whose difference has 0 in its interval, \
         or none because it differs from the length on fewer than six prompts, is not shown to know more.",
    );
    sheet
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::JudgeCalibration;
    use crate::eval::JudgeRates;
    use crate::eval::statistics::{Estimate, Interval};

    #[test]
    fn the_baselines_stand_beside_the_judge() {
        let estimate = |value: f64, low: f64, high: f64| {
            Some(Estimate {
                value,
                se: None,
                interval: Some(Interval { low, high }),
                n: 200,
            })
        };
        let judge = JudgeCalibration {
            judge: "claude".to_owned(),
            agreement: estimate(0.653, 0.61, 0.69),
            longer_wins: estimate(0.622, 0.58, 0.66),
            above_longer_wins: estimate(0.031, -0.012, 0.074),
            rates: JudgeRates {
                n: 248,
                flips: estimate(0.12, 0.08, 0.16),
                first_position: estimate(0.55, 0.51, 0.59),
                decided_verdicts: 490,
                longer_preferred: estimate(0.7, 0.64, 0.76),
                of_different_length: 210,
                failures: 2,
                identical: 0,
            },
        };
        let found = Calibration {
            pairs: 250,
            prompts: 200,
            judges: vec![judge],
            agreements: Vec::new(),
            judged_by_some: 0,
        };
        let text = render(&found, tables::WIDTH);
        for words in [
            "250 pairs about 200 prompts",
            "65.3 [61.0, 69.0]  248  62.2 [58.0, 66.0]              3.1 [-1.2, 7.4]",
            "always the first               50.0  250",
            "12.0 [8.0, 16.0]",
        ] {
            assert!(text.contains(words), "no {words:?} in\n{text}");
        }
        assert!(!text.contains("panel"), "{text}");
        assert!(
            text.lines().all(|line| line.chars().count() <= 100),
            "{text}"
        );
    }
}
