//! `finegrain compare`: configurations with several seeds and grids, finished runs; shared stages once, three tables.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::cli::CompareArgs;
use crate::commands::{TABLE_WIDTH, announce, emit, emit_json, session, warn_of_self_preference};
use crate::config::{self, Config, nearest};
use crate::device::Device;
use crate::error::{Error, ErrorKind, Result};
use crate::pipeline::finished::FinishedRuns;
use crate::pipeline::run_dir::RunDir;
use crate::pipeline::variant::VariantRun;
use crate::pipeline::{Session, comparison, jobs};
use crate::report;

/// A file of this name is what the others build on, so that `configs/sandbox/*.toml` can be typed.
const BASE_FILE: &str = "base.toml";

/// The variant that others are compared with unless the user says otherwise.
const USUAL_BASELINE: &str = "ppo-rlhf";

/// Keys in which the seeds of one variant may differ: they decide nothing about a result.
const OF_NO_MATTER: [&str; 4] = ["seed", "title", "threads", "plugins.paths"];

/// Keys that all variants share, so that a table has one meaning.
const SHARED: [&str; 2] = ["task", "judge"];

/// A variant of the comparison and its runs by their seeds, those that are finished.
struct Variant {
    config: Config,
    /// Whether a configuration was named, which can be run.
    can_run: bool,
    /// Where it was first named.
    source: PathBuf,
    runs: BTreeMap<u64, Option<VariantRun>>,
}

pub(super) fn compare(args: &CompareArgs) -> Result<()> {
    let inputs: Vec<&PathBuf> = args
        .inputs
        .iter()
        .filter(|path| path.file_name().is_none_or(|name| name != BASE_FILE))
        .collect();
    let Some(first) = inputs.first() else {
        return Err(
            Error::input("only base.toml was named, and it is no variant")
                .hint("name the files beside it"),
        );
    };
    let mut finished = FinishedRuns::new(&args.common.store);
    let mut variants = gather(args, &inputs, &mut finished)?;
    choose_seeds(&mut variants, &args.seeds)?;
    check_comparable(&variants)?;
    let baseline = choose_baseline(&variants, args.baseline.as_deref())?;
    let out = match &args.out {
        Some(out) => out.clone(),
        None => Path::new("runs").join(folder_name(first)),
    };
    let to_run = to_run(&variants, args.jobs.get());
    let runnable = variants.iter().filter(|variant| variant.can_run);
    let session = session(
        &args.common,
        runnable.clone().map(|variant| &variant.config),
    )?;
    let mut plugins = finished.plugins;
    for variant in runnable {
        let name = variant.source.display().to_string();
        plugins.add(&name, &session.identities(&variant.config)?);
    }
    for warning in &plugins.warnings {
        let _ = writeln!(io::stderr(), "warning: {warning}");
    }
    let same_model =
        warn_of_self_preference(&session, variants.iter().map(|variant| &variant.config));
    if announce(&args.common, &session, &to_run)? {
        return Ok(());
    }
    // Before anything runs; a dry run needs no GPU.
    for config in &to_run {
        Device::open(&config.device)?;
    }
    let dir = RunDir::open(&out)?;
    for run in run_all(&session, args.jobs.get(), &out, &to_run)? {
        let of = |variant: &&mut Variant| variant.config.name == run.config.name;
        if let Some(variant) = variants.iter_mut().find(of) {
            variant.runs.insert(run.config.seed, Some(run));
        }
    }
    let finished: Vec<Vec<VariantRun>> = variants
        .into_iter()
        .map(|variant| variant.runs.into_values().flatten().collect())
        .collect();
    let mut result = comparison::summarise(&finished, Some(&baseline))?;
    result.notes.extend(same_model);
    dir.write_result(&result)?;
    if args.common.json {
        return emit_json(&result);
    }
    emit(&report::tables::render(&result, TABLE_WIDTH))?;
    emit(&format!(
        "\nreport.html, report.md, result.json and every run lie in {}.\n",
        out.display()
    ))
}

/// The variants that were named: configurations, points of their grids, and finished runs.
fn gather(
    args: &CompareArgs,
    inputs: &[&PathBuf],
    finished: &mut FinishedRuns<'_>,
) -> Result<Vec<Variant>> {
    let mut variants: Vec<Variant> = Vec::new();
    for &path in inputs {
        if path.is_dir() {
            let run = finished.read(path)?;
            let config = run.config.clone();
            let variant = place(&mut variants, config, path, false)?;
            if variant.runs.insert(run.config.seed, Some(run)).is_some() {
                return Err(Error::input(format!(
                    "{}: {} has a run with this seed already",
                    path.display(),
                    variant.config.name
                ))
                .hint("name one of the two"));
            }
        } else {
            for config in config::load_variants(path, &args.common.sets)? {
                place(&mut variants, config, path, true)?;
            }
        }
    }
    Ok(variants)
}

/// The variant of a configuration's name, which is added where it is new.
fn place<'v>(
    variants: &'v mut Vec<Variant>,
    config: Config,
    source: &Path,
    can_run: bool,
) -> Result<&'v mut Variant> {
    let same = |variant: &Variant| variant.config.name == config.name;
    let at = variants.iter().position(same).unwrap_or(variants.len());
    if let Some(known) = variants.get(at) {
        if known.can_run && can_run {
            return Err(Error::input(format!(
                "{}: name: {:?} is taken by {}",
                source.display(),
                config.name,
                known.source.display()
            ))
            .hint("every variant of a comparison needs a name of its own"));
        }
        let differing = differing_keys(&known.config, &config)?;
        if !differing.is_empty() {
            return Err(Error::input(format!(
                "{} and {} are both called {:?}, but differ in {}",
                known.source.display(),
                source.display(),
                config.name,
                differing.join(", ")
            ))
            .hint("runs of one name are seeds of one variant; give other variants other names (--set name=…)"));
        }
        variants[at].can_run |= can_run;
    } else {
        variants.push(Variant {
            config,
            can_run,
            source: source.to_owned(),
            runs: BTreeMap::new(),
        });
    }
    Ok(&mut variants[at])
}

/// The dotted keys in which two configurations differ, those aside that decide nothing.
fn differing_keys(a: &Config, b: &Config) -> Result<Vec<String>> {
    let (a, b) = (leaves(a)?, leaves(b)?);
    let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let within = |key: &str, name: &str| match key.strip_prefix(name) {
        Some(rest) => rest.is_empty() || rest.starts_with('.'),
        None => false,
    };
    let of_no_matter = |key: &str| OF_NO_MATTER.iter().any(|name| within(key, name));
    Ok(keys
        .into_iter()
        .filter(|key| a.get(*key) != b.get(*key) && !of_no_matter(key))
        .cloned()
        .collect())
}

/// Every value of a configuration by its dotted key.
fn leaves(config: &Config) -> Result<BTreeMap<String, serde_json::Value>> {
    fn collect(
        key: String,
        value: serde_json::Value,
        leaves: &mut BTreeMap<String, serde_json::Value>,
    ) {
        let below = |name: &dyn std::fmt::Display| match key.as_str() {
            "" => name.to_string(),
            key => format!("{key}.{name}"),
        };
        match value {
            serde_json::Value::Object(values) => {
                for (name, value) in values {
                    collect(below(&name), value, leaves);
                }
            }
            serde_json::Value::Array(values) => {
                for (at, value) in values.into_iter().enumerate() {
                    collect(below(&at), value, leaves);
                }
            }
            value => {
                leaves.insert(key, value);
            }
        }
    }
    let value = serde_json::to_value(config)
        .map_err(|error| Error::internal(format!("configuration does not serialise: {error}")))?;
    let mut all = BTreeMap::new();
    collect(String::new(), value, &mut all);
    Ok(all)
}

/// Gives every variant that can be run its seeds: those asked for, or those of the finished runs, or that of the first
/// configuration.
fn choose_seeds(variants: &mut [Variant], asked: &[u64]) -> Result<()> {
    if !asked.is_empty() && !variants.iter().any(|variant| variant.can_run) {
        return Err(Error::input(
            "--seeds: only finished runs are named, and they have their seeds",
        )
        .hint("name the configuration as well, and the seeds that are not there are run"));
    }
    let finished: BTreeSet<u64> = variants
        .iter()
        .flat_map(|variant| variant.runs.keys().copied())
        .collect();
    let seeds: Vec<u64> = if !asked.is_empty() {
        distinct(asked)?
    } else if finished.is_empty() {
        variants
            .first()
            .map(|variant| variant.config.seed)
            .into_iter()
            .collect()
    } else {
        finished.into_iter().collect()
    };
    for variant in variants.iter_mut().filter(|variant| variant.can_run) {
        for &seed in &seeds {
            variant.runs.entry(seed).or_default();
        }
    }
    Ok(())
}

/// Refuses variants that a table cannot set beside each other: other seeds, another task, another judge.
fn check_comparable(variants: &[Variant]) -> Result<()> {
    let Some((first, others)) = variants.split_first() else {
        return Ok(());
    };
    for other in others {
        if !first.runs.keys().eq(other.runs.keys()) {
            let seeds = |variant: &Variant| {
                let seeds: Vec<String> = variant.runs.keys().map(u64::to_string).collect();
                format!("{} has {}", variant.config.name, seeds.join(", "))
            };
            return Err(Error::input(format!(
                "the variants have different seeds: {}; {}",
                seeds(first),
                seeds(other)
            ))
            .hint("name a run of every variant for every seed, or the configuration, which is run with the seeds that lack"));
        }
        let differing = differing_keys(&first.config, &other.config)?;
        let part = |key: &&String| SHARED.contains(&key.split('.').next().unwrap_or_default());
        if let Some(key) = differing.iter().find(part) {
            return Err(Error::input(format!(
                "{} and {} differ in {key}: their figures would not mean the same",
                first.config.name, other.config.name
            ))
            .hint("a comparison has one task and one judge"));
        }
    }
    Ok(())
}

/// The configurations of the runs that are not there, in the order in which they begin. One after another, variants of a seed
/// stand together, since they share stages; of several at once, those stand together that share none.
fn to_run(variants: &[Variant], jobs: usize) -> Vec<Config> {
    let mut missing: Vec<Config> = Vec::new();
    for variant in variants {
        let seeds = variant.runs.iter().filter(|(_, run)| run.is_none());
        missing.extend(seeds.map(|(&seed, _)| Config {
            seed,
            ..variant.config.clone()
        }));
    }
    if jobs == 1 {
        missing.sort_by_key(|config| config.seed);
    }
    missing
}

/// Runs configurations, each in a folder of its own below `out`.
fn run_all(
    session: &Session<'_>,
    jobs: usize,
    out: &Path,
    configs: &[Config],
) -> Result<Vec<VariantRun>> {
    let jobs = jobs.min(configs.len());
    jobs::at_once(jobs, configs.len(), session.cancel, |at, stop| {
        let config = &configs[at];
        let label = format!("{} seed {}", config.name, config.seed);
        let session = Session {
            cancel: stop,
            threads: (session.threads / jobs).max(1),
            label: (jobs > 1).then(|| label.clone()),
            ..session.for_another_run()
        };
        let dir = RunDir::open(&out.join(format!("{}-seed{}", config.name, config.seed)))?;
        dir.run(&session, config).map_err(|error| {
            if configs.len() == 1 || error.kind() == ErrorKind::Interrupted {
                error
            } else {
                error.context(label)
            }
        })
    })
}

fn choose_baseline(variants: &[Variant], asked: Option<&str>) -> Result<String> {
    let names: Vec<&str> = variants
        .iter()
        .map(|variant| variant.config.name.as_str())
        .collect();
    let Some(asked) = asked else {
        let usual = names.iter().find(|name| **name == USUAL_BASELINE);
        return Ok((*usual.unwrap_or(&names[0])).to_owned());
    };
    if names.contains(&asked) {
        return Ok(asked.to_owned());
    }
    let near = nearest(asked, names.iter().copied(), 1);
    let error = Error::input(format!("--baseline {asked}: no variant has this name"));
    Err(error.hint(match near.first() {
        Some(near) => format!("did you mean {near}?"),
        None => format!("the variants are {}", names.join(", ")),
    }))
}

fn distinct(seeds: &[u64]) -> Result<Vec<u64>> {
    let mut seen = BTreeSet::new();
    match seeds.iter().find(|seed| !seen.insert(**seed)) {
        Some(seed) => Err(Error::input(format!("--seeds: {seed} is named twice"))
            .hint("equal seeds give equal bits; a second run of one would only feign certainty")),
        None => Ok(seeds.to_vec()),
    }
}

/// The name of the folder that the first configuration lies in; `comparison` where it has none or is a run.
fn folder_name(first: &Path) -> PathBuf {
    let folder = first.parent().and_then(Path::file_name);
    match folder {
        Some(folder) if !first.is_dir() => folder.into(),
        _ => "comparison".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(name: &str, seed: u64) -> Config {
        Config {
            name: name.into(),
            seed,
            ..Config::default()
        }
    }

    fn named(name: &str) -> Variant {
        let mut variants = Vec::new();
        place(&mut variants, config(name, 1), Path::new("x.toml"), true).unwrap();
        variants.remove(0)
    }

    #[test]
    fn the_baseline_is_ppo_rlhf_or_the_first_or_what_was_asked_for() {
        let configs = [named("mine"), named("ppo-rlhf")];
        assert_eq!(choose_baseline(&configs, None).unwrap(), "ppo-rlhf");
        assert_eq!(choose_baseline(&configs[..1], None).unwrap(), "mine");
        assert_eq!(choose_baseline(&configs, Some("mine")).unwrap(), "mine");
        let error = choose_baseline(&configs, Some("ppo-rlfh")).unwrap_err();
        assert_eq!(error.hint_text(), Some("did you mean ppo-rlhf?"));
    }

    #[test]
    fn seeds_and_names_are_distinct() {
        assert!(distinct(&[1, 2, 1]).is_err());
        let mut variants = vec![named("a")];
        let error = place(&mut variants, config("a", 2), Path::new("y.toml"), true);
        let message = error.err().unwrap().to_string();
        assert!(
            message.contains("y.toml") && message.contains("x.toml"),
            "{message}"
        );
    }

    #[test]
    fn runs_of_one_name_are_seeds_and_what_they_differ_in_is_named() {
        let mut variants = vec![named("a")];
        let run = Path::new("runs/a-seed2");
        let seed = config("a", 2);
        place(&mut variants, seed.clone(), run, false).unwrap();
        assert_eq!(variants.len(), 1);
        let mut other = seed;
        other.ppo.learning_rate *= 2.0;
        other.reward[0].weight = 0.5;
        let error = place(&mut variants, other, run, false).err().unwrap();
        let words = "both called \"a\", but differ in ppo.learning_rate, reward.0.weight";
        assert!(error.to_string().contains(words), "{error}");
    }

    #[test]
    fn runs_one_after_another_share_stages_and_runs_at_once_do_not() {
        let order = |jobs| -> Vec<(String, u64)> {
            let mut variants = vec![named("a"), named("b")];
            choose_seeds(&mut variants, &[1, 2]).unwrap();
            to_run(&variants, jobs)
                .into_iter()
                .map(|config| (config.name, config.seed))
                .collect()
        };
        let of = |name: &str, seed| (name.to_owned(), seed);
        assert_eq!(order(1), [of("a", 1), of("b", 1), of("a", 2), of("b", 2)]);
        assert_eq!(order(2), [of("a", 1), of("a", 2), of("b", 1), of("b", 2)]);
    }

    #[test]
    fn another_judge_is_refused() {
        let mut other = config("b", 1);
        other.judge.plugin = "strict".into();
        let mut variants = vec![named("a")];
        place(&mut variants, other, Path::new("b.toml"), true).unwrap();
        let error = check_comparable(&variants).unwrap_err();
        assert!(
            error.to_string().contains("a and b differ in judge.use"),
            "{error}"
        );
    }

    #[test]
    fn the_folder_of_the_first_configuration_names_the_comparison() {
        assert_eq!(
            folder_name(Path::new("configs/sandbox/a.toml")),
            PathBuf::from("sandbox")
        );
        assert_eq!(
            folder_name(Path::new("a.toml")),
            PathBuf::from("comparison")
        );
    }
}
