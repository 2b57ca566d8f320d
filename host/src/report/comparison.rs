//! The complete result of a comparison: the value behind the printed tables, and the JSON that a program reads.
//!
//! Everything is a plain struct of finite numbers; what could not be measured is `null`. Rates are fractions, times are
//! seconds.

mod judging;

use serde::{Deserialize, Serialize};

pub use judging::{JudgeRow, Judging, MemberWinRate};

use crate::data::asked::Asked;
use crate::error::{Error, Result};
use crate::eval::statistics::{Bootstrap, Estimate, Sharing, mean};
use crate::eval::{
    Accuracy, AccuracyCell, Circumstances, Efficiency, EvaluationPoint, LengthControl,
    Localisation, Milestone, OverSeeds, PairSource, PairedDifference, SeedOutcomes, Seeded,
    Verdict, WinRate, first_reaching,
};

/// What `compare` found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ComparisonResult {
    /// Version of this layout: [`ComparisonResult::FORMAT`].
    pub format: u32,
    /// Who judged.
    pub judge: String,
    /// Whose responses the variants were compared with.
    pub reference: String,
    /// The seeds of the runs; every variant ran under every one.
    pub seeds: Vec<u64>,
    /// Name of the variant that the others are compared with.
    pub baseline: String,
    /// The variants, in the order of the tables.
    pub variants: Vec<Variant>,
    /// Table 1, in the order of `variants`.
    pub win_rates: Vec<WinRateRow>,
    /// How the judge judged; empty in a result from before it was counted.
    #[serde(default)]
    pub judging: Judging,
    /// Table 2.
    pub reward_models: RewardModels,
    /// Table 3, in the order of `variants`.
    pub costs: Vec<CostRow>,
    /// What servers were asked, by stage and plugin; empty where nobody was asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asked: Vec<AskedRow>,
    /// Rows that were not used, by stage and reason.
    #[serde(default)]
    pub set_aside: Vec<SetAsideRow>,
    /// What a reader should know beside the tables, whole sentences.
    pub notes: Vec<String>,
}

impl ComparisonResult {
    /// The version that this code writes and reads.
    pub const FORMAT: u32 = 2;

    /// The result with the correction for several comparisons, and with the verdict on every difference.
    #[must_use]
    pub fn concluded(mut self, judge_is_reward_model: bool) -> Self {
        let length = |row: &WinRateRow| {
            let lengths = row.win_rate.seeds.iter();
            mean(
                &lengths
                    .filter_map(|s| s.value.mean_length_model)
                    .collect::<Vec<_>>(),
            )
        };
        let baseline_length = self
            .win_rates
            .iter()
            .find(|row| row.variant == self.baseline)
            .and_then(length)
            .filter(|&l| l > 0.0);
        let mut differences: Vec<&mut PairedDifference> = self
            .win_rates
            .iter_mut()
            .filter_map(|row| row.difference.as_mut())
            .collect();
        PairedDifference::correct(&mut differences);
        let comparisons = differences.len();
        for row in &mut self.win_rates {
            let about = Circumstances {
                variant: &row.variant,
                baseline: &self.baseline,
                seeds: self.seeds.len(),
                comparisons,
                judge_is_reward_model,
                length_ratio: length(row)
                    .zip(baseline_length)
                    .map(|(own, other)| own / other),
                length_controlled: row.length_controlled_difference,
            };
            row.verdict = row.difference.as_ref().map(|d| Verdict::of(d, &about));
        }
        self
    }

    /// The result as JSON, indented, with a newline at the end.
    ///
    /// # Errors
    /// None that a result of finite numbers can cause.
    pub fn to_json(&self) -> Result<String> {
        let json = serde_json::to_string_pretty(self).map_err(|error| {
            Error::internal(format!("cannot write the comparison as JSON: {error}"))
        })?;
        Ok(json + "\n")
    }

    /// A result from its JSON.
    ///
    /// # Errors
    /// JSON that is no comparison, or one of another version.
    pub fn from_json(json: &str) -> Result<Self> {
        let result: Self = serde_json::from_str(json)
            .map_err(|error| Error::input(format!("not a comparison: {error}")))?;
        if result.format != Self::FORMAT {
            return Err(Error::input(format!(
                "the comparison has format {}; format {} is accepted",
                result.format,
                Self::FORMAT
            )));
        }
        Ok(result)
    }
}

/// What was compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variant {
    /// Name, from its configuration.
    pub name: String,
    /// What its reward model was trained on; `None` where its reward scheme needs no reward model.
    pub trained_on: Option<PairSource>,
    /// Its reward scheme.
    pub scheme: String,
}

/// A row of Table 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WinRateRow {
    /// Name of the variant.
    pub variant: String,
    /// Its win rate against the reference.
    pub win_rate: OverSeeds<WinRate>,
    /// Its win rate at equal lengths.
    pub length_controlled: OverSeeds<Option<LengthControl>>,
    /// Its win rate minus the baseline's, paired on prompts; `None` for the baseline itself.
    pub difference: Option<PairedDifference>,
    /// The same at equal lengths.
    #[serde(default)]
    pub length_controlled_difference: Option<Estimate>,
    /// What the difference supports, in words: see [`ComparisonResult::concluded`].
    #[serde(default)]
    pub verdict: Option<Verdict>,
}

impl WinRateRow {
    /// The row of a variant from its outcomes under every seed; `baseline` holds the baseline's outcomes under the same
    /// seeds, `None` for the baseline itself. Rows of one table share a bootstrap, so that they share resamples.
    ///
    /// # Errors
    /// Seeds that differ between variant and baseline, or a prompt id that a seed has twice.
    pub fn new(
        variant: impl Into<String>,
        outcomes: &[SeedOutcomes],
        baseline: Option<&[SeedOutcomes]>,
        sharing: Sharing,
        bootstrap: &Bootstrap,
    ) -> Result<Self> {
        let difference =
            |baseline| PairedDifference::over_seeds(outcomes, baseline, sharing, bootstrap);
        Ok(Self {
            variant: variant.into(),
            win_rate: WinRate::over_seeds(outcomes, sharing, bootstrap)?,
            length_controlled: LengthControl::over_seeds(outcomes, sharing, bootstrap)?,
            difference: baseline.map(difference).transpose()?,
            length_controlled_difference: match baseline {
                Some(baseline) => {
                    LengthControl::difference_over_seeds(outcomes, baseline, sharing, bootstrap)?
                }
                None => None,
            },
            verdict: None,
        })
    }
}

/// What a plugin of one stage asked a server for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AskedRow {
    /// The stage: pairs, edits, ppo or evaluate.
    pub stage: String,
    /// The first variant whose stage it is; others may share it.
    pub variant: String,
    /// That variant's seed.
    pub seed: u64,
    /// What it was answered.
    #[serde(flatten)]
    pub asked: Asked,
}

/// Rows of one stage that were not used for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAsideRow {
    /// The stage: data, pairs or edits.
    pub stage: String,
    /// The first variant whose stage it is; others may share it.
    pub variant: String,
    /// That variant's seed.
    pub seed: u64,
    /// Why, as `set_aside.jsonl` names it.
    pub reason: String,
    /// How many rows.
    pub rows: usize,
    /// The id of the first of them.
    pub first: String,
}

/// Table 2.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RewardModels {
    /// The 2×2 of every scheme; the table has a row per (trained on, scheme), in the order of first appearance.
    pub cells: Vec<AccuracyCell>,
    /// What "the longer response is better" scores on the same test pairs.
    pub longer_is_better: Vec<LongerCell>,
    /// Where the reward models put their rewards.
    pub localisation: Vec<LocalisationCell>,
}

/// The longer-is-better baseline on one kind of test pairs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LongerCell {
    /// The test pairs.
    pub tested_on: PairSource,
    /// Its accuracy.
    pub accuracy: OverSeeds<Accuracy>,
}

/// How well the rewards of one reward model find marked tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LocalisationCell {
    /// What the reward model was trained on.
    pub trained_on: PairSource,
    /// The reward scheme that it was trained with.
    pub scheme: String,
    /// Of the reward head's score at every token: the same question for every scheme.
    pub localisation: OverSeeds<Localisation>,
    /// Of the token rewards that the scheme gives PPO.
    pub of_rewards: OverSeeds<Localisation>,
}

/// A row of Table 3.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CostRow {
    /// Name of the variant.
    pub variant: String,
    /// What each seed's run cost.
    pub seeds: Vec<Seeded<RunCost>>,
}

/// What one run cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunCost {
    /// Wall time of training the reward model; `None` where the reward scheme needs none.
    pub reward_model_seconds: Option<f64>,
    /// Wall time of PPO, without evaluations.
    pub ppo_seconds: f64,
    /// How fast it reached its own best; `None` where it was never evaluated.
    pub efficiency: Option<Efficiency>,
    /// When it had caught up with the best score of the baseline's run under the same seed; `None` where it never did, for
    /// the baseline itself, and where either was never evaluated.
    pub to_baseline_best: Option<Milestone>,
}

impl RunCost {
    /// The cost of a run with the evaluations of its PPO stage, the first one before training; `baseline` holds those of
    /// the baseline under the same seed, `None` for the baseline itself.
    ///
    /// # Errors
    /// Steps that do not rise, or scores or times that are not finite.
    pub fn new(
        reward_model_seconds: Option<f64>,
        ppo_seconds: f64,
        evaluations: &[EvaluationPoint],
        baseline: Option<&[EvaluationPoint]>,
    ) -> Result<Self> {
        let best = baseline
            .map(Efficiency::of)
            .transpose()?
            .flatten()
            .map(|e| e.best_score);
        Ok(Self {
            reward_model_seconds,
            ppo_seconds,
            efficiency: Efficiency::of(evaluations)?,
            to_baseline_best: best.and_then(|best| first_reaching(evaluations, best)),
        })
    }
}

#[cfg(test)]
pub(super) mod tests;
