//! `finegrain judge calibrate`: a configuration's judge against preferences that are known.

use std::collections::BTreeSet;
use std::io::{self, Write as _};

use finegrain_sdk::rng::Stream;
use serde::Serialize;

use crate::cli::{CalibrateArgs, JudgeCommand};
use crate::commands::{TABLE_WIDTH, emit, emit_json, session};
use crate::config::{self, Config, nearest};
use crate::data::config::FileConfig;
use crate::data::draw::drawn;
use crate::data::fields::FieldPath;
use crate::data::jsonl;
use crate::data::preferences::known::{self, Join, KnownPairs};
use crate::data::records::{Pair, SetAsideReason, counted};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::eval::Calibration;
use crate::pipeline::stages::judge_calibration::{JUDGED_PAIRS, JudgedPair, calibration, obtain};
use crate::report;

/// What `--json` prints.
#[derive(Serialize)]
struct Found<'a> {
    judge: String,
    seed: u64,
    data: String,
    /// Pairs whose known preference is a tie; they are not asked about.
    ties: usize,
    /// Other rows that are not used.
    set_aside: usize,
    #[serde(flatten)]
    calibration: &'a Calibration,
}

pub(super) fn judge(command: &JudgeCommand) -> Result<()> {
    match command {
        JudgeCommand::Calibrate(args) => calibrate(args),
    }
}

fn calibrate(args: &CalibrateArgs) -> Result<()> {
    let config = config::load(&args.config, &args.common.sets)?;
    let session = session(&args.common, [&config])?;
    let file = file(args)?;
    let join = args.join.as_ref().map(|path| Join {
        path: path.clone(),
        on: FieldPath::new(&args.on),
    });
    // A judge reads conversations as texts; a reward model gets prompts through its template.
    let turns = config.prompt_template.takes_turns() || !config.judge.asks_reward_model();
    let known =
        known::load(&file, join.as_ref(), turns).map_err(|error| error.context("--data"))?;
    let n = args.n.map_or(usize::MAX, Into::into);
    let stream = Stream::new(config.seed).child("judge-calibration-pairs");
    let pairs = drawn(known.pairs.clone(), n, |pair| &pair.id, &stream);
    if !args.common.quiet || args.common.dry_run {
        say(&known, pairs.len());
    }
    if args.common.dry_run {
        for judge in config.judge.members() {
            if !judge.is_reward_model() {
                session.registry.judge(judge.plugin, judge.options)?;
            }
        }
        return foresee(args, &config, &pairs);
    }
    Device::open(&config.device)?;
    let artifact = obtain(&session, &config, &pairs)?;
    let rows: Vec<JudgedPair> = jsonl::read(&artifact.file(JUDGED_PAIRS))?;
    if let Some(out) = &args.out {
        jsonl::write(out, &rows)?;
    }
    let calibration = calibration(&config, &rows);
    if args.common.json {
        let ties = ties(&known);
        return emit_json(&Found {
            judge: config.judge.title(),
            seed: config.seed,
            data: args.data.display().to_string(),
            ties,
            set_aside: known.set_aside.len() - ties,
            calibration: &calibration,
        });
    }
    emit(&report::judge_calibration::render(
        &calibration,
        TABLE_WIDTH,
    ))
}

/// The file of pairs with the fields that were named.
fn file(args: &CalibrateArgs) -> Result<FileConfig> {
    let mut file = FileConfig {
        path: args.data.clone(),
        ..FileConfig::default()
    };
    let mut met = BTreeSet::new();
    for field in &args.fields {
        let Some((name, path)) = field.split_once('=').filter(|(_, path)| !path.is_empty()) else {
            return Err(Error::input(format!(
                "--field {field}: accepted: NAME=PATH, such as prompt=question"
            )));
        };
        let mut places = [
            ("prompt", &mut file.prompt_field),
            ("input", &mut file.input_field),
            ("chosen", &mut file.chosen_field),
            ("rejected", &mut file.rejected_field),
            ("first", &mut file.first_field),
            ("second", &mut file.second_field),
            ("preference", &mut file.preference_field),
            ("id", &mut file.id_field),
        ];
        let names = places.each_ref().map(|(name, _)| *name);
        let Some((_, place)) = places.iter_mut().find(|(known, _)| *known == name) else {
            let error = Error::input(format!(
                "--field {field}: {name:?} is no part of a pair; accepted: {}",
                names.join(", ")
            ));
            return Err(match nearest(name, names, 1).first() {
                Some(near) => error.hint(format!("did you mean {near}?")),
                None => error,
            });
        };
        if !met.insert(name) {
            return Err(Error::input(format!(
                "--field {field}: {name} was named before; accepted: each once"
            )));
        }
        **place = Some(FieldPath::new(path));
    }
    Ok(file)
}

fn ties(known: &KnownPairs) -> usize {
    let ties = known.set_aside.iter();
    ties.filter(|row| row.reason == SetAsideReason::Tie).count()
}

/// Says what the file gave, for the user; where standard error is gone, nobody misses it.
fn say(known: &KnownPairs, asked: usize) {
    for text in &known.said {
        let _ = writeln!(io::stderr(), "{text}");
    }
    if !known.set_aside.is_empty() {
        let aside = counted(&known.set_aside);
        let _ = writeln!(io::stderr(), "pairs: rows that are left out: {aside}");
    }
    if asked < known.pairs.len() {
        let all = known.pairs.len();
        let _ = writeln!(io::stderr(), "pairs: {asked} of {all} are drawn");
    }
}

/// What would be asked, without asking.
fn foresee(args: &CalibrateArgs, config: &Config, pairs: &[Pair]) -> Result<()> {
    let judges = config.judge.members();
    let names: Vec<&str> = judges.iter().map(|judge| judge.name).collect();
    let comparisons = 2 * pairs.len();
    if args.common.json {
        return emit_json(&serde_json::json!({
            "judges": names, "pairs": pairs.len(), "comparisons_of_each_judge": comparisons,
        }));
    }
    emit(&format!(
        "{} would be asked for {comparisons} comparisons{}: {} pairs in both orders.\n",
        names.join(", "),
        if names.len() > 1 { " each" } else { "" },
        pairs.len()
    ))
}
