//! What a report takes out of the folders of finished runs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::config::Config;
use crate::data::jsonl;
use crate::data::records::{Pair, PairSource};
use crate::error::{Error, Result};
use crate::eval::RankedPair;
use crate::pipeline::run_dir::{ABOUT, CONFIG, EDITS, RESULT, REWARD_TESTS, SAMPLES, metrics_file};
use crate::pipeline::stages::evaluate::JudgedSample;
use crate::pipeline::stages::ppo::channel_names;
use crate::pipeline::stages::reward_tests::{RANKED_EDITS, RANKED_PAIRS};
use crate::pipeline::stages::token_views::{TOKENS, TokenView};
use crate::report::ComparisonResult;
use crate::telemetry::line::read_metric_file;

/// Held-out pairs as one reward model ranks them.
pub(super) struct Ranking {
    pub(super) trained_on: PairSource,
    pub(super) scheme: String,
    pub(super) tested_on: PairSource,
    pub(super) pairs: Vec<RankedPair>,
}

/// One run: a variant under a seed.
pub(super) struct Run {
    pub(super) variant: String,
    pub(super) seed: u64,
    /// PPO's metrics by step.
    pub(super) steps: BTreeMap<u64, BTreeMap<String, f64>>,
    pub(super) samples: Vec<JudgedSample>,
    pub(super) tokens: Vec<TokenView>,
    pub(super) rankings: Vec<Ranking>,
    pub(super) edits: Vec<Pair>,
}

/// A result and what there is of its runs.
pub(super) struct Found {
    pub(super) result: ComparisonResult,
    pub(super) runs: Vec<Run>,
    /// Folders of runs that are not there.
    pub(super) missing: Vec<String>,
}

/// Reads the folder of a run or a comparison.
pub(super) fn read(dir: &Path) -> Result<Found> {
    let path = dir.join(RESULT);
    if !path.is_file() {
        return Err(Error::input(format!(
            "{} has no {RESULT}: it is no finished run or comparison",
            dir.display()
        ))
        .hint("name the folder that `finegrain run` or `finegrain compare` wrote, such as runs/sandbox"));
    }
    let result = ComparisonResult::from_json(&text(&path)?)
        .map_err(|error| error.context(path.display()))?;
    let alone = dir.join(ABOUT).is_file();
    let (mut runs, mut missing) = (Vec::new(), Vec::new());
    for variant in &result.variants {
        for &seed in &result.seeds {
            let name = format!("{}-seed{seed}", variant.name);
            let folder = if alone {
                dir.to_path_buf()
            } else {
                dir.join(&name)
            };
            if folder.join(ABOUT).is_file() {
                runs.push(run(&folder, &variant.name, seed)?);
            } else {
                missing.push(name);
            }
        }
    }
    Ok(Found {
        result,
        runs,
        missing,
    })
}

fn run(dir: &Path, variant: &str, seed: u64) -> Result<Run> {
    let config = Config::from_toml(&text(&dir.join(CONFIG))?)?;
    let mut rankings = Vec::new();
    for (choice, channel) in config.reward.iter().zip(channel_names(&config)) {
        for (tested_on, file) in [
            (PairSource::Pairs, RANKED_PAIRS),
            (PairSource::Edits, RANKED_EDITS),
        ] {
            let path = dir.join(REWARD_TESTS).join(&channel).join(file);
            if path.is_file() {
                rankings.push(Ranking {
                    trained_on: config.preferences,
                    scheme: choice.plugin.clone(),
                    tested_on,
                    pairs: jsonl::read(&path)?,
                });
            }
        }
    }
    let tokens = dir.join(TOKENS);
    let edits = dir.join(EDITS);
    Ok(Run {
        variant: variant.to_owned(),
        seed,
        steps: steps(dir)?,
        samples: jsonl::read(&dir.join(SAMPLES))?,
        tokens: if tokens.is_file() {
            jsonl::read(&tokens)?
        } else {
            Vec::new()
        },
        rankings,
        edits: if edits.is_file() {
            jsonl::read(&edits)?
        } else {
            Vec::new()
        },
    })
}

/// PPO's metrics: those of the stage that `run.json` names, since an older run may have left others.
fn steps(dir: &Path) -> Result<BTreeMap<u64, BTreeMap<String, f64>>> {
    let mut steps: BTreeMap<u64, BTreeMap<String, f64>> = BTreeMap::new();
    let about = parse(&text(&dir.join(ABOUT))?, &dir.join(ABOUT))?;
    let stages = about["stages"].as_array();
    let Some(hash) = stages
        .into_iter()
        .flatten()
        .find(|stage| stage["stage"] == "ppo")
        .and_then(|stage| stage["hash"].as_str())
    else {
        return Ok(steps);
    };
    for line in read_metric_file(&metrics_file(dir, "ppo", hash))? {
        let values = line.values.iter();
        let values = values.filter_map(|(name, value)| Some((name.clone(), value.as_f64()?)));
        steps.entry(line.step).or_default().extend(values);
    }
    Ok(steps)
}

fn text(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| Error::io("read", path, &error))
}

fn parse(text: &str, path: &Path) -> Result<Value> {
    serde_json::from_str(text)
        .map_err(|error| Error::input(format!("{} is no JSON: {error}", path.display())))
}
