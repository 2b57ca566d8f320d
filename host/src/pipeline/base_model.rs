//! What SFT starts from: a model on disk or of the hub, or a fresh model of the sandbox's shape with the sandbox's tokenizer.

use std::fs;
use std::path::{Path, PathBuf};

use finegrain_sdk::rng::Stream;
use serde_json::{Value, json};

use crate::config::{Config, Task};
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::model::{Llama, LlamaConfig, check_tokenizer, checkpoint, locate, lora};
use crate::pipeline::store::sha256_of_file;
use crate::sandbox;

/// Where the base model comes from.
pub enum BaseModel<'a> {
    /// A folder with config.json, model.safetensors and tokenizer.json, or a .gguf file.
    Disk(PathBuf),
    /// Fresh weights.
    Sandbox(&'a sandbox::SandboxConfig),
}

impl<'a> BaseModel<'a> {
    /// The base model that a configuration asks for; one of the hub is downloaded where it is not cached.
    pub fn of(config: &'a Config) -> Result<Self> {
        match (&config.model.path, config.task) {
            (Some(path), _) => {
                let found = locate(path).map_err(|error| error.context("model.path"))?;
                Ok(Self::Disk(found))
            }
            (None, Task::Sandbox) => Ok(Self::Sandbox(&config.sandbox)),
            (None, Task::EditPairs | Task::Preferences) => {
                Err(Error::input("model.path: no model is named"))
            }
        }
    }

    /// What identifies it: the hashes of its files, or the sandbox's shape.
    pub fn fingerprint(&self) -> Result<Value> {
        match self {
            Self::Disk(path) if lora::is_adapter(path) => Ok(json!({
                "adapter": folder_hashes(path)?,
                "base": Self::Disk(lora::base_of(path)?).fingerprint()?,
            })),
            Self::Disk(path) if path.is_dir() => folder_hashes(path),
            Self::Disk(file) => Ok(json!({ "file": sha256_of_file(file)? })),
            Self::Sandbox(config) => Ok(json!({ "fresh": config.model })),
        }
    }

    /// Its tokenizer and its sizes, without reading weights.
    pub fn without_weights(&self) -> Result<(Tokenizer, LlamaConfig)> {
        match self {
            Self::Disk(path) => Ok((Tokenizer::load(path)?, checkpoint::sizes(path)?)),
            Self::Sandbox(config) => {
                let tokenizer = sandbox::tokenizer()?;
                let sizes = config.model.llama_config(&tokenizer);
                Ok((tokenizer, sizes))
            }
        }
    }

    /// The model and its tokenizer; fresh weights are drawn from `stream`.
    pub fn open(&self, stream: &Stream) -> Result<(Llama, Tokenizer)> {
        match self {
            Self::Disk(path) => {
                // An adapter that is there already is a part of what training starts from, not what is trained.
                let (model, tokenizer) = (Llama::load(path)?.merged()?, Tokenizer::load(path)?);
                check_tokenizer(model.config(), &tokenizer)?;
                Ok((model, tokenizer))
            }
            Self::Sandbox(config) => sandbox::fresh_model(&config.model, stream),
        }
    }
}

/// The SHA-256 of every file of a model folder that decides what the model does.
fn folder_hashes(dir: &Path) -> Result<Value> {
    let entries = fs::read_dir(dir).map_err(|error| Error::io("read", dir, &error))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry
            .map_err(|error| Error::io("read", dir, &error))?
            .path();
        let counts = path
            .extension()
            .is_some_and(|kind| kind == "json" || kind == "safetensors" || kind == "jinja");
        if counts && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    let mut hashes = serde_json::Map::new();
    for path in files {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        hashes.insert(name, sha256_of_file(&path)?.into());
    }
    Ok(Value::Object(hashes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LoraConfig;
    use crate::sandbox::ModelShape;

    fn save_base(seed: u64, dir: &Path) {
        let shape = ModelShape {
            hidden_size: 8,
            intermediate_size: 16,
            ..ModelShape::default()
        };
        sandbox::save_fresh_model(&shape, &Stream::new(seed), dir).unwrap();
    }

    #[test]
    fn an_adapter_to_start_from_is_merged_and_its_base_counts() {
        let (base, adapter) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        save_base(1, base.path());
        let plain = Llama::load(base.path()).unwrap();
        let mut adapted = plain
            .with_lora(&LoraConfig::default(), &Stream::new(2))
            .unwrap();
        adapted.parameters_mut().host_mut().fill(0.1);
        adapted.save(adapter.path()).unwrap();
        let tokenizer = Tokenizer::load(base.path()).unwrap();
        tokenizer.save(adapter.path()).unwrap();

        let start = BaseModel::Disk(adapter.path().to_owned());
        let (model, _) = start.open(&Stream::new(3)).unwrap();
        assert!(model.adapter().is_none() && !model.has_origin());
        let merged = adapted.merged().unwrap();
        assert_eq!(
            model.weights().values().unwrap(),
            merged.weights().values().unwrap()
        );

        let before = start.fingerprint().unwrap();
        assert_eq!(start.fingerprint().unwrap(), before);
        save_base(4, base.path());
        assert_ne!(start.fingerprint().unwrap(), before);
    }
}
