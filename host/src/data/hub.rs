//! The Hugging Face hub: where its cache lies, and how it is asked. What a model needs stands in
//! `model/checkpoint/hub.rs`, what a data set needs in [`dataset`].
//!
//! The cache is the one that Hugging Face's own tools use. Environment: `HF_HUB_CACHE` or `HF_HOME` (where the cache lies),
//! `HF_TOKEN`, `HF_ENDPOINT`, `HF_HUB_OFFLINE=1`.

pub mod dataset;
#[cfg(test)]
pub(crate) mod testing;

use std::env;
use std::fs;
use std::path::PathBuf;

use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo};

use crate::error::{Error, Result};

const ENDPOINT: &str = "https://huggingface.co";

/// A hub and the folder that caches it.
#[derive(Clone, Debug)]
pub struct Hub {
    /// The cache of Hugging Face's own tools, a folder for every repository.
    pub cache: PathBuf,
    /// Where the hub is asked.
    pub endpoint: String,
    /// What shows to the hub who asks.
    token: Option<String>,
    /// Whether the hub must not be asked.
    pub offline: bool,
}

impl Hub {
    /// The hub and the cache that the environment names.
    ///
    /// # Errors
    /// There is no folder for the cache.
    pub fn from_env() -> Result<Self> {
        let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let home = || {
            let home = variable("HF_HOME").map(PathBuf::from);
            home.or_else(|| Some(env::home_dir()?.join(".cache/huggingface")))
        };
        let cache = variable("HF_HUB_CACHE")
            .map(PathBuf::from)
            .or_else(|| Some(home()?.join("hub")))
            .ok_or_else(|| {
                Error::input("no folder for the hub's cache: this user has no home folder")
                    .hint("set HF_HOME to a folder")
            })?;
        Ok(Self {
            cache: std::path::absolute(&cache)
                .map_err(|error| Error::io("find", &cache, &error))?,
            endpoint: variable("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned()),
            token: variable("HF_TOKEN"),
            // The words that Hugging Face's own tools take for yes.
            offline: variable("HF_HUB_OFFLINE").is_some_and(|value| {
                ["1", "on", "yes", "true"].contains(&value.to_ascii_lowercase().as_str())
            }),
        })
    }

    /// A repository of the hub, to be asked.
    pub(crate) fn api(&self, repo: Repo) -> Result<ApiRepo, ApiError> {
        let mut builder = ApiBuilder::from_cache(Cache::new(self.cache.clone()))
            .with_endpoint(self.endpoint.clone());
        if let Some(token) = &self.token {
            builder = builder.with_token(Some(token.clone()));
        }
        Ok(builder.build()?.repo(repo))
    }

    /// Where the cache has a repository's files, those that are there. A revision is a reference to a commit, or the commit.
    pub(crate) fn snapshot(&self, repo: &Repo) -> PathBuf {
        let references = self.cache.join(repo.folder_name()).join("refs");
        let commit = fs::read_to_string(references.join(repo.revision())).map_or_else(
            |_| repo.revision().to_owned(),
            |commit| commit.trim().to_owned(),
        );
        Cache::new(self.cache.clone())
            .repo(repo.clone())
            .pointer_path(&commit)
    }
}

/// Whether a text is one part of a name on the hub: an organisation, a repository, a part of a revision.
pub(crate) fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}
