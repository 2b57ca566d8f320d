//! PEFT's two files: `adapter_model.safetensors`, read and written, and `adapter_config.json`, written; `peft` reads it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde_json::{Value, json};

use super::peft::{CONFIG, Described};
use super::{Adapter, LoraConfig, SavedHead, Target, module_name, tensor_name};
use crate::error::{Error, Result, without_backtrace};
use crate::model::CausalLmConfig;
use crate::model::checkpoint::{as_f32, write_weights};
use crate::model::family::Family;
use crate::model::parameters::Entry;
use crate::pipeline::atomic::write_atomic;

const WEIGHTS: &str = "adapter_model.safetensors";

/// What PEFT puts before the names of modules that are saved whole beside an adapter (`modules_to_save`).
const WHOLE: &str = "base_model.model.";

/// PEFT's older file of weights, which can hold programs.
const PICKLED: &str = "adapter_model.bin";

/// The tensors of `adapter_model.safetensors`.
pub(super) struct Tensors {
    path: PathBuf,
    all: BTreeMap<String, Tensor>,
}

impl Tensors {
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(WEIGHTS);
        if !path.is_file() {
            let error = Error::input(format!("{} has no {WEIGHTS}", dir.display()));
            return Err(if dir.join(PICKLED).is_file() {
                error.hint(format!(
                    "only the safetensors format is read, not {PICKLED}; load the adapter with PEFT and save it again"
                ))
            } else {
                error.hint("an adapter is this file and adapter_config.json")
            });
        }
        let all = candle_core::safetensors::load(&path, &Device::Cpu).map_err(|error| {
            Error::input(format!("{}: {}", path.display(), without_backtrace(&error)))
        })?;
        let all = all.into_iter().collect();
        Ok(Self { path, all })
    }

    /// What the adapter is like: the maps are those that the file has tensors for, which must be those that its configuration
    /// chooses as far as it says so. Layers that are left out have zeros, which change nothing.
    pub(super) fn config(
        &self,
        described: &Described,
        model: &CausalLmConfig,
    ) -> Result<LoraConfig> {
        let mut targets = Vec::new();
        for (field, _, _) in model.family.architecture().layer {
            let Some(target) = Target::of(*field) else {
                continue;
            };
            for layer in 0..model.num_hidden_layers {
                let name = |part| tensor_name(model.family, layer, *field, part);
                let [a, b] = ["lora_A", "lora_B"].map(name);
                let there = [&a, &b].map(|name| self.all.contains_key(name));
                let module = module_name(model.family, layer, *field);
                match (described.choice.holds(layer, &module), there) {
                    (Some(true) | None, [true, true]) => targets.push(target),
                    (Some(false) | None, [false, false]) => {}
                    (Some(false), [has_a, _]) => {
                        let name = if has_a { a } else { b };
                        return Err(self.unused(&name, "adapter_config.json does not choose it"));
                    }
                    (_, [has_a, _]) => return Err(self.missing(if has_a { &b } else { &a })),
                }
            }
        }
        targets.dedup();
        if targets.is_empty() {
            return Err(Error::input(format!(
                "{} has no tensor of an adapter on this model",
                self.path.display()
            ))
            .hint("the adapter must be one for this model"));
        }
        Ok(LoraConfig {
            rank: described.rank,
            alpha: described.alpha,
            targets,
        })
    }

    fn missing(&self, name: &str) -> Error {
        Error::input(format!("{} has no tensor {name:?}", self.path.display()))
            .hint("the adapter must be one for this model")
    }

    fn unused(&self, name: &str, why: &str) -> Error {
        Error::input(format!(
            "{}: tensor {name:?} belongs to nothing in the model: {why}",
            self.path.display()
        ))
        .hint("the adapter must be one for this model")
    }

    /// The values of a tensor as f32; zeros where there is none.
    pub(super) fn get_or_zeros(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        if self.all.contains_key(name) {
            self.get(name, shape)
        } else {
            Ok(vec![0.0; shape.iter().product()])
        }
    }

    /// The values of a tensor as f32.
    fn get(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let tensor = self.all.get(name).ok_or_else(|| self.missing(name))?;
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

    /// Refuses tensors that nothing reads: an adapter of a deeper model would otherwise do half of what it should, and one whose
    /// embeddings were trained would speak with the old ones.
    pub(super) fn check_all_are_used(
        &self,
        entries: &[Entry],
        model: &CausalLmConfig,
    ) -> Result<()> {
        let heads = ["score.weight", "score.bias"].map(|name| format!("{WHOLE}{name}"));
        let unused = self.all.iter().find(|(name, _)| {
            !heads.contains(*name) && entries.iter().all(|entry| entry.name != **name)
        });
        let Some((name, tensor)) = unused else {
            return Ok(());
        };
        if !["embed_tokens", "lm_head"]
            .iter()
            .any(|module| name.contains(module))
        {
            return Err(self.unused(name, "nothing of this name has an adapter"));
        }
        let why = format!(
            "its shape is {:?}, and in the model the table {:?} is none of the maps that have adapters",
            tensor.dims(),
            [model.vocab_size, model.hidden_size]
        );
        Err(self.unused(name, &why).hint(
            "PEFT saves embeddings beside an adapter when they were trained or resized; merge both into the model with PEFT's \
             merge_and_unload and name the merged folder",
        ))
    }
}

/// Writes both files, the configuration last: a folder that has one is complete.
pub(super) fn save(
    (adapter, family): (&Adapter, Family),
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
    let fields = adapter.config.fields(family).into_iter();
    let names = fields.filter_map(Target::of).map(Target::name);
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
