//! Models on disk: Hugging Face folders (config.json, and weights in model.safetensors or in shards with an index),
//! GGUF files, and models of the Hugging Face hub.
//!
//! Weights are read as f32, f16, bf16 or quantised and become f32. Folders are what is written: each file whole or not
//! at all, config.json last: a folder that has one is complete.

mod folder;
mod gguf;
mod holdings;
mod hub;
mod write;

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};

use super::config::{self, CausalLmConfig};
use super::lora;
use crate::data::gguf::is_gguf;
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use folder::Folder;
use gguf::GgufModel;

pub use hub::{is_here, locate, sizes};
pub(super) use write::{save, write_weights};

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// An opened model: its configuration and where each tensor lies.
pub(super) struct Checkpoint {
    path: PathBuf,
    source: Source,
}

enum Source {
    Folder(Folder),
    Gguf(GgufModel),
}

impl Checkpoint {
    /// Reads the configuration and the headers of a folder or a .gguf file.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let source = if is_gguf(path) && !path.is_dir() {
            Source::Gguf(GgufModel::open(path)?)
        } else {
            Source::Folder(Folder::open(path)?)
        };
        Ok(Self {
            path: path.to_owned(),
            source,
        })
    }

    /// The model's configuration.
    pub(super) fn config(&self) -> &CausalLmConfig {
        match &self.source {
            Source::Folder(folder) => folder.config(),
            Source::Gguf(model) => model.config(),
        }
    }

    /// What is worth a line although the model is read.
    pub(super) fn remarks(&self) -> &[String] {
        match &self.source {
            Source::Folder(folder) => folder.remarks(),
            Source::Gguf(_) => &[],
        }
    }

    /// Whether there is a tensor of this Hugging Face name.
    pub(super) fn contains(&self, name: &str) -> bool {
        match &self.source {
            Source::Folder(folder) => folder.contains(name),
            Source::Gguf(model) => model.contains(name),
        }
    }

    /// The values of a tensor as f32, row by row.
    ///
    /// # Errors
    /// No tensor of this name, another shape, or a type that is not f32, f16 or bf16 (in a folder).
    pub(super) fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let path = self.path.display();
        if !self.contains(name) {
            return Err(Error::input(format!("{path} has no tensor {name:?}")).hint(
                "the model's configuration says that there is one; do the files belong together?",
            ));
        }
        let tensor = match &self.source {
            Source::Folder(folder) => folder.tensor(name, &Device::Cpu)?,
            Source::Gguf(model) => model.tensor(name, &Device::Cpu)?,
        };
        as_f32(&self.path, name, &tensor, shape)
    }
}

/// The values of a stored tensor as f32, row by row.
///
/// # Errors
/// Another shape, or a type that is not f32, f16 or bf16.
pub(super) fn as_f32(
    path: &Path,
    name: &str,
    tensor: &Tensor,
    shape: &[usize],
) -> Result<Vec<f32>> {
    let path = path.display();
    if tensor.dims() != shape {
        return Err(Error::input(format!(
            "{path}: tensor {name:?} has the shape {:?}, the configuration asks for {shape:?}",
            tensor.dims()
        )));
    }
    match tensor.dtype() {
        DType::F32 | DType::F16 | DType::BF16 => {
            Ok(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
        }
        other => Err(Error::input(format!(
            "{path}: tensor {name:?} is of the type {}; accepted: f32, f16, bf16",
            other.as_str()
        ))),
    }
}

/// Which files of a model name tokens that end a response, and whom each names: of a folder its two configurations, of a .gguf its
/// metadata, of an adapter those of its base.
///
/// # Errors
/// A file that cannot be read.
pub(super) fn named_ends(path: &Path) -> Result<Vec<(String, Vec<u32>)>> {
    if lora::is_adapter(path) {
        return named_ends(&lora::base_of(path)?);
    }
    if path.is_dir() {
        let named = config::named_ends(&path.join(CONFIG))?.into_iter();
        return Ok(named.map(|(file, ids)| (file.to_owned(), ids)).collect());
    }
    let ids = sizes(path)?.eos_token_id;
    Ok(vec![("the file's metadata".to_owned(), ids)])
}

/// What is worth a line where a tokenizer has added tokens that the model has no embedding for: fine-tunes add a padding token to
/// the one and not to the other, and no text has it. A text that does is refused when it comes, with the id. The model may have more
/// rows than the tokenizer has tokens: tables are often padded.
///
/// # Errors
/// A tokenizer whose own vocabulary goes beyond the table: it belongs to another model.
pub fn tokens_beyond(config: &CausalLmConfig, tokenizer: &Tokenizer) -> Result<Option<String>> {
    let (rows, tokens) = (config.vocab_size, tokenizer.vocab_size());
    let ids = (rows..tokens).filter_map(|id| u32::try_from(id).ok());
    let beyond: Vec<(u32, String)> = ids
        .filter_map(|id| Some((id, tokenizer.id_to_token(id)?)))
        .collect();
    let Some((first, name)) = beyond.first() else {
        return Ok(None);
    };
    if !beyond.iter().all(|(id, _)| tokenizer.is_added(*id)) {
        return Err(Error::input(format!(
            "the tokenizer has {tokens} tokens, the model's vocab_size is {rows}"
        ))
        .hint("use the tokenizer.json that was made for this model"));
    }
    let (count, verb) = match beyond.len() {
        1 => ("an added token".to_owned(), "has it"),
        n => (format!("{n} added tokens"), "has one"),
    };
    Ok(Some(format!(
        "the tokenizer has {count} beyond the model's table of {rows} rows, from id {first} ({name:?}) on; a text that {verb} is \
         refused"
    )))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use super::*;
    use crate::model::{CausalLm, fixture};
    use crate::pipeline::atomic::write_atomic;

    fn logprobs(model: &CausalLm) -> Result<Vec<f32>> {
        let out = model.log_probs(&fixture::batch(), 1.0)?.logprobs;
        Ok(out)
    }

    fn saved() -> Result<(tempfile::TempDir, CausalLm)> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let model = fixture::model(false)?;
        model.save(dir.path())?;
        Ok((dir, model))
    }

    #[test]
    fn a_saved_model_is_the_same_to_the_bit() -> Result<()> {
        let (dir, model) = saved()?;
        let again = CausalLm::load(dir.path())?;
        assert_eq!(again.config(), model.config());
        assert_eq!(logprobs(&again)?, logprobs(&model)?);
        Ok(())
    }

    #[test]
    fn shards_and_half_precision_are_read() -> Result<()> {
        let (dir, model) = saved()?;
        for dtype in [DType::BF16, DType::F16] {
            let mut weight_map = BTreeMap::new();
            for (shard, part) in model.weights().tensors()?.chunks(8).enumerate() {
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
            let half = CausalLm::load(dir.path())?;
            // Every weight is the nearest half-precision number to the original.
            for ((name, read), (_, original)) in half
                .weights()
                .tensors()?
                .iter()
                .zip(model.weights().tensors()?)
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
        let load = || CausalLm::load(dir.path()).expect_err("a broken folder");
        let all = model.weights().tensors()?;
        let write = |tensors: Vec<(String, Tensor)>| {
            save(dir.path(), &model.config().to_json("ForCausalLM"), tensors)
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
