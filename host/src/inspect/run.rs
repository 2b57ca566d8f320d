//! A run's folder as values, and what else a folder may be.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::metrics::{self, Curve};
use crate::data::asked::Asked;
use crate::data::jsonl;
use crate::error::{Error, Result};
use crate::pipeline::run_dir::{ABOUT, SAMPLES, metrics_file};
use crate::pipeline::stages::evaluate::JudgedSample;
use crate::pipeline::stages::token_views::{TOKENS, TokenView};

/// `run.json`, as far as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// Name of the configuration.
    pub name: String,
    /// The seed.
    pub seed: u64,
    /// The plugins that were used.
    pub plugins: Vec<Plugin>,
    /// The stages in their order.
    pub stages: Vec<Stage>,
}

/// A plugin of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plugin {
    /// What it decides.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// A stage of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Its name.
    pub stage: String,
    /// The hash of everything that determined it.
    pub hash: String,
    /// Wall time when it was computed.
    pub wall_seconds: f64,
    /// Computed by this run, not found in the store.
    #[serde(default)]
    pub computed_in_this_run: bool,
    /// What servers were asked for it, by plugin.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asked: Vec<Asked>,
}

/// A finished run.
#[derive(Clone, Debug)]
pub struct Run {
    /// What it consists of.
    pub about: About,
    /// All metrics, stage by stage.
    pub curves: Vec<Curve>,
    /// The evaluation's responses; `None` where there is no such file.
    pub samples: Option<Vec<JudgedSample>>,
    dir: PathBuf,
}

/// What a folder is.
#[derive(Clone, Debug)]
pub enum Folder {
    /// A run's.
    Run(Box<Run>),
    /// A comparison's: the run directories in it.
    Comparison(Vec<PathBuf>),
}

/// Reads a folder.
///
/// # Errors
/// A folder that is neither, or a damaged file in it.
pub fn open(dir: &Path) -> Result<Folder> {
    if dir.join(ABOUT).is_file() {
        return Run::read(dir).map(|run| Folder::Run(Box::new(run)));
    }
    if !dir.is_dir() {
        return Err(Error::input(format!("{} is not a directory", dir.display()))
            .hint("name a directory that `finegrain run` or `finegrain compare` has written, such as runs/NAME-seed1"));
    }
    let entries = fs::read_dir(dir).map_err(|error| Error::io("read", dir, &error))?;
    let mut runs: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join(ABOUT).is_file())
        .collect();
    runs.sort();
    if runs.is_empty() {
        return Err(Error::input(format!(
            "{} is not a run directory: it has no run.json",
            dir.display()
        ))
        .hint("run.json is written when a run is done; name a directory that `finegrain run` or `finegrain compare` has finished"));
    }
    Ok(Folder::Comparison(runs))
}

impl Run {
    fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(ABOUT);
        let text = fs::read(&path).map_err(|error| Error::io("read", &path, &error))?;
        let about: About = serde_json::from_slice(&text)
            .map_err(|error| Error::input(format!("{} is damaged: {error}", path.display())))?;
        let mut curves = Vec::new();
        for stage in &about.stages {
            let file = metrics_file(dir, &stage.stage, &stage.hash);
            if file.is_file() {
                curves.extend(metrics::read(&file, &stage.stage)?);
            }
        }
        let samples = dir.join(SAMPLES);
        let samples = samples
            .is_file()
            .then(|| jsonl::read(&samples))
            .transpose()?;
        Ok(Self {
            about,
            curves,
            samples,
            dir: dir.to_path_buf(),
        })
    }

    /// The token views; `None` where the run has none.
    ///
    /// # Errors
    /// A damaged file.
    pub fn tokens(&self) -> Result<Option<Vec<TokenView>>> {
        let path = self.dir.join(TOKENS);
        path.is_file().then(|| jsonl::read(&path)).transpose()
    }
}
