//! What SFT starts from: a model on disk or of the hub, or a fresh model of the sandbox's shape with the sandbox's tokenizer.

use std::fs;
use std::path::{Path, PathBuf};

use finegrain_sdk::rng::Stream;
use serde_json::{Value, json};

use crate::config::{Config, Task};
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::model::ends::disagreement;
use crate::model::{CausalLm, CausalLmConfig, checkpoint, locate, lora, tokens_beyond};
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
            Self::Disk(path) => hashes(path),
            Self::Sandbox(config) => Ok(json!({ "fresh": config.model })),
        }
    }

    /// Its tokenizer and its sizes, without reading weights.
    ///
    /// # Errors
    /// Files that cannot be read; a tokenizer of another model; an EOS that the model has no embedding for, with which every response
    /// would end.
    pub fn without_weights(&self) -> Result<(Tokenizer, CausalLmConfig)> {
        match self {
            Self::Disk(path) => {
                let (tokenizer, sizes) =
                    (lora::tokenizer_of(path, None)?, checkpoint::sizes(path)?);
                check_tokenizer(&sizes, &tokenizer)
                    .map_err(|error| error.context(path.display()))?;
                Ok((tokenizer, sizes))
            }
            Self::Sandbox(config) => {
                let tokenizer = sandbox::tokenizer()?;
                let sizes = config.model.model_config(&tokenizer);
                Ok((tokenizer, sizes))
            }
        }
    }

    /// What is worth a line to the user about the files: ends of responses on which they disagree, tokens without an embedding.
    ///
    /// # Errors
    /// Those of [`Self::without_weights`].
    pub fn remarks(&self) -> Result<Vec<String>> {
        let Self::Disk(path) = self else {
            return Ok(Vec::new());
        };
        let (tokenizer, sizes) = self.without_weights()?;
        let all = [
            disagreement(path, &tokenizer)?,
            tokens_beyond(&sizes, &tokenizer)?,
        ];
        Ok(all.into_iter().flatten().collect())
    }

    /// The model and its tokenizer; fresh weights are drawn from `stream`.
    pub fn open(&self, stream: &Stream) -> Result<(CausalLm, Tokenizer)> {
        match self {
            Self::Disk(path) => {
                // An adapter that is there already is a part of what training starts from, not what is trained.
                let (model, tokenizer) = (
                    CausalLm::load(path)?.merged()?,
                    lora::tokenizer_of(path, None)?,
                );
                check_tokenizer(model.config(), &tokenizer)
                    .map_err(|error| error.context(path.display()))?;
                Ok((model, tokenizer))
            }
            Self::Sandbox(config) => sandbox::fresh_model(&config.model, stream),
        }
    }
}

/// Refuses a tokenizer of another model, and one whose EOS the model has no embedding for.
fn check_tokenizer(sizes: &CausalLmConfig, tokenizer: &Tokenizer) -> Result<()> {
    tokens_beyond(sizes, tokenizer)?;
    let (eos, rows) = (tokenizer.eos(), sizes.vocab_size);
    if (eos as usize) < rows {
        return Ok(());
    }
    let name = tokenizer.id_to_token(eos).unwrap_or_default();
    Err(Error::input(format!(
        "the tokenizer's EOS {name:?} has the id {eos}; accepted: below the rows of the model's table, which are {rows}"
    ))
    .hint("every response would end with it; use the tokenizer.json that was made for this model"))
}

/// The hashes of a model's files, and of those of the model under an adapter.
fn hashes(path: &Path) -> Result<Value> {
    if lora::is_adapter(path) {
        Ok(json!({
            "adapter": folder_hashes(path)?,
            "base": hashes(&lora::base_of(path)?)?,
        }))
    } else if path.is_dir() {
        folder_hashes(path)
    } else {
        Ok(json!({ "file": sha256_of_file(path)? }))
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
    use crate::data::tokenizer::FILE as TOKENIZER;
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
        let plain = CausalLm::load(base.path()).unwrap();
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

    #[test]
    fn a_folder_that_is_no_model_is_no_business_of_its_fingerprint() {
        let dir = tempfile::tempdir().unwrap();
        let model = BaseModel::Disk(dir.path().to_owned());
        assert_eq!(model.fingerprint().unwrap(), json!({}));
        fs::write(dir.path().join(TOKENIZER), "{}").unwrap();
        assert!(model.fingerprint().unwrap()[TOKENIZER].is_string());
    }

    /// A folder with the sandbox's tokenizer, whose EOS is 2, and what its files name as the end of a response.
    fn named(own: &Value, generation: Option<&Value>) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        save_base(1, dir.path());
        let file = dir.path().join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        config["eos_token_id"] = own.clone();
        fs::write(&file, config.to_string()).unwrap();
        if let Some(ids) = generation {
            let text = json!({ "eos_token_id": ids }).to_string();
            fs::write(dir.path().join("generation_config.json"), text).unwrap();
        }
        dir
    }

    #[test]
    fn files_that_disagree_on_the_end_of_a_response_are_worth_a_line_and_count() {
        let mut seen = Vec::new();
        for (own, generation, remarks) in [
            (json!(2), None, 0),
            (json!([2]), Some(json!(2)), 0),
            (json!([2, 5]), None, 1),
            (json!(2), Some(json!([7, 2])), 1),
            // Files that name no token disagree with nobody.
            (json!(null), None, 0),
        ] {
            let dir = named(&own, generation.as_ref());
            let model = BaseModel::Disk(dir.path().to_owned());
            let found = model.remarks().unwrap();
            assert_eq!(found.len(), remarks, "{own} {generation:?}: {found:?}");
            let fingerprint = model.fingerprint().unwrap();
            assert!(!seen.contains(&fingerprint), "{own} {generation:?}");
            seen.push(fingerprint);
        }
    }

    #[test]
    fn a_padding_token_without_an_embedding_is_worth_a_line_and_an_eos_is_refused() {
        let dir = named(&json!(2), None);
        let file = dir.path().join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let rows = config["vocab_size"].as_u64().unwrap();
        let added = dir.path().join(TOKENIZER);
        let mut tokens: Value = serde_json::from_slice(&fs::read(&added).unwrap()).unwrap();
        let mut pad = tokens["added_tokens"][0].clone();
        (pad["id"], pad["content"]) = (json!(rows), json!("[PAD]"));
        tokens["added_tokens"].as_array_mut().unwrap().push(pad);
        fs::write(&added, tokens.to_string()).unwrap();
        let model = BaseModel::Disk(dir.path().to_owned());
        let remarks = model.remarks().unwrap();
        let words = format!(
            "an added token beyond the model's table of {rows} rows, from id {rows} (\"[PAD]\")"
        );
        assert!(
            remarks.len() == 1 && remarks[0].contains(&words),
            "{remarks:?}"
        );
        let refused = |words: &str| {
            let error = model.remarks().unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        let settings = dir.path().join("tokenizer_config.json");
        let before = fs::read(&settings).unwrap();
        let named = json!({ "bos_token": "<s>", "eos_token": "[PAD]" });
        fs::write(&settings, named.to_string()).unwrap();
        refused(&format!("EOS \"[PAD]\" has the id {rows}"));
        fs::write(&settings, before).unwrap();
        // The configuration is enough: weights are not read here.
        config["vocab_size"] = json!(rows - 1);
        fs::write(&file, config.to_string()).unwrap();
        refused(&format!(
            "has {} tokens, the model's vocab_size is {}",
            rows + 1,
            rows - 1
        ));
    }

    #[test]
    fn an_adapter_without_a_tokenizer_has_its_bases() {
        let (base, adapter) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        save_base(1, base.path());
        let plain = CausalLm::load(base.path()).unwrap();
        let adapted = plain
            .with_lora(&LoraConfig::default(), &Stream::new(2))
            .unwrap();
        adapted.save(adapter.path()).unwrap();
        let start = BaseModel::Disk(adapter.path().to_owned());
        let (_, tokenizer) = start.open(&Stream::new(3)).unwrap();
        let own = Tokenizer::load(base.path()).unwrap();
        assert_eq!(tokenizer.vocab_size(), own.vocab_size());
        assert!(start.fingerprint().unwrap()["base"]["tokenizer.json"].is_string());
    }
}
