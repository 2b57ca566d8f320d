//! PEFT's two files: `adapter_config.json` and `adapter_model.safetensors`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Adapter, LoraConfig, SavedHead, Target};
use crate::error::{Error, Result};
use crate::model::checkpoint::{as_f32, write_weights};
use crate::model::parameters::Entry;
use crate::pipeline::atomic::write_atomic;

pub(super) const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

/// What PEFT puts before the names of modules that are saved whole beside an adapter (`modules_to_save`).
const WHOLE: &str = "base_model.model.";

/// The keys of `adapter_config.json` that decide what an adapter does.
#[derive(Deserialize)]
struct ConfigFile {
    peft_type: String,
    r: usize,
    lora_alpha: f64,
    #[serde(default)]
    base_model_name_or_path: Option<PathBuf>,
    target_modules: Vec<String>,
    #[serde(default)]
    bias: Option<String>,
    #[serde(default)]
    modules_to_save: Option<Vec<String>>,
    /// Whatever else stands there.
    #[serde(flatten)]
    others: HashMap<String, Value>,
}

/// Keys under which PEFT keeps variants of LoRA with another formula, all off by default.
const VARIANTS: [&str; 10] = [
    "use_rslora",
    "use_dora",
    "use_qalora",
    "fan_in_fan_out",
    "lora_bias",
    "rank_pattern",
    "alpha_pattern",
    "layers_to_transform",
    "target_parameters",
    "layer_replication",
];

/// Whether a key is left at what means off.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// Reads and checks `adapter_config.json`.
pub(super) fn read_config(dir: &Path) -> Result<LoraConfig> {
    let path = dir.join(CONFIG);
    let text = std::fs::read(&path).map_err(|error| Error::io("read", &path, &error))?;
    parse(&text).map_err(|error| error.context(path.display()))
}

/// What `adapter_config.json` names as the model under the adapter.
pub(super) fn read_base(dir: &Path) -> Result<PathBuf> {
    let path = dir.join(CONFIG);
    let text = std::fs::read(&path).map_err(|error| Error::io("read", &path, &error))?;
    let file = deserialize(&text).map_err(|error| error.context(path.display()))?;
    file.base_model_name_or_path.ok_or_else(|| {
        Error::input(format!(
            "{}: base_model_name_or_path is missing; a path is accepted",
            path.display()
        ))
    })
}

fn deserialize(text: &[u8]) -> Result<ConfigFile> {
    let mut json = serde_json::Deserializer::from_slice(text);
    serde_path_to_error::deserialize(&mut json)
        .map_err(|error| Error::input(format!("{}: {}", error.path(), error.inner())))
}

fn parse(text: &[u8]) -> Result<LoraConfig> {
    let file = deserialize(text)?;
    if file.peft_type != "LORA" {
        return Err(Error::input(format!(
            "peft_type is {:?}; accepted: \"LORA\"",
            file.peft_type
        )));
    }
    for key in VARIANTS {
        if let Some(value) = file.others.get(key).filter(|value| !is_off(value)) {
            return Err(Error::input(format!(
                "{key} is {value}; accepted: off"
            ))
            .hint("adapters of the form W + (α/r)·B·A are read; merge others with PEFT's merge_and_unload"));
        }
    }
    if let Some(bias) = file.bias.filter(|bias| bias != "none") {
        return Err(Error::input(format!(
            "bias is {bias:?}; accepted: \"none\""
        )));
    }
    let saved = file.modules_to_save.unwrap_or_default();
    if let Some(module) = saved.iter().find(|module| *module != "score") {
        return Err(Error::input(format!(
            "modules_to_save holds {module:?}; accepted: \"score\""
        )));
    }
    let targets = file.target_modules.iter().map(|name| {
        let short = name.rsplit('.').next().unwrap_or(name);
        let target = Target::ALL.into_iter().find(|target| {
            let module = target.module().rsplit('.').next();
            module == Some(short)
        });
        target.ok_or_else(|| {
            Error::input(format!(
                "target_modules holds {name:?}; accepted: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj"
            ))
        })
    });
    let mut targets = targets.collect::<Result<Vec<_>>>()?;
    targets.sort_unstable();
    let config = LoraConfig {
        rank: file.r,
        alpha: file.lora_alpha,
        targets,
    };
    config.validate("adapter")?;
    Ok(config)
}

/// The tensors of `adapter_model.safetensors`.
pub(super) struct Tensors {
    path: PathBuf,
    all: HashMap<String, Tensor>,
}

impl Tensors {
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(WEIGHTS);
        let all = candle_core::safetensors::load(&path, &Device::Cpu)
            .map_err(|error| Error::input(format!("{}: {error}", path.display())))?;
        Ok(Self { path, all })
    }

    /// The values of a tensor as f32.
    pub(super) fn get(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let Some(tensor) = self.all.get(name) else {
            let path = self.path.display();
            return Err(Error::input(format!("{path} has no tensor {name:?}"))
                .hint("the adapter must be one for this model"));
        };
        as_f32(&self.path, name, tensor, shape)
    }

    /// A scalar head's weight (C,) and bias, where there is one; transformers' head has no bias, which is 0 then.
    pub(super) fn head(&self, channels: usize) -> Result<Option<SavedHead>> {
        let (weight, bias) = (format!("{WHOLE}score.weight"), format!("{WHOLE}score.bias"));
        if !self.all.contains_key(&weight) {
            return Ok(None);
        }
        let weight = self.get(&weight, &[1, channels])?;
        let bias = if self.all.contains_key(&bias) {
            self.get(&bias, &[1])?[0]
        } else {
            0.0
        };
        Ok(Some((weight, bias)))
    }

    /// Refuses tensors that nothing reads: an adapter of a deeper model would otherwise do half of what it should.
    pub(super) fn check_all_are_used(&self, entries: &[Entry]) -> Result<()> {
        let unused = self.all.keys().filter(|name| {
            name.contains(".layers.") && entries.iter().all(|entry| entry.name != **name)
        });
        match unused.min() {
            None => Ok(()),
            Some(name) => Err(Error::input(format!(
                "{}: tensor {name:?} belongs to nothing in the model",
                self.path.display()
            ))
            .hint("the adapter must be one for this model")),
        }
    }
}

/// Writes both files, the configuration last: a folder that has one is complete.
pub(super) fn save(
    adapter: &Adapter,
    dir: &Path,
    base: &Path,
    head: Vec<(String, Tensor)>,
) -> Result<()> {
    let (task, saved) = if head.is_empty() {
        ("CAUSAL_LM", Value::Null)
    } else {
        ("SEQ_CLS", json!(["score"]))
    };
    let mut tensors = adapter.parameters.tensors()?;
    let head = head.into_iter();
    tensors.extend(head.map(|(name, tensor)| (format!("{WHOLE}{name}"), tensor)));
    write_weights(dir, WEIGHTS, &tensors)?;
    let names = adapter.config.targets().filter_map(|target| {
        let module = target.module();
        module.rsplit('.').next()
    });
    let config = json!({
        "peft_type": "LORA",
        "task_type": task,
        "base_model_name_or_path": base,
        "r": adapter.config.rank,
        "lora_alpha": adapter.config.alpha,
        "lora_dropout": 0.0,
        "target_modules": names.collect::<Vec<_>>(),
        "modules_to_save": saved,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
    });
    write_atomic(&dir.join(CONFIG), format!("{config:#}\n").as_bytes())
}
