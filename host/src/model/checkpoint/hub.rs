//! Models by name: a path on this machine, or a model of the Hugging Face hub, out of its cache or downloaded into it.
//!
//! A model that lies in the cache whole needs no network.

use std::fmt;
use std::path::{Path, PathBuf};

use hf_hub::api::sync::{ApiError, ApiRepo};
use hf_hub::{Repo, RepoType};

use super::super::config::{CausalLmConfig, GENERATION};
use super::super::lora;
use super::folder::{shard_names, weight_files};
use super::gguf::GgufModel;
use super::{CONFIG, INDEX, WEIGHTS};
use crate::data::gguf::is_gguf;
use crate::data::hub::{Hub, is_word};
use crate::data::tokenizer;
use crate::error::{Error, Result};

/// What a name of a model may be, for messages.
const ACCEPTED: &str = "accepted: a Hugging Face folder, a .gguf file, or a hub id such as org/name or org/name@revision";

/// Where a model lies that is named by a path or by its hub id; a model of the hub is downloaded where it is not cached.
///
/// # Errors
/// Nothing of this name, a download that fails.
pub fn locate(name: &Path) -> Result<PathBuf> {
    if name.is_dir() || (name.is_file() && is_gguf(name)) {
        return Ok(name.to_owned());
    }
    if name.exists() {
        return Err(Error::input(format!(
            "the model {} is a file; {ACCEPTED}",
            name.display()
        )));
    }
    match name.to_str().and_then(HubId::parse) {
        Some(id) => fetch(&Hub::from_env()?, &id),
        None => Err(Error::input(format!(
            "there is no model {}; {ACCEPTED}",
            name.display()
        ))),
    }
}

/// Whether [`locate`] finds a model without a download.
///
/// # Errors
/// Nothing of this name.
pub fn is_here(name: &Path) -> Result<bool> {
    match name.to_str().and_then(HubId::parse) {
        Some(id) if !name.exists() => Ok(cached(&Hub::from_env()?, &id).is_some()),
        _ => locate(name).map(|_| true),
    }
}

/// The sizes of a model by its name, without its weights: from the config.json of a folder, which needs nothing else in it, or
/// of the hub's cache, or from the metadata of a .gguf file. Nothing is downloaded. An adapter has the sizes of its base.
///
/// # Errors
/// Nothing of this name, a model of the hub that is not cached, a config.json that is not supported.
pub fn sizes(name: &Path) -> Result<CausalLmConfig> {
    if name.is_dir() {
        if lora::is_adapter(name) {
            return sizes(&lora::named_base(name)?);
        }
        let file = name.join(CONFIG);
        if !file.is_file() {
            return Err(
                Error::input(format!("{} has no {CONFIG}", name.display())).hint(
                    "a folder with the model's config.json is enough; weights need not be there",
                ),
            );
        }
        return CausalLmConfig::load(&file);
    }
    if name.is_file() && is_gguf(name) {
        return Ok(GgufModel::open(name)?.config().clone());
    }
    let Some(id) = name
        .to_str()
        .and_then(HubId::parse)
        .filter(|_| !name.exists())
    else {
        return Err(
            Error::input(format!("there is no model {}; {ACCEPTED}", name.display()))
                .hint("a folder with the model's config.json is enough; weights need not be there"),
        );
    };
    let hub = Hub::from_env()?;
    let file = hub.snapshot(&repo(&id)).join(CONFIG);
    if !file.is_file() {
        return Err(Error::input(format!(
            "there is no folder {}, and {} has no {CONFIG} of the model {id}",
            name.display(),
            hub.cache.display()
        ))
        .hint("nothing is downloaded here: put the model's config.json, which is enough, into a folder and name the folder"));
    }
    CausalLmConfig::load(&file)
}

/// `org/name` at a revision: a branch, a tag or a commit.
#[derive(Debug, PartialEq)]
struct HubId {
    repo: String,
    revision: String,
}

impl HubId {
    /// The id that a text is, if it is one.
    fn parse(text: &str) -> Option<Self> {
        let (repo, revision) = text.split_once('@').unwrap_or((text, "main"));
        let (org, name) = repo.split_once('/')?;
        let fits = is_word(org)
            && is_word(name)
            && revision.split('/').all(is_word)
            && !is_gguf(Path::new(name));
        fits.then(|| Self {
            repo: repo.to_owned(),
            revision: revision.to_owned(),
        })
    }
}

impl fmt::Display for HubId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at revision {}", self.repo, self.revision)
    }
}

fn repo(id: &HubId) -> Repo {
    Repo::with_revision(id.repo.clone(), RepoType::Model, id.revision.clone())
}

/// The folder of a model, downloaded where the cache does not have it whole.
fn fetch(hub: &Hub, id: &HubId) -> Result<PathBuf> {
    if let Some(dir) = cached(hub, id) {
        return Ok(dir);
    }
    let found_nothing = format!(
        "cannot fetch the model {id}: there is no such path here, and {} does not hold it whole",
        hub.cache.display()
    );
    let hint = "check the name; private models need HF_TOKEN; without a network, download the model elsewhere and \
                pass the path of its folder";
    if hub.offline {
        return Err(Error::input(format!("{found_nothing}; HF_HUB_OFFLINE is set")).hint(hint));
    }
    download(hub, id).map_err(|failure| match failure {
        Failure::Hub(error) => {
            let endpoint = &hub.endpoint;
            Error::input(format!("{found_nothing}; asked {endpoint}: {error}")).hint(hint)
        }
        Failure::Model(error) => error.context(format!("the model {id}")),
    })
}

/// The model's folder in the cache, if all files are there.
fn cached(hub: &Hub, id: &HubId) -> Option<PathBuf> {
    let dir = hub.snapshot(&repo(id));
    let small = [CONFIG, tokenizer::FILE];
    let whole = small.iter().all(|name| dir.join(name).is_file())
        && weight_files(&dir).is_ok_and(|files| files.iter().all(|file| file.is_file()));
    whole.then_some(dir)
}

/// Downloads what is needed of a model, small files first so that a model that cannot be used costs little.
fn download(hub: &Hub, id: &HubId) -> Result<PathBuf, Failure> {
    let api = hub.api(repo(id))?;
    let listed = api.info()?;
    let has = |name: &str| listed.siblings.iter().any(|file| file.rfilename == name);
    for name in [CONFIG, tokenizer::FILE] {
        if !has(name) {
            return Err(Error::input(format!("it has no {name}"))
                .hint("only Hugging Face folders are fetched; download a .gguf yourself and pass its path")
                .into());
        }
    }
    let beside = tokenizer::BESIDE.into_iter().chain([GENERATION]);
    for name in beside.filter(|name| has(name)) {
        api.get(name)?;
    }
    api.get(tokenizer::FILE)?;
    let config = api.get(CONFIG)?;
    CausalLmConfig::load(&config)?;
    fetch_weights(&api, has)?;
    let dir = config.parent().map(Path::to_owned);
    dir.ok_or_else(|| Error::internal("a downloaded file lies in no folder").into())
}

fn fetch_weights(api: &ApiRepo, has: impl Fn(&str) -> bool) -> Result<(), Failure> {
    if has(WEIGHTS) {
        api.get(WEIGHTS)?;
    } else if has(INDEX) {
        let path = api.get(INDEX)?;
        let text = std::fs::read(&path).map_err(|error| Error::io("read", &path, &error))?;
        for name in shard_names(&text).map_err(|error| error.context(INDEX))? {
            api.get(&name)?;
        }
    } else {
        return Err(
            Error::input(format!("it has neither {WEIGHTS} nor {INDEX}"))
                .hint("only weights in the safetensors format are read")
                .into(),
        );
    }
    Ok(())
}

/// Why there is no model: the hub did not give a file, or the files are not a model that is read.
enum Failure {
    Hub(ApiError),
    Model(Error),
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Hub(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Model(error)
    }
}

#[cfg(test)]
mod tests;
