//! `adapter_config.json`: what an adapter does and where, and which of PEFT's variants change the formula. A key that is not known
//! and not off is refused by its name: PEFT adds variants faster than anybody can list them.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{LoraConfig, Target};
use crate::error::{Error, Result};
use crate::model::config::is_off;
use crate::model::family::Family;

pub(super) const CONFIG: &str = "adapter_config.json";

/// The keys that decide what an adapter does.
#[derive(Deserialize)]
struct ConfigFile {
    r: usize,
    lora_alpha: f64,
    #[serde(default)]
    use_rslora: bool,
    target_modules: Value,
    #[serde(default)]
    exclude_modules: Value,
    #[serde(default)]
    layers_to_transform: Value,
    #[serde(default)]
    modules_to_save: Option<Vec<String>>,
}

/// Keys that are read, here and as [`ConfigFile`].
const READ: [&str; 11] = [
    "peft_type",
    "r",
    "lora_alpha",
    "use_rslora",
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "modules_to_save",
    "base_model_name_or_path",
    "revision",
    "task_type",
];

/// Keys without effect on a trained adapter: how it was trained and drawn at the start, notes, and sizes of variants that are off.
const WITHOUT_EFFECT: [&str; 13] = [
    "auto_mapping",
    "inference_mode",
    "lora_dropout",
    "peft_version",
    "megatron_core",
    "loftq_config",
    "eva_config",
    "corda_config",
    "lora_ga_config",
    "runtime_config",
    "qalora_group_size",
    "ensure_weight_tying",
    "save_embedding_layers",
];

/// Values of `init_lora_weights` that leave the base as it is. The others (`pissa`, `olora`, `corda`, `loftq`, …) take a part of the
/// base's weights into the adapter, so that it stands on other weights than the base's files have.
const HARMLESS_STARTS: [&str; 3] = ["gaussian", "eva", "orthogonal"];

const FORMULA: &str = "adapters of the form W + (α/r)·B·A are read; merge others with PEFT's merge_and_unload and name the merged folder";

/// What the file says.
pub(super) struct Described {
    pub(super) rank: usize,
    /// With which [`LoraConfig::scale`] is the adapter's.
    pub(super) alpha: f64,
    pub(super) choice: Choice,
}

/// Where in a model the adapter stands, as far as the file says it in a way that is read here.
pub(super) struct Choice {
    chosen: Modules,
    excluded: Modules,
    /// Layers; all where there is none.
    layers: Option<Vec<usize>>,
}

/// Names of modules, or a pattern that stands for some.
enum Modules {
    /// Full names, or their ends behind a dot.
    Named(Vec<String>),
    /// A regular expression of Python's, or `all-linear`: which modules it means is read off the tensors.
    Pattern,
}

impl Modules {
    /// Whether a module is one of them; `None` where that cannot be said.
    fn hold(&self, module: &str) -> Option<bool> {
        match self {
            Self::Named(names) => Some(names.iter().any(|name| {
                module
                    .strip_suffix(name.as_str())
                    .is_some_and(|before| before.is_empty() || before.ends_with('.'))
            })),
            Self::Pattern => None,
        }
    }
}

impl Choice {
    /// Whether the adapter stands beside a map of a layer; `None` where only the tensors say it.
    pub(super) fn holds(&self, layer: usize, module: &str) -> Option<bool> {
        if self
            .layers
            .as_ref()
            .is_some_and(|layers| !layers.contains(&layer))
        {
            return Some(false);
        }
        match (self.excluded.hold(module), self.chosen.hold(module)) {
            (Some(true), _) | (_, Some(false)) => Some(false),
            (Some(false), Some(true)) => Some(true),
            _ => None,
        }
    }
}

/// Reads and checks the file of an adapter's folder.
pub(super) fn read(dir: &Path, family: Family) -> Result<Described> {
    let (path, keys) = keys(dir)?;
    described(keys, family).map_err(|error| error.context(path.display()))
}

/// What the file names as the model under the adapter: a path, or a hub id with its revision.
pub(super) fn base(dir: &Path) -> Result<PathBuf> {
    let (path, keys) = keys(dir)?;
    let text = |key: &str| keys.get(key).and_then(Value::as_str);
    let named = text("base_model_name_or_path").filter(|name| !name.is_empty());
    let named = named.ok_or_else(|| {
        Error::input(format!(
            "{}: base_model_name_or_path is missing; a path or a hub id is accepted",
            path.display()
        ))
    })?;
    let exists = dir.join(named).exists() || Path::new(named).exists();
    Ok(match text("revision").filter(|_| !exists) {
        Some(revision) if !named.contains('@') => format!("{named}@{revision}").into(),
        _ => named.into(),
    })
}

fn keys(dir: &Path) -> Result<(PathBuf, Map<String, Value>)> {
    let path = dir.join(CONFIG);
    let text = std::fs::read(&path).map_err(|error| Error::io("read", &path, &error))?;
    let keys = serde_json::from_slice(&text)
        .map_err(|error| Error::input(format!("{}: {error}", path.display())))?;
    Ok((path, keys))
}

fn described(keys: Map<String, Value>, family: Family) -> Result<Described> {
    let kind = keys.get("peft_type").unwrap_or(&Value::Null);
    if kind != "LORA" {
        return Err(Error::input(format!(
            "peft_type is {kind}; accepted: \"LORA\""
        )));
    }
    check_keys(&keys)?;
    let file: ConfigFile = serde_path_to_error::deserialize(Value::Object(keys))
        .map_err(|error| Error::input(format!("{}: {}", error.path(), error.inner())))?;
    let saved = file.modules_to_save.unwrap_or_default();
    // PEFT names both for every classifier, whatever the model calls its head.
    let is_head = |module: &&String| *module == "score" || *module == "classifier";
    if let Some(module) = saved.iter().find(|module| !is_head(module)) {
        return Err(Error::input(format!(
            "modules_to_save holds {module:?}; accepted: \"score\""
        ))
        .hint("modules that are trained whole are not read beside an adapter; merge it with PEFT's merge_and_unload"));
    }
    let chosen = modules("target_modules", &file.target_modules)?;
    if let Modules::Named(names) = &chosen {
        check_targets(names, family)?;
    }
    let described = Described {
        rank: file.r,
        // rsLoRA divides by √r instead of r (Kalajdzievski 2023, arXiv:2312.03732): α·√r / r.
        alpha: if file.use_rslora {
            file.lora_alpha * (file.r as f64).sqrt()
        } else {
            file.lora_alpha
        },
        choice: Choice {
            chosen,
            excluded: modules("exclude_modules", &file.exclude_modules)?,
            layers: layers(&file.layers_to_transform)?,
        },
    };
    // Targets follow from the tensors.
    LoraConfig {
        rank: described.rank,
        alpha: described.alpha,
        ..LoraConfig::default()
    }
    .validate("adapter")?;
    Ok(described)
}

/// Refuses a key that changes the formula, or that is not known and not off.
fn check_keys(keys: &Map<String, Value>) -> Result<()> {
    for (key, value) in keys {
        let accepted = match key.as_str() {
            "bias" if value == "none" || is_off(value) => continue,
            "bias" => "\"none\"",
            "init_lora_weights" if starts_harmlessly(value) => continue,
            "init_lora_weights" => "true, false, \"gaussian\", \"eva\", \"orthogonal\"",
            "layers_pattern" if *value == "layers" || is_off(value) => continue,
            "layers_pattern" => "\"layers\"",
            known if READ.contains(&known) || WITHOUT_EFFECT.contains(&known) => continue,
            _ if is_off(value) => continue,
            _ => "off",
        };
        return Err(Error::input(format!("{key} is {value}; accepted: {accepted}")).hint(FORMULA));
    }
    Ok(())
}

fn starts_harmlessly(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) => true,
        Value::String(start) => HARMLESS_STARTS.contains(&start.as_str()),
        _ => false,
    }
}

/// A list of names, or a text that stands for some.
fn modules(key: &str, value: &Value) -> Result<Modules> {
    let names = match value {
        Value::Null => Some(Vec::new()),
        Value::String(_) => return Ok(Modules::Pattern),
        Value::Array(items) => items
            .iter()
            .map(|item| item.as_str().map(str::to_owned))
            .collect(),
        _ => None,
    };
    names.map(Modules::Named).ok_or_else(|| {
        Error::input(format!(
            "{key} is {value}; accepted: a list of names of modules, or a pattern"
        ))
    })
}

fn check_targets(names: &[String], family: Family) -> Result<()> {
    let rows = family.architecture().layer.iter();
    let targets = rows.filter_map(|(field, _, _)| Target::of(*field));
    let maps: Vec<_> = targets.map(Target::name).collect();
    // PEFT passes over names that match nothing as long as one does; those of other families' maps are in many lists.
    let others: Vec<_> = Target::ALL.into_iter().map(Target::name).collect();
    if names.is_empty() {
        return Err(Error::input(
            "target_modules: none is named; at least one is needed",
        ));
    }
    let unknown = names.iter().find(|name| {
        let end = name.rsplit('.').next().unwrap_or(name);
        !maps.contains(&end) && !others.contains(&end)
    });
    match unknown {
        None => Ok(()),
        Some(name) => Err(Error::input(format!(
            "target_modules holds {name:?}; accepted: {}",
            maps.join(", ")
        ))),
    }
}

/// One layer, a list of layers, or all.
fn layers(value: &Value) -> Result<Option<Vec<usize>>> {
    let items = match value {
        Value::Array(items) => items.as_slice(),
        single => std::slice::from_ref(single),
    };
    if is_off(value) {
        return Ok(None);
    }
    let number = |item: &Value| item.as_u64().and_then(|layer| usize::try_from(layer).ok());
    let layers: Option<Vec<usize>> = items.iter().map(number).collect();
    layers.map(Some).ok_or_else(|| {
        Error::input(format!(
            "layers_to_transform is {value}; accepted: the number of a layer, or a list of them"
        ))
    })
}
