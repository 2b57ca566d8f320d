//! The data stage: prompts, demonstrations and, out of files, pairs; in splits that do not overlap.

mod asked;
mod edit_pairs;
mod fit;
mod preferences;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{DEMONSTRATIONS, EVAL_PROMPTS, EVAL_REFERENCES, PPO_PROMPTS, REWARD_PROMPTS};
use crate::builtins;
use crate::config::{Config, Task};
use crate::data::config::DataConfig;
use crate::data::jsonl;
use crate::data::records::SetAside;
use crate::data::rows;
use crate::error::{Error, Result};
use crate::pipeline::Session;
use crate::pipeline::atomic::write_atomic;
use crate::pipeline::context::StageContext;
use crate::pipeline::store::{Artifact, StageKey};
use crate::sandbox::{self, ModelShape, SandboxConfig};
pub use asked::AskedRows;
use fit::Fit;

/// What the stage says of the user's files.
const REMARKS: &str = "remarks.json";

/// What a user should know of what was read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Remarks {
    /// What files were taken for and what they gave: said once, when they are read.
    pub said: Vec<String>,
    /// What makes results doubtful: sentences that stand beside every result.
    pub warnings: Vec<String>,
}

impl Remarks {
    /// Those of a data stage; none of the sandbox's.
    ///
    /// # Errors
    /// A file that is there and cannot be read.
    pub fn of(data: &Artifact) -> Result<Self> {
        let path = data.file(REMARKS);
        if !path.is_file() {
            return Ok(Self::default());
        }
        let bytes = std::fs::read(&path).map_err(|error| Error::io("read", &path, &error))?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Error::input(format!("{} is damaged: {error}", path.display())))
    }

    fn write(&self, context: &StageContext<'_>) -> Result<()> {
        for warning in &self.warnings {
            context.observer.warn(warning);
        }
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| Error::internal(format!("remarks do not serialise: {error}")))?;
        write_atomic(&context.dir.join(REMARKS), &text)
    }
}

/// The data of a configuration.
pub fn obtain(session: &Session<'_>, config: &Config) -> Result<Artifact> {
    let data = match config.task {
        Task::Sandbox => from_sandbox(session, config)?,
        Task::EditPairs => {
            let data = config.files()?;
            session.stage(config, "edit pairs", key(config, data)?, |context| {
                edit_pairs::write(context, data, &edit_pairs::usable(config, data)?)
            })?
        }
        Task::Preferences => {
            let data = config.files()?;
            session.stage(config, "preferences", key(config, data)?, |context| {
                preferences::write(context, &preferences::usable(config, data)?)
            })?
        }
    };
    if data.fresh {
        for text in Remarks::of(&data)?.said {
            session.say(&text);
        }
    }
    Ok(data)
}

fn from_sandbox(session: &Session<'_>, config: &Config) -> Result<Artifact> {
    // The model's shape is the SFT stage's business.
    let corpus = SandboxConfig {
        model: ModelShape::default(),
        ..config.sandbox.clone()
    };
    // The language and its defects are code, which decides the data as much as the numbers do.
    let rubric = builtins::sources("finegrain-rubric");
    let key = StageKey::new(
        "data",
        json!({ "sandbox": corpus, "rubric": rubric, "seed": config.seed }),
    );
    session.stage(config, "sandbox data", key, |context| {
        let corpus = sandbox::generate(&config.sandbox, &context.stream)?;
        jsonl::write(&context.dir.join(DEMONSTRATIONS), &corpus.demonstrations)?;
        jsonl::write(&context.dir.join(REWARD_PROMPTS), &corpus.reward_prompts)?;
        jsonl::write(&context.dir.join(PPO_PROMPTS), &corpus.ppo_prompts)?;
        jsonl::write(&context.dir.join(EVAL_PROMPTS), &corpus.eval_prompts)
    })
}

/// What decides what the user's files give. No seed: the splits follow from ids and prompts, the same for every seed.
fn key(config: &Config, data: &DataConfig) -> Result<StageKey> {
    // A path says nothing about the content; the hashes do.
    let mapping = DataConfig {
        path: PathBuf::new(),
        demonstrations: data.demonstrations.mapping(),
        preferences: data.preferences.mapping(),
        prompts: data.prompts.mapping(),
        evaluation: data.evaluation.mapping(),
        ..data.clone()
    };
    let files = if config.task == Task::EditPairs {
        rows::fingerprint(&data.path)?
    } else {
        let mut files = serde_json::Map::new();
        for (table, file) in data.files() {
            if file.is_there() {
                files.insert(table.to_owned(), rows::fingerprint(&file.path)?);
            }
        }
        files.into()
    };
    let turns = config.prompt_template.takes_turns();
    Ok(StageKey::new(
        "data",
        json!({
            "task": config.task,
            "file": files,
            "mapping": mapping,
            "turns": turns,
            "fit": Fit::key(config)?,
        }),
    ))
}

/// The key of a data stage that reads files; `None` for data that are made.
pub fn key_of_files(config: &Config) -> Result<Option<StageKey>> {
    match config.task {
        Task::Sandbox => Ok(None),
        Task::EditPairs | Task::Preferences => key(config, config.files()?).map(Some),
    }
}

/// The rows that the data stage would set aside of files; nothing is written, and no weights are read.
///
/// # Errors
/// Those of the stage.
pub fn foresee(config: &Config) -> Result<Vec<SetAside>> {
    match config.task {
        Task::Sandbox => Ok(Vec::new()),
        Task::EditPairs => Ok(edit_pairs::usable(config, config.files()?)?.set_aside),
        Task::Preferences => Ok(preferences::usable(config, config.files()?)?.set_aside),
    }
}

/// Who wrote what policies are compared with, for sentences: the SFT model, or whoever wrote the outputs of a file.
pub fn reference(config: &Config, data: &Artifact) -> String {
    let evaluation = config.data.as_ref().map(|data| &data.evaluation);
    match evaluation {
        Some(file) if data.file(EVAL_REFERENCES).is_file() => {
            if file.title.is_empty() {
                format!("the outputs of {}", file.path.display())
            } else {
                file.title.clone()
            }
        }
        _ => "the SFT model".to_owned(),
    }
}
