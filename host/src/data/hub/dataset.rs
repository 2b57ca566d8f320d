//! Data sets of the hub by address: `hf://datasets/ORG/NAME[@REVISION][/FILE, FOLDER or PATTERN]`, as Hugging Face's own
//! file systems write it. What is read lies in the hub's cache, downloaded where it is not there.

use std::fmt;
use std::path::PathBuf;

use hf_hub::{Repo, RepoType};

use super::{Hub, is_word};
use crate::error::{Error, Result};

const SCHEME: &str = "hf://";

/// How many names of files a message lists.
const LISTED: usize = 8;

/// What an address may be, for messages.
const ACCEPTED: &str = "accepted: hf://datasets/ORG/NAME/FILE, a folder in the place of FILE, or one * in its name; @REVISION may stand \
                        behind NAME";

/// Files of one data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    repo: String,
    revision: String,
    /// A file, a folder (the whole data set where it is empty), or a name with one `*` in it.
    inside: String,
}

/// Whether a path is an address of the hub and no path of this machine.
pub fn is_address(path: &str) -> bool {
    path.starts_with(SCHEME)
}

impl Dataset {
    /// The files that an address names.
    ///
    /// # Errors
    /// An address of another form.
    pub fn parse(address: &str) -> Result<Self> {
        let wrong = || Error::input(format!("{address}: no address of a data set; {ACCEPTED}"));
        let rest = address.strip_prefix("hf://datasets/").ok_or_else(wrong)?;
        let mut parts = rest.splitn(3, '/');
        let org = parts.next().unwrap_or_default();
        let name = parts.next().ok_or_else(wrong)?;
        let inside = parts.next().unwrap_or_default().trim_end_matches('/');
        // As in huggingface_hub, the slashes of a revision such as refs/pr/3 are written %2F.
        let (name, revision) = name.split_once('@').unwrap_or((name, "main"));
        let revision = revision.replace("%2F", "/");
        let fits = is_word(org)
            && is_word(name)
            && revision.split('/').all(is_word)
            && inside.matches('*').count() <= 1
            && inside.split('/').all(|part| part != "..");
        fits.then(|| Self {
            repo: format!("{org}/{name}"),
            revision,
            inside: inside.to_owned(),
        })
        .ok_or_else(wrong)
    }

    fn repo(&self) -> Repo {
        Repo::with_revision(self.repo.clone(), RepoType::Dataset, self.revision.clone())
    }

    /// Where its files lie on this machine, in the order of their names, and whether the address names a single one. Only what
    /// `is_data` is taken from a folder. A single file that is cached needs no network; the files of a folder are the hub's
    /// to list.
    ///
    /// # Errors
    /// No network, no such data set, nothing of this name in it.
    pub fn files(&self, hub: &Hub, is_data: impl Fn(&str) -> bool) -> Result<(Vec<PathBuf>, bool)> {
        let here = hub.snapshot(&self.repo()).join(&self.inside);
        if !self.inside.is_empty() && here.is_file() {
            return Ok((vec![here], true));
        }
        let hint = "check the name; private data sets need HF_TOKEN; without a network, download the files elsewhere and name \
                    their folder";
        if hub.offline {
            return Err(Error::input(format!(
                "{self} is no file that {} holds, and HF_HUB_OFFLINE is set",
                hub.cache.display()
            ))
            .hint(hint));
        }
        let failed = |error| {
            let endpoint = &hub.endpoint;
            Error::input(format!("cannot fetch {self}; asked {endpoint}: {error}")).hint(hint)
        };
        let api = hub.api(self.repo()).map_err(failed)?;
        let listed = api.info().map_err(failed)?;
        let names: Vec<String> = listed.siblings.into_iter().map(|it| it.rfilename).collect();
        let (wanted, one) = self.choose(&names, is_data)?;
        let files: Result<Vec<PathBuf>, _> = wanted.iter().map(|name| api.get(name)).collect();
        Ok((files.map_err(failed)?, one))
    }

    /// The files that are meant, of all of the data set's, in order; and whether one is named.
    fn choose(
        &self,
        names: &[String],
        is_data: impl Fn(&str) -> bool,
    ) -> Result<(Vec<String>, bool)> {
        if names.contains(&self.inside) {
            return Ok((vec![self.inside.clone()], true));
        }
        let (before, behind) = match self.inside.split_once('*') {
            Some(parts) => parts,
            None if self.inside.is_empty() => ("", ""),
            None => (&*format!("{}/", self.inside), ""),
        };
        let meant = |name: &&String| {
            name.strip_prefix(before)
                .and_then(|rest| rest.strip_suffix(behind))
                .is_some_and(|star| !star.contains('/'))
                && is_data(name.rsplit('/').next().unwrap_or_default())
        };
        let mut wanted: Vec<String> = names.iter().filter(meant).cloned().collect();
        wanted.sort();
        if !wanted.is_empty() {
            return Ok((wanted, false));
        }
        let data: Vec<&String> = names
            .iter()
            .filter(|name| is_data(name.rsplit('/').next().unwrap_or_default()))
            .collect();
        let mut there: Vec<&str> = data.iter().take(LISTED).map(|name| name.as_str()).collect();
        if data.len() > LISTED {
            there.push("…");
        }
        Err(Error::input(format!(
            "{self}: nothing of this name is read; the data set has {} files that are: {}",
            data.len(),
            there.join(", ")
        ))
        .hint(ACCEPTED))
    }
}

impl fmt::Display for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}datasets/{}", self.repo)?;
        if self.revision != "main" {
            write!(f, "@{}", self.revision)?;
        }
        if !self.inside.is_empty() {
            write!(f, "/{}", self.inside)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
