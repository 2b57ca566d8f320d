//! Table 2: reward models, trained on × tested on.

use super::comparison::{ComparisonResult, RewardModels};
use super::figures::{NONE, or_none, percent, percent_of, with_interval};
use super::sheet::Sheet;
use crate::eval::{Accuracy, Localisation, Mark, OverSeeds, PairSource};

/// Table 2, and a row per seed as detail.
pub(super) fn sheets(result: &ComparisonResult) -> Vec<Sheet> {
    vec![main(result), per_seed(&result.reward_models)]
}

fn main(result: &ComparisonResult) -> Sheet {
    let models = &result.reward_models;
    let mut sheet = Sheet::new(
        "Table 2. Accuracy of reward models: which response of a pair is the better one, with 95% intervals",
        &[
            "Trained on, scheme",
            "On pairs %",
            "n",
            "On edits %",
            "n",
            "Token AUC",
            "PPO's AUC",
        ],
    );
    for (trained_on, scheme) in rows(models) {
        let cell = |tested_on| {
            let mut cells = models.cells.iter();
            cells.find(|c| {
                c.trained_on == trained_on && c.scheme == scheme && c.tested_on == tested_on
            })
        };
        let [pairs, edits] =
            [PairSource::Pairs, PairSource::Edits].map(|on| cell(on).map(|c| &c.accuracy));
        let mut cells = models.localisation.iter();
        let found = cells.find(|l| l.trained_on == trained_on && l.scheme == scheme);
        sheet.push([
            format!("{trained_on}, {scheme}"),
            rate(pairs),
            n(pairs),
            rate(edits),
            n(edits),
            or_none(found, |l| auc(&l.localisation)),
            or_none(found.and_then(|l| l.of_rewards.overall), |e| {
                format!("{:.2}", e.value)
            }),
        ]);
    }
    if !models.longer_is_better.is_empty() {
        let [pairs, edits] = [PairSource::Pairs, PairSource::Edits].map(|on| {
            models
                .longer_is_better
                .iter()
                .find(|l| l.tested_on == on)
                .map(|l| &l.accuracy)
        });
        sheet.push([
            "longer is better".to_owned(),
            rate(pairs),
            n(pairs),
            rate(edits),
            n(edits),
            NONE.to_owned(),
            NONE.to_owned(),
        ]);
    }
    sheet.note("Pairs and edits are different tests; compare within a column. Ties count half.");
    let marks = || {
        models
            .localisation
            .iter()
            .flat_map(|l| &l.localisation.seeds)
            .map(|s| s.value.mark)
    };
    if marks().any(|m| m == Mark::Defective) {
        sheet.note("Token AUC: how well low scores of the reward head find the defective tokens; 0.5 is chance.");
    }
    if marks().any(|m| m == Mark::Changed) {
        sheet.note("Token AUC (changed): how well low scores of the reward head find the tokens that the edit touched, not ground truth.");
    }
    if marks().next().is_some() {
        sheet.note("PPO's AUC: the same of the token rewards that PPO is given; its intervals are in the details.");
    }
    sheet
}

/// (trained on, scheme) in the order of first appearance.
fn rows(models: &RewardModels) -> Vec<(PairSource, &str)> {
    let cells = models
        .cells
        .iter()
        .map(|c| (c.trained_on, c.scheme.as_str()));
    let localisation = models
        .localisation
        .iter()
        .map(|l| (l.trained_on, l.scheme.as_str()));
    let mut rows = Vec::new();
    for row in cells.chain(localisation) {
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    rows
}

fn rate(accuracy: Option<&OverSeeds<Accuracy>>) -> String {
    percent(accuracy.and_then(|a| a.overall))
}

fn n(accuracy: Option<&OverSeeds<Accuracy>>) -> String {
    or_none(accuracy.and_then(|a| a.overall), |e| e.n.to_string())
}

fn auc(localisation: &OverSeeds<Localisation>) -> String {
    let changed = localisation
        .seeds
        .iter()
        .any(|s| s.value.mark == Mark::Changed);
    let figure = or_none(localisation.overall, |e| {
        with_interval(e.value, e.interval, 2)
    });
    if changed {
        format!("{figure} (changed)")
    } else {
        figure
    }
}

fn per_seed(models: &RewardModels) -> Sheet {
    let mut sheet = Sheet::new(
        "Table 2, per seed",
        &[
            "Trained on, scheme",
            "Measured",
            "Seed",
            "Figure",
            "n",
            "Ties",
            "Mean margin",
        ],
    );
    sheet.detail = true;
    sheet.text_columns.push(1);
    let mut push = |name: &str, measured: String, accuracy: &OverSeeds<Accuracy>| {
        for seed in &accuracy.seeds {
            sheet.push([
                name.to_owned(),
                measured.clone(),
                seed.seed.to_string(),
                or_none(seed.value.rate, |r| {
                    percent_of(r, seed.value.interval) + " %"
                }),
                seed.value.n.to_string(),
                seed.value.ties.to_string(),
                or_none(seed.value.mean_margin, |m| format!("{m:.3}")),
            ]);
        }
    };
    for cell in &models.cells {
        push(
            &format!("{}, {}", cell.trained_on, cell.scheme),
            format!("accuracy on {}", cell.tested_on),
            &cell.accuracy,
        );
    }
    for cell in &models.longer_is_better {
        push(
            "longer is better",
            format!("accuracy on {}", cell.tested_on),
            &cell.accuracy,
        );
    }
    for (cell, what, localisation) in models.localisation.iter().flat_map(|cell| {
        [
            (cell, "AUC", &cell.localisation),
            (cell, "PPO's AUC", &cell.of_rewards),
        ]
    }) {
        for seed in &localisation.seeds {
            let figures = [
                ("pooled", seed.value.pooled),
                ("mean per response", seed.value.per_response),
            ];
            for (how, figure) in figures {
                sheet.push([
                    format!("{}, {}", cell.trained_on, cell.scheme),
                    format!("{what} of {} tokens, {how}", seed.value.mark),
                    seed.seed.to_string(),
                    or_none(figure, |e| with_interval(e.value, e.interval, 3)),
                    or_none(figure, |e| e.n.to_string()),
                    NONE.to_owned(),
                    NONE.to_owned(),
                ]);
            }
        }
    }
    sheet.note("Margins are in the unit of the reward scheme, or in tokens for the longer-is-better rule; n of an AUC counts responses.");
    sheet
}
