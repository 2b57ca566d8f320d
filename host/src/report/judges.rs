//! How the judge judged: flips, what stood first, what was longer; of a panel, each judge and how far they agree.

use super::comparison::{ComparisonResult, JudgeRow};
use super::figures::{or_none, percent, with_interval};
use super::sheet::Sheet;
use crate::eval::{Agreement, WinRate};

/// The judges over all variants, a panel's win rates and agreement, and a row for each variant as detail.
pub(super) fn sheets(result: &ComparisonResult) -> Vec<Sheet> {
    let judging = &result.judging;
    let mut all = rates(&judging.judges);
    all.note(format!("Over all variants and seeds. {RATES}"));
    if judging.judges.iter().any(is_of_older_outcomes) {
        all.note(
            "A dash under First preferred: these outcomes were stored before the verdicts of each order were; `finegrain run` \
             on the run's config.toml judges again.",
        );
    }
    if judging.judged_by_some > 0 {
        all.note(format!(
            "{} contests were answered by some judges of the panel alone; their preference is the mean of the answers.",
            judging.judged_by_some
        ));
    }
    let mut of_variants = rates(&judging.of_variants);
    of_variants.title += ", per variant";
    of_variants.detail = true;
    vec![
        all,
        of_members(result),
        agreement(&judging.agreements),
        of_variants,
    ]
}

/// What the columns of [`rates`] mean.
pub(super) const RATES: &str = "Each contest in both orders; a resample draws prompts. Flips: the two orders prefer different \
    responses. First preferred: of single verdicts for either response, those for the one shown first; 50 is no bias. Longer \
    preferred: of decided contests whose lengths differ. Same: equal texts, which are not asked about.";

/// A row a judge, with the variant behind it where there is one.
pub(super) fn rates(rows: &[JudgeRow]) -> Sheet {
    let mut sheet = Sheet::new(
        "How the judge judged",
        &[
            "Judge",
            "n",
            "Flips %",
            "First preferred %",
            "of",
            "Longer preferred %",
            "of",
            "Failed",
            "Same",
        ],
    );
    for JudgeRow {
        judge,
        variant,
        rates,
    } in rows
    {
        sheet.push([
            match variant {
                Some(variant) => format!("{judge}, {variant}"),
                None => judge.clone(),
            },
            rates.n.to_string(),
            percent(rates.flips),
            percent(rates.first_position),
            rates.decided_verdicts.to_string(),
            percent(rates.longer_preferred),
            rates.of_different_length.to_string(),
            rates.failures.to_string(),
            rates.identical.to_string(),
        ]);
    }
    sheet
}

/// The win rates of a panel's judges, each alone.
fn of_members(result: &ComparisonResult) -> Sheet {
    let mut sheet = Sheet::new(
        "Win rate by each judge of the panel",
        &["Judge", "Variant", "Win rate %", "n", "Flips", "Failed"],
    );
    sheet.text_columns.push(1);
    for row in &result.judging.members {
        let seeds = row.win_rate.seeds.iter();
        let sum = |of: fn(&WinRate) -> usize| {
            let counts = seeds.clone().map(|seed| of(&seed.value));
            counts.sum::<usize>().to_string()
        };
        sheet.push([
            row.judge.clone(),
            row.variant.clone(),
            percent(row.win_rate.overall),
            or_none(row.win_rate.overall, |e| e.n.to_string()),
            sum(|w| w.flips),
            sum(|w| w.failures),
        ]);
    }
    sheet.note("Each judge as if it had judged alone; Table 1 has the mean preference of those that answered.");
    sheet
}

/// How far every two judges of a panel agree.
pub(super) fn agreement(rows: &[Agreement]) -> Sheet {
    let mut sheet = Sheet::new(
        "Agreement between the judges of the panel",
        &["Judges", "Cohen's κ", "Same verdict %", "n"],
    );
    for row in rows {
        sheet.push([
            format!("{} and {}", row.first, row.second),
            or_none(row.kappa, |kappa| {
                with_interval(kappa.value, kappa.interval, 2)
            }),
            percent(row.same),
            row.n.to_string(),
        ]);
    }
    sheet.note("Over win, tie and loss of contests that both answered; κ is 1 where they always agree and 0 where they agree as \
                often as chance would, with each judge's own shares of the three.");
    sheet
}

/// Whether contests were decided without a single verdict in the record.
fn is_of_older_outcomes(row: &JudgeRow) -> bool {
    row.rates.decided_verdicts == 0 && row.rates.of_different_length > 0
}
