//! From finished runs to the three tables.

mod judging;

use std::collections::{BTreeMap, BTreeSet};

use finegrain_sdk::rng::Stream;

use crate::config::Task;
use crate::data::jsonl;
use crate::data::records::PairSource;
use crate::error::{Error, Result};
use crate::eval::statistics::{Bootstrap, Sharing};
use crate::eval::{
    Accuracy, AccuracyCell, Localisation, Mark, MarkedResponse, RankedPair, SeedOutcomes, Seeded,
};
use crate::pipeline::origins;
use crate::pipeline::report::read_report;
use crate::pipeline::set_aside;
use crate::pipeline::stages::data;
use crate::pipeline::stages::evaluate::{JudgedSample, OUTCOMES};
use crate::pipeline::stages::ppo::PpoSummary;
use crate::pipeline::stages::reward_tests::{MARKED, MarkedTokens, RANKED_EDITS, RANKED_PAIRS};
use crate::pipeline::store::Artifact;
use crate::pipeline::variant::VariantRun;
use crate::report::{
    AskedRow, ComparisonResult, CostRow, LocalisationCell, LongerCell, RewardModels, RunCost,
    Variant, WinRateRow,
};
use crate::telemetry::watch::findings;
use judging::Judged;

/// The result of a comparison: `variants` holds every variant's runs, one for each seed, in the same order of seeds.
pub fn summarise(variants: &[Vec<VariantRun>], baseline: Option<&str>) -> Result<ComparisonResult> {
    let first = variants
        .first()
        .and_then(|runs| runs.first())
        .ok_or_else(|| Error::internal("a comparison of nothing"))?;
    let config = &first.config;
    let baseline_name = baseline.unwrap_or(&config.name);
    let at = variants
        .iter()
        .position(|runs| {
            runs.first()
                .is_some_and(|run| run.config.name == baseline_name)
        })
        .unwrap_or(0);
    // One stream for the whole comparison: rows share resamples, so that their intervals can be compared.
    let bootstrap = Bootstrap::new(Stream::new(config.seed).child("comparison"))
        .with_resamples(config.evaluation.bootstrap_samples);
    let sharing = prompts_of(config.task);
    let outcomes = variants
        .iter()
        .map(|runs| Ok((runs[0].config.name.as_str(), outcomes(runs)?)))
        .collect::<Result<Vec<_>>>()?;
    let asked = origins::of_runs(variants)?;
    let result = ComparisonResult {
        format: ComparisonResult::FORMAT,
        judge: config.judge.title(),
        reference: data::reference(config, &first.data),
        seeds: variants[0].iter().map(|run| run.config.seed).collect(),
        baseline: baseline_name.to_owned(),
        variants: variants.iter().map(|runs| about(&runs[0])).collect(),
        win_rates: win_rates(&outcomes, at, sharing, &bootstrap)?,
        judging: judging::judging(&config.judge, &outcomes, sharing, &bootstrap)?,
        reward_models: reward_models(variants, &bootstrap)?,
        costs: costs(variants, at)?,
        set_aside: set_aside::of_runs(variants)?,
        notes: notes(variants, &asked)?,
        asked,
    };
    Ok(result.concluded(config.judge.is_reward_model()))
}

/// Whether the seeds share their prompts: the splits of files follow from their rows, the sandbox's from the seed.
fn prompts_of(task: Task) -> Sharing {
    match task {
        Task::Sandbox => Sharing::PerSeed,
        Task::EditPairs | Task::Preferences => Sharing::Shared,
    }
}

fn about(run: &VariantRun) -> Variant {
    let config = &run.config;
    let schemes: Vec<&str> = config
        .reward
        .iter()
        .map(|choice| choice.plugin.as_str())
        .collect();
    Variant {
        name: config.name.clone(),
        trained_on: run
            .reward_models
            .iter()
            .any(Option::is_some)
            .then_some(config.preferences),
        scheme: schemes.join(" + "),
    }
}

fn outcomes(runs: &[VariantRun]) -> Result<Vec<SeedOutcomes>> {
    runs.iter()
        .map(|run| {
            let samples: Vec<JudgedSample> = jsonl::read(&run.evaluation.file(OUTCOMES))?;
            Ok(Seeded {
                seed: run.config.seed,
                value: samples.into_iter().map(|sample| sample.outcome).collect(),
            })
        })
        .collect()
}

fn win_rates(
    variants: &[Judged<'_>],
    baseline: usize,
    sharing: Sharing,
    bootstrap: &Bootstrap,
) -> Result<Vec<WinRateRow>> {
    variants
        .iter()
        .enumerate()
        .map(|(at, (name, outcomes))| {
            let other = (at != baseline).then_some(variants[baseline].1.as_slice());
            WinRateRow::new(*name, outcomes, other, sharing, bootstrap)
        })
        .collect()
}

/// The tests of one reward model, an artifact for each seed.
struct Tests<'a> {
    trained_on: PairSource,
    scheme: String,
    seeds: Vec<(u64, &'a Artifact)>,
}

/// The tests of every reward model; variants that share a reward model share an entry.
fn tests(variants: &[Vec<VariantRun>]) -> Vec<Tests<'_>> {
    let mut all: Vec<Tests<'_>> = Vec::new();
    for runs in variants {
        let config = &runs[0].config;
        for (at, choice) in config.reward.iter().enumerate() {
            let seeds: Vec<(u64, &Artifact)> = runs
                .iter()
                .filter_map(|run| Some((run.config.seed, run.reward_tests[at].as_ref()?)))
                .collect();
            let same = |other: &Tests<'_>| {
                let hashes = |seeds: &[(u64, &Artifact)]| -> Vec<String> {
                    seeds
                        .iter()
                        .map(|(_, tests)| tests.key.hash().to_owned())
                        .collect()
                };
                hashes(&other.seeds) == hashes(&seeds)
            };
            if seeds.is_empty() || all.iter().any(same) {
                continue;
            }
            let trained_on = config.preferences;
            let taken = all
                .iter()
                .any(|row| row.trained_on == trained_on && row.scheme == choice.plugin);
            // The same scheme with other options, or another training: the variant's name tells them apart.
            let scheme = if taken {
                format!("{} ({})", choice.plugin, config.name)
            } else {
                choice.plugin.clone()
            };
            all.push(Tests {
                trained_on,
                scheme,
                seeds,
            });
        }
    }
    all
}

fn ranked(tests: &[(u64, &Artifact)], file: &str) -> Result<Vec<Seeded<Vec<RankedPair>>>> {
    tests
        .iter()
        .map(|(seed, artifact)| {
            Ok(Seeded {
                seed: *seed,
                value: jsonl::read(&artifact.file(file))?,
            })
        })
        .collect()
}

fn reward_models(variants: &[Vec<VariantRun>], bootstrap: &Bootstrap) -> Result<RewardModels> {
    let mark = match variants[0][0].config.task {
        Task::Sandbox => Mark::Defective,
        Task::EditPairs | Task::Preferences => Mark::Changed,
    };
    let mut result = RewardModels::default();
    let mut longer = BTreeMap::new();
    for Tests {
        trained_on,
        scheme,
        seeds: artifacts,
    } in tests(variants)
    {
        for (tested_on, file) in [
            (PairSource::Pairs, RANKED_PAIRS),
            (PairSource::Edits, RANKED_EDITS),
        ] {
            let pairs = ranked(&artifacts, file)?;
            result.cells.push(AccuracyCell {
                trained_on,
                scheme: scheme.clone(),
                tested_on,
                accuracy: Accuracy::over_seeds(&pairs, Sharing::PerSeed, bootstrap)?,
            });
            // Lengths are the same whichever model has scored the pairs.
            if let std::collections::btree_map::Entry::Vacant(place) = longer.entry(tested_on) {
                place.insert(LongerCell {
                    tested_on,
                    accuracy: Accuracy::longer_over_seeds(&pairs, Sharing::PerSeed, bootstrap)?,
                });
            }
        }
        let localisation = |of: fn(MarkedTokens) -> MarkedResponse| {
            let marked = artifacts
                .iter()
                .map(|(seed, artifact)| {
                    let rows: Vec<MarkedTokens> = jsonl::read(&artifact.file(MARKED))?;
                    Ok(Seeded {
                        seed: *seed,
                        value: rows.into_iter().map(of).collect(),
                    })
                })
                .collect::<Result<Vec<_>>>()?;
            Localisation::over_seeds(mark, &marked, bootstrap)
        };
        result.localisation.push(LocalisationCell {
            trained_on,
            scheme,
            localisation: localisation(MarkedTokens::scored)?,
            of_rewards: localisation(MarkedTokens::rewarded)?,
        });
    }
    result.longer_is_better = longer.into_values().collect();
    Ok(result)
}

fn costs(variants: &[Vec<VariantRun>], baseline: usize) -> Result<Vec<CostRow>> {
    let summaries = variants
        .iter()
        .map(|runs| {
            runs.iter()
                .map(|run| read_report::<PpoSummary>(&run.ppo.dir))
                .collect::<Result<Vec<_>>>()
        })
        .collect::<Result<Vec<_>>>()?;
    variants
        .iter()
        .enumerate()
        .map(|(at, runs)| {
            let seeds = runs
                .iter()
                .enumerate()
                .map(|(seed, run)| {
                    let models: Vec<f64> = run
                        .reward_models
                        .iter()
                        .flatten()
                        .map(|model| model.record.wall_seconds)
                        .collect();
                    let summary = &summaries[at][seed];
                    let other =
                        (at != baseline).then(|| summaries[baseline][seed].evaluations.as_slice());
                    Ok(Seeded {
                        seed: run.config.seed,
                        value: RunCost::new(
                            (!models.is_empty()).then(|| models.iter().sum()),
                            summary.wall_seconds,
                            &summary.evaluations,
                            other,
                        )?,
                    })
                })
                .collect::<Result<Vec<_>>>()?;
            Ok(CostRow {
                variant: runs[0].config.name.clone(),
                seeds,
            })
        })
        .collect()
}

/// What a reader should know beside the tables.
fn notes(variants: &[Vec<VariantRun>], asked: &[AskedRow]) -> Result<Vec<String>> {
    let config = &variants[0][0].config;
    let mut notes = Vec::new();
    if config.task == Task::Sandbox {
        notes.push(
            "The sandbox is a test bed with a known ground truth; what holds here need not hold for language models \
             of any size."
                .to_owned(),
        );
    }
    if config.judge.asks_reward_model() {
        let judge = if config.judge.is_panel() {
            "A judge of the panel"
        } else {
            "The judge"
        };
        notes.push(format!(
            "{judge} is a reward model trained on a split of its own; it is no human, and a policy may find its \
             blind spots."
        ));
    }
    for run in variants.iter().flatten() {
        for warning in data::Remarks::of(&run.data)?.warnings {
            let sentence = format!("{warning}.");
            if !notes.contains(&sentence) {
                notes.push(sentence);
            }
        }
    }
    notes.extend(asked.iter().filter_map(|row| {
        let warning = row.asked.warning()?;
        Some(format!(
            "{}, seed {}, {}: {warning}",
            row.variant, row.seed, row.stage
        ))
    }));
    notes.extend(alarms(variants)?);
    Ok(notes)
}

/// The alarms that went off, a sentence each; a stage that several runs share is named by the first of them.
fn alarms(variants: &[Vec<VariantRun>]) -> Result<Vec<String>> {
    let mut seen = BTreeSet::new();
    let mut notes = Vec::new();
    for run in variants.iter().flatten() {
        for artifact in run.stages() {
            for finding in findings(&run.config.alarms, artifact)? {
                if seen.insert((artifact.key.to_string(), finding.alarm)) {
                    notes.push(format!(
                        "{}, seed {}, {}: {finding}.",
                        run.config.name, run.config.seed, artifact.record.stage
                    ));
                }
            }
        }
    }
    Ok(notes)
}
