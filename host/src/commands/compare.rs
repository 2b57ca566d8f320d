//! `finegrain compare`: several configurations and seeds, shared stages once, three tables.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::cli::CompareArgs;
use crate::commands::{TABLE_WIDTH, emit, emit_json, session};
use crate::config::{self, Config, nearest};
use crate::error::{Error, Result};
use crate::pipeline::comparison;
use crate::pipeline::run_dir::RunDir;
use crate::report;

/// A file of this name is what the others build on, so that `configs/sandbox/*.toml` can be typed.
const BASE_FILE: &str = "base.toml";

/// The variant that others are compared with unless the user says otherwise.
const USUAL_BASELINE: &str = "ppo-rlhf";

pub(super) fn compare(args: &CompareArgs) -> Result<()> {
    let files: Vec<&PathBuf> = args
        .configs
        .iter()
        .filter(|path| path.file_name().is_none_or(|name| name != BASE_FILE))
        .collect();
    let configs = files
        .iter()
        .map(|path| config::load(path, &args.common.sets))
        .collect::<Result<Vec<Config>>>()?;
    let Some(first) = configs.first() else {
        return Err(
            Error::input("only base.toml was named, and it is no variant")
                .hint("name the files beside it"),
        );
    };
    check_names(&configs, &files)?;
    let baseline = choose_baseline(&configs, args.baseline.as_deref())?;
    let out = args
        .out
        .clone()
        .unwrap_or_else(|| Path::new("runs").join(folder_name(files[0])));
    let seeds = if args.seeds.is_empty() {
        vec![first.seed]
    } else {
        distinct(&args.seeds)?
    };

    let session = session(&args.common, &configs)?;
    let mut variants = Vec::with_capacity(configs.len());
    for config in &configs {
        variants.push(Vec::with_capacity(seeds.len()));
        session.check_plugins(config)?;
    }
    let dir = RunDir::open(&out)?;
    for &seed in &seeds {
        for (config, finished) in configs.iter().zip(&mut variants) {
            let config = Config {
                seed,
                ..config.clone()
            };
            let one = RunDir::open(&out.join(format!("{}-seed{seed}", config.name)))?;
            finished.push(one.run(&session, &config)?);
        }
    }
    let result = comparison::summarise(&variants, Some(&baseline))?;
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

fn check_names(configs: &[Config], files: &[&PathBuf]) -> Result<()> {
    let mut seen = BTreeSet::new();
    for (config, file) in configs.iter().zip(files) {
        if !seen.insert(&config.name) {
            return Err(Error::input(format!(
                "{}: name: {:?} is taken by another file",
                file.display(),
                config.name
            ))
            .hint("every variant of a comparison needs a name of its own"));
        }
    }
    Ok(())
}

fn choose_baseline(configs: &[Config], asked: Option<&str>) -> Result<String> {
    let names: Vec<&str> = configs.iter().map(|config| config.name.as_str()).collect();
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

/// The name of the folder that a configuration lies in; `comparison` where it has none.
fn folder_name(file: &Path) -> PathBuf {
    file.parent()
        .and_then(Path::file_name)
        .map_or_else(|| "comparison".into(), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Config {
        Config {
            name: name.into(),
            ..Config::default()
        }
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
        let file = PathBuf::from("x.toml");
        assert!(check_names(&[named("a"), named("a")], &[&file, &file]).is_err());
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
