//! A Hugging Face folder that is read: config.json, and model.safetensors or shards with an index.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::safetensors::BufferedSafetensors;
use candle_core::{Device, Tensor};
use serde::Deserialize;

use super::super::config::CausalLmConfig;
use super::{CONFIG, INDEX, WEIGHTS, holdings};
use crate::error::{Error, Result, without_backtrace};

/// An opened folder: its configuration and where each tensor lies.
pub(super) struct Folder {
    config: CausalLmConfig,
    files: Vec<BufferedSafetensors>,
    /// Tensor name → index into `files`, and its name there.
    places: BTreeMap<String, (usize, String)>,
    remarks: Vec<String>,
}

/// model.safetensors.index.json; its metadata is not needed.
#[derive(Deserialize)]
struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

impl Folder {
    /// Reads the configuration and the headers of all weight files of `dir`.
    ///
    /// # Errors
    /// A file that cannot be read, a configuration that is not supported, a tensor that belongs to nothing in one.
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let config = CausalLmConfig::load(&dir.join(CONFIG))?;
        let mut folder = Self {
            config,
            files: Vec::new(),
            places: BTreeMap::new(),
            remarks: Vec::new(),
        };
        for path in weight_files(dir)? {
            folder.add_file(&path)?;
        }
        let names: Vec<&str> = folder.places.keys().map(String::as_str).collect();
        let left_out = holdings::check_names(dir, &folder.config, &names)?;
        let head = holdings::settle_head(dir, &mut folder)?;
        folder.remarks.extend(left_out.into_iter().chain(head));
        Ok(folder)
    }

    fn add_file(&mut self, path: &Path) -> Result<()> {
        let bytes = std::fs::read(path).map_err(|error| Error::io("read", path, &error))?;
        let file = BufferedSafetensors::new(bytes).map_err(|error| {
            Error::input(format!(
                "{} is not a safetensors file: {}",
                path.display(),
                without_backtrace(&error)
            ))
        })?;
        for (name, _) in file.tensors() {
            self.places.insert(name.clone(), (self.files.len(), name));
        }
        self.files.push(file);
        Ok(())
    }

    pub(super) fn config(&self) -> &CausalLmConfig {
        &self.config
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// What is worth a line although the folder is read.
    pub(super) fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// A tensor that the folder contains, as it is stored.
    pub(super) fn tensor(&self, name: &str, device: &Device) -> Result<Tensor> {
        let (file, stored) = &self.places[name];
        Ok(self.files[*file].load(stored, device)?)
    }

    /// Whether two tensors that the folder contains are the same bytes of the same type and shape.
    pub(super) fn same(&self, one: &str, other: &str) -> Result<bool> {
        let view = |name: &str| {
            let (file, stored) = &self.places[name];
            self.files[*file].get(stored)
        };
        let (one, other) = (view(one)?, view(other)?);
        Ok(one.dtype() == other.dtype()
            && one.shape() == other.shape()
            && one.data() == other.data())
    }

    /// Lets the tensor `name` answer to `also`, too.
    pub(super) fn also_call(&mut self, name: &str, also: &str) {
        if let Some(place) = self.places.get(name).cloned() {
            self.places.insert(also.to_owned(), place);
        }
    }

    /// The head is a tensor of its own, whatever config.json says.
    pub(super) fn untie(&mut self) {
        self.config.tie_word_embeddings = false;
    }

    /// The head is the table, whatever config.json says.
    pub(super) fn tie(&mut self) {
        self.config.tie_word_embeddings = true;
    }
}

/// The files that hold the weights of `dir`.
pub(super) fn weight_files(dir: &Path) -> Result<Vec<PathBuf>> {
    if dir.join(WEIGHTS).is_file() {
        return Ok(vec![dir.join(WEIGHTS)]);
    }
    let index = dir.join(INDEX);
    if index.is_file() {
        let text = std::fs::read(&index).map_err(|error| Error::io("read", &index, &error))?;
        let names = shard_names(&text).map_err(|error| error.context(index.display()))?;
        return Ok(names.into_iter().map(|name| dir.join(name)).collect());
    }
    Err(Error::input(format!(
        "{} holds neither {WEIGHTS} nor {INDEX}",
        dir.display()
    ))
    .hint("only weights in the safetensors format are read; a .gguf is named itself"))
}

/// The files that the text of an index names, each once, in the order of their names.
pub(super) fn shard_names(text: &[u8]) -> Result<Vec<String>> {
    let index: ShardIndex =
        serde_json::from_slice(text).map_err(|error| Error::input(error.to_string()))?;
    let mut names: Vec<_> = index.weight_map.into_values().collect();
    names.sort();
    names.dedup();
    // A name with folders in it could point outside of the model.
    if let Some(name) = names
        .iter()
        .find(|name| Path::new(name).file_name() != Some(name.as_ref()))
    {
        return Err(Error::input(format!(
            "weight_map names the file {name:?}; accepted: names of files in the same folder"
        )));
    }
    Ok(names)
}
