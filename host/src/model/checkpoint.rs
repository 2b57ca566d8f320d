//! Hugging Face model folders: config.json, and weights in model.safetensors or in shards with an index.
//!
//! Weights are read as f32, f16 or bf16 and become f32. Files are written whole or not at all, config.json last: a folder
//! that has one is complete.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use candle_core::safetensors::BufferedSafetensors;
use candle_core::{DType, Device, Tensor};
use serde::Deserialize;

use super::config::LlamaConfig;
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::pipeline::atomic::write_atomic;

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// An opened folder: its configuration and where each tensor lies.
pub(super) struct Checkpoint {
    dir: PathBuf,
    config: LlamaConfig,
    files: Vec<BufferedSafetensors>,
    /// Tensor name → index into `files`.
    places: BTreeMap<String, usize>,
}

/// model.safetensors.index.json; its metadata is not needed.
#[derive(Deserialize)]
struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Reads the configuration and the headers of all weight files of `dir`.
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let config = LlamaConfig::load(&dir.join(CONFIG))?;
        let mut names = Vec::new();
        if dir.join(WEIGHTS).is_file() {
            names.push(WEIGHTS.to_owned());
        } else if dir.join(INDEX).is_file() {
            names = shard_names(&dir.join(INDEX))?;
        } else {
            return Err(Error::input(format!(
                "{} holds neither {WEIGHTS} nor {INDEX}",
                dir.display()
            ))
            .hint("only weights in the safetensors format are read"));
        }
        let mut checkpoint = Self {
            dir: dir.to_owned(),
            config,
            files: Vec::new(),
            places: BTreeMap::new(),
        };
        for name in names {
            checkpoint.add_file(&dir.join(name))?;
        }
        Ok(checkpoint)
    }

    fn add_file(&mut self, path: &Path) -> Result<()> {
        let bytes = std::fs::read(path).map_err(|error| Error::io("read", path, &error))?;
        let file = BufferedSafetensors::new(bytes).map_err(|error| {
            Error::input(format!(
                "{} is not a safetensors file: {error}",
                path.display()
            ))
        })?;
        for (name, _) in file.tensors() {
            self.places.insert(name, self.files.len());
        }
        self.files.push(file);
        Ok(())
    }

    /// The folder's configuration.
    pub(super) fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// Whether the folder has a tensor of this name.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// A tensor as f32 on `device`.
    ///
    /// # Errors
    /// No tensor of this name, another shape, or a type that is not f32, f16 or bf16.
    pub(super) fn tensor(&self, name: &str, shape: &[usize], device: &Device) -> Result<Tensor> {
        let place = self.places.get(name).ok_or_else(|| {
            Error::input(format!("{} has no tensor {name:?}", self.dir.display()))
                .hint("config.json says that there is one; do the two files belong together?")
        })?;
        let tensor = self.files[*place].load(name, device)?;
        if tensor.dims() != shape {
            return Err(Error::input(format!(
                "{}: tensor {name:?} has the shape {:?}, config.json asks for {shape:?}",
                self.dir.display(),
                tensor.dims()
            )));
        }
        match tensor.dtype() {
            DType::F32 | DType::F16 | DType::BF16 => Ok(tensor.to_dtype(DType::F32)?),
            other => Err(Error::input(format!(
                "{}: tensor {name:?} is of the type {}; accepted: f32, f16, bf16",
                self.dir.display(),
                other.as_str()
            ))),
        }
    }
}

/// The files that the index names, each once, in the order of their names.
fn shard_names(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read(path).map_err(|error| Error::io("read", path, &error))?;
    let index: ShardIndex = serde_json::from_slice(&text)
        .map_err(|error| Error::input(format!("{}: {error}", path.display())))?;
    let mut names: Vec<_> = index.weight_map.into_values().collect();
    names.sort();
    names.dedup();
    // A name with folders in it could point outside of the model.
    if let Some(name) = names
        .iter()
        .find(|name| Path::new(name).file_name() != Some(name.as_ref()))
    {
        return Err(Error::input(format!(
            "{}: weight_map names the file {name:?}; accepted: names of files in the same folder",
            path.display()
        )));
    }
    Ok(names)
}

/// Writes weights and config.json into `dir`, which is created where it is missing.
pub(super) fn save(dir: &Path, config: &str, tensors: Vec<(String, Tensor)>) -> Result<()> {
    let tensors = tensors
        .into_iter()
        .map(|(name, tensor)| Ok((name, tensor.to_device(&Device::Cpu)?.contiguous()?)))
        .collect::<Result<Vec<_>>>()?;
    // transformers refuses files that do not say which framework's layout they have.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let bytes = safetensors::serialize(tensors, Some(metadata))
        .map_err(|error| Error::internal(format!("cannot serialise the weights: {error}")))?;
    write_atomic(&dir.join(WEIGHTS), &bytes)?;
    write_atomic(&dir.join(CONFIG), config.as_bytes())
}

/// Refuses a tokenizer with ids that the model has no embedding for. The model may have more: tables are often padded.
pub fn check_tokenizer(config: &LlamaConfig, tokenizer: &Tokenizer) -> Result<()> {
    if tokenizer.vocab_size() > config.vocab_size {
        return Err(Error::input(format!(
            "the tokenizer has {} tokens, the model's vocab_size is {}",
            tokenizer.vocab_size(),
            config.vocab_size
        ))
        .hint("use the tokenizer.json that was made for this model"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Llama, fixture};

    fn logprobs(model: &Llama) -> Result<Vec<f32>> {
        let out = model.log_probs(&fixture::batch(), 1.0)?.logprobs;
        Ok(out.to_vec1::<f32>()?)
    }

    fn saved() -> Result<(tempfile::TempDir, Llama)> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let model = fixture::model(false)?;
        model.save(dir.path())?;
        Ok((dir, model))
    }

    #[test]
    fn a_saved_model_is_the_same_to_the_bit() -> Result<()> {
        let (dir, model) = saved()?;
        let again = Llama::load(dir.path(), &Device::Cpu)?;
        assert_eq!(again.config(), model.config());
        assert_eq!(logprobs(&again)?, logprobs(&model)?);
        Ok(())
    }

    #[test]
    fn shards_and_half_precision_are_read() -> Result<()> {
        let (dir, model) = saved()?;
        for dtype in [DType::BF16, DType::F16] {
            let mut weight_map = BTreeMap::new();
            for (shard, part) in model.named_tensors().chunks(8).enumerate() {
                let file = format!("model-{shard}.safetensors");
                let mut tensors = HashMap::new();
                for (name, tensor) in part {
                    tensors.insert(name.clone(), tensor.to_dtype(dtype)?);
                    weight_map.insert(name.clone(), file.clone());
                }
                candle_core::safetensors::save(&tensors, dir.path().join(file))?;
            }
            let index = serde_json::json!({ "metadata": {}, "weight_map": weight_map });
            write_atomic(&dir.path().join(INDEX), index.to_string().as_bytes())?;
            std::fs::remove_file(dir.path().join(WEIGHTS)).ok();
            let half = Llama::load(dir.path(), &Device::Cpu)?;
            // Every weight is the nearest half-precision number to the original.
            for ((name, read), (_, original)) in
                half.named_tensors().iter().zip(model.named_tensors())
            {
                assert_eq!(read.dtype(), DType::F32, "{name}");
                let rounded = original.to_dtype(dtype)?.to_dtype(DType::F32)?;
                let apart = (read - rounded)?.abs()?.sum_all()?.to_scalar::<f32>()?;
                assert_eq!(apart, 0.0, "{name}");
            }
        }
        Ok(())
    }

    #[test]
    fn a_broken_folder_is_refused_with_what_is_wrong() -> Result<()> {
        let (dir, model) = saved()?;
        let load = || {
            Llama::load(dir.path(), &Device::Cpu)
                .err()
                .expect("a broken folder")
        };
        let all = model.named_tensors();
        let write = |tensors: Vec<(String, Tensor)>| {
            save(
                dir.path(),
                &model.config().to_json("LlamaForCausalLM"),
                tensors,
            )
        };

        write(all[..all.len() - 1].to_vec())?;
        let error = load();
        assert!(
            error.to_string().contains("no tensor \"lm_head.weight\""),
            "{error}"
        );

        let mut wrong = all.clone();
        wrong[2].1 = wrong[2].1.t()?.contiguous()?;
        write(wrong)?;
        let text = load().to_string();
        assert!(
            text.contains("q_proj") && text.contains("[12, 24]") && text.contains("[24, 12]"),
            "{text}"
        );

        let mut wrong = all;
        wrong[0].1 = wrong[0].1.to_dtype(DType::F64)?;
        write(wrong)?;
        assert!(
            load().to_string().contains("is of the type f64"),
            "{}",
            load()
        );

        std::fs::write(dir.path().join(WEIGHTS), b"not safetensors").expect("written");
        assert!(
            load().to_string().contains("is not a safetensors file"),
            "{}",
            load()
        );

        std::fs::remove_file(dir.path().join(WEIGHTS)).expect("removed");
        assert!(load().to_string().contains("holds neither"), "{}", load());

        let index = r#"{"weight_map": {"a": "../elsewhere.safetensors"}}"#;
        write_atomic(&dir.path().join(INDEX), index.as_bytes())?;
        assert!(
            load().to_string().contains("../elsewhere.safetensors"),
            "{}",
            load()
        );
        write_atomic(
            &dir.path().join(INDEX),
            br#"{"weight_map": {"a": "gone.safetensors"}}"#,
        )?;
        assert!(load().to_string().contains("cannot read"), "{}", load());

        std::fs::remove_file(dir.path().join(CONFIG)).expect("removed");
        assert!(load().to_string().contains("config.json"), "{}", load());
        assert_eq!(load().exit_code(), 2);
        Ok(())
    }
}
