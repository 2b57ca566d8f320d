//! From files and overrides to a checked [`Config`]; errors name the file, line and key.

use std::path::Path;

use serde::Deserialize;
use toml::Value;

use super::layers::{Layers, merge};
use super::sweep::{SWEEP, Sweep};
use super::{Config, nearest, overrides};
use crate::error::{Error, Result};
use crate::train::ppo::PpoPreset;

/// Reads a configuration, everything it is based on, and the `key=value` overrides of the command line.
///
/// # Errors
/// Exit code 2 for a missing or malformed file, an unknown key (with the nearest known one), a wrong type, a value
/// outside its range, or a file with a grid, which is several configurations.
pub fn load(path: &Path, sets: &[String]) -> Result<Config> {
    let File { layers, sweep, .. } = File::read(path, sets)?;
    match sweep {
        None => finish(&layers, path),
        Some(sweep) => {
            let origin = layers.origin(SWEEP).unwrap_or_default();
            let error = Error::input(format!(
                "{origin}: [{SWEEP}] makes {} variants of this file, and one is asked for",
                sweep.len()
            ));
            Err(error.hint(format!(
                "`finegrain compare {}` runs all of them",
                path.display()
            )))
        }
    }
}

/// Reads a configuration as [`load`] does; one with a grid (`[sweep]`) is a variant for every point.
///
/// # Errors
/// Those of [`load`], at every point of a grid, and what is no grid.
pub fn load_variants(path: &Path, sets: &[String]) -> Result<Vec<Config>> {
    let File {
        layers,
        sweep,
        known,
    } = File::read(path, sets)?;
    let Some(sweep) = sweep else {
        return Ok(vec![finish(&layers, path)?]);
    };
    let text = |key: &str| known[key].as_str().unwrap_or_default().to_owned();
    sweep
        .points(&layers, &known, &text("name"), &text("title"))?
        .iter()
        .map(|point| finish(point, path))
        .collect()
}

/// What a file, its bases and the command line say.
struct File {
    /// The keys, without the grid.
    layers: Layers,
    sweep: Option<Sweep>,
    /// The configuration with its defaults, without the values of the grid: which keys there are.
    known: serde_json::Value,
}

impl File {
    fn read(path: &Path, sets: &[String]) -> Result<Self> {
        let mut layers = Layers::read(path)?;
        let sweep = take_sweep(&mut layers)?;
        // The files alone first: what they say must be right, and it tells which keys there are.
        let mut known = as_json(&deserialize(&layers, path)?)?;
        for set in sets {
            let key = overrides::apply(&mut layers.table, &known, set)?;
            if sweep.as_ref().is_some_and(|sweep| sweep.has(&key)) {
                let origin = layers.origin(&format!("{SWEEP}.{key}")).unwrap_or_default();
                return Err(
                    Error::input(format!("--set {key}: {origin} sweeps over this key"))
                        .hint("leave out one of the two"),
                );
            }
            layers.set_origin(&key, "--set");
        }
        if !sets.is_empty() {
            known = as_json(&deserialize(&layers, path)?)?;
        }
        Ok(Self {
            layers,
            sweep,
            known,
        })
    }
}

fn take_sweep(layers: &mut Layers) -> Result<Option<Sweep>> {
    let origin = |key: &str| {
        let key = format!("{SWEEP}.{key}");
        layers.origin(&key).unwrap_or_default().to_owned()
    };
    let sweep = match layers.table.get(SWEEP) {
        None => return Ok(None),
        Some(Value::Table(table)) => Sweep::parse(table, origin)?,
        Some(other) => {
            return Err(Error::input(format!(
                "{}: {SWEEP}: found {}, expected a table of lists",
                origin(""),
                other.type_str()
            )));
        }
    };
    layers.table.remove(SWEEP);
    Ok(Some(sweep))
}

fn as_json(config: &Config) -> Result<serde_json::Value> {
    serde_json::to_value(config)
        .map_err(|error| Error::internal(format!("configuration does not serialise: {error}")))
}

fn finish(layers: &Layers, path: &Path) -> Result<Config> {
    let config = deserialize(layers, path)?;
    config
        .validate()
        .map_err(|error| with_origin(error, layers, path))?;
    Ok(config)
}

/// Puts the preset that `ppo.preset` names below what the files and the command line say of `ppo`.
fn fill_preset(table: &mut toml::Table) -> Result<()> {
    let Some(Value::Table(ppo)) = table.get_mut("ppo") else {
        return Ok(());
    };
    // What is no preset is refused where the types are checked.
    let preset = ppo.get("preset").cloned().map(PpoPreset::deserialize);
    let Some(Ok(preset)) = preset else {
        return Ok(());
    };
    let mut filled = toml::Table::try_from(preset.config())
        .map_err(|error| Error::internal(format!("a preset does not serialise: {error}")))?;
    merge(&mut filled, std::mem::take(ppo));
    *ppo = filled;
    Ok(())
}

fn deserialize(layers: &Layers, path: &Path) -> Result<Config> {
    let mut table = layers.table.clone();
    fill_preset(&mut table)?;
    serde_path_to_error::deserialize(Value::Table(table)).map_err(|error| {
        let parent = dotted(&error.path().to_string());
        let inner = error.into_inner();
        // TOML's display adds where it was in the value; the first line says what was wrong.
        let text = inner.message().to_owned();
        let (key, hint) = match unknown_field(&text) {
            Some((field, known)) => {
                let table = match parent.rfind('.') {
                    _ if parent.is_empty() || parent == field => String::new(),
                    Some(at) if parent[at + 1..] == field => parent[..=at].to_owned(),
                    _ => format!("{parent}."),
                };
                let near = nearest(&field, known.iter().map(String::as_str), 2);
                let hint = match near.as_slice() {
                    [] => format!("known here: {}", known.join(", ")),
                    near => format!("did you mean {}?", near.join(" or ")),
                };
                (format!("{table}{field}"), Some(hint))
            }
            None => (parent, nearest_variant(&text)),
        };
        let origin = layers
            .origin(&key)
            .map_or_else(|| path.display().to_string(), str::to_owned);
        let message = if unknown_field(&text).is_some() {
            format!("{origin}: {key}: there is no such key")
        } else if key.is_empty() {
            format!("{origin}: {text}")
        } else {
            format!("{origin}: {key}: {text}")
        };
        let error = Error::input(message);
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    })
}

/// `reward[0].options` as `reward.0.options`; `.` (the root) as nothing.
fn dotted(path: &str) -> String {
    if path == "." {
        return String::new();
    }
    path.replace('[', ".").replace(']', "")
}

/// The field and the known ones out of serde's message for an unknown field.
fn unknown_field(message: &str) -> Option<(String, Vec<String>)> {
    unknown("unknown field", message)
}

/// The known word nearest to one that no enumeration has, as a hint.
fn nearest_variant(message: &str) -> Option<String> {
    let (word, known) = unknown("unknown variant", message)?;
    let near = nearest(&word, known.iter().map(String::as_str), 2);
    (!near.is_empty()).then(|| format!("did you mean {}?", near.join(" or ")))
}

/// The word and the known ones out of serde's message for an unknown one.
fn unknown(what: &str, message: &str) -> Option<(String, Vec<String>)> {
    if !message.contains(what) {
        return None;
    }
    let mut names = message.split('`').skip(1).step_by(2).map(str::to_owned);
    let field = names.next()?;
    Some((field, names.collect()))
}

/// Puts the file and line of the key in front, where the message starts with a key that a file set.
fn with_origin(error: Error, layers: &Layers, path: &Path) -> Error {
    let message = error.to_string();
    let origin = message
        .split_once(':')
        .filter(|(key, _)| key.contains('.') || layers.table.contains_key(*key))
        .and_then(|(key, _)| layers.origin(key));
    match origin {
        Some(origin) => error.context(origin),
        None => error.context(path.display()),
    }
}

impl Config {
    /// A configuration out of TOML text, without a base; for tests and for what a run directory holds.
    pub fn from_toml(text: &str) -> Result<Self> {
        let mut value: toml::Table =
            toml::from_str(text).map_err(|error| Error::input(error.message().to_owned()))?;
        fill_preset(&mut value)?;
        Self::deserialize(Value::Table(value))
            .map_err(|error| Error::input(error.message().to_owned()))
    }

    /// The resolved configuration as TOML.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string_pretty(self)
            .map_err(|error| Error::internal(format!("configuration does not serialise: {error}")))
    }
}
