//! The sections of a configuration. What a training method needs is configured by its own module's struct.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::judge::JudgeConfig;
use super::task::Task;
use crate::data::alignment::AlignmentConfig;
use crate::data::config::DataConfig;
use crate::data::records::PairSource;
use crate::data::template::PromptTemplate;
use crate::device::DeviceConfig;
use crate::error::{Error, Result};
use crate::model::LoraConfig;
use crate::pipeline::checkpoints::CheckpointConfig;
use crate::sandbox::SandboxConfig;
use crate::telemetry::AlarmsConfig;
use crate::train::ppo::PpoConfig;
use crate::train::reward_model::RewardModelConfig;
use crate::train::sampling::SamplingConfig;
use crate::train::sft::SftConfig;

/// A whole run: where the data come from, and how each stage works.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The name of the variant in tables and folders: letters, digits, `-`, `_`, `.`, and the `,` and `=` of a grid's points.
    pub name: String,
    /// What the variant is called in prose; the name where it is empty.
    pub title: String,
    /// The seed from which every random draw of the run follows.
    pub seed: u64,
    /// Threads of the host and its plugins; 0 takes every core.
    pub threads: usize,
    /// Where prompts, demonstrations and edits come from.
    pub task: Task,
    /// What the reward model is trained on: `pairs` (two responses, one preferred) or `edits` (a response and its edit).
    pub preferences: PairSource,
    /// The sandbox's generator; used where `task = "sandbox"`.
    pub sandbox: SandboxConfig,
    /// The user's files and their keys; used where `task = "edit-pairs"` or `task = "preferences"`.
    pub data: Option<DataConfig>,
    /// The text around a prompt: anything that holds `{prompt}` once, `alpaca`, or `chat`, the model's own chat template.
    pub prompt_template: PromptTemplate,
    /// The model that SFT starts from.
    pub model: ModelConfig,
    /// Supervised fine-tuning; its result is the reference and PPO's first policy.
    pub sft: SftConfig,
    /// Preference pairs out of the SFT model's own samples.
    pub pairs: PairsConfig,
    /// Who ranks the sampled pairs (the simulated annotator).
    pub annotator: JudgeConfig,
    /// Who edits the less preferred responses.
    pub editor: EditorConfig,
    /// How edits are aligned with the originals, and which are kept.
    pub alignment: AlignmentConfig,
    /// The reward model's training.
    pub reward_model: RewardModelConfig,
    /// The reward schemes of PPO, added up by weight; each is a channel of its own.
    pub reward: Vec<RewardChoice>,
    /// The advantage estimator.
    pub advantage: PluginChoice,
    /// PPO.
    pub ppo: PpoConfig,
    /// Who compares the policy with the reference.
    pub judge: JudgeConfig,
    /// How policies are evaluated.
    pub evaluation: EvaluationConfig,
    /// Checkpoints while training.
    pub checkpoints: CheckpointConfig,
    /// What is watched while a stage trains: warnings, or gates that stop the run.
    pub alarms: AlarmsConfig,
    /// Plugins beyond the built-in ones.
    pub plugins: PluginsConfig,
    /// Where models live.
    pub device: DeviceConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "unnamed".into(),
            title: String::new(),
            seed: 1,
            threads: 0,
            task: Task::Sandbox,
            preferences: PairSource::Pairs,
            sandbox: SandboxConfig::default(),
            data: None,
            prompt_template: PromptTemplate::default(),
            model: ModelConfig::default(),
            sft: SftConfig::default(),
            pairs: PairsConfig::default(),
            annotator: JudgeConfig::default(),
            editor: EditorConfig::default(),
            alignment: AlignmentConfig::default(),
            reward_model: RewardModelConfig::default(),
            reward: vec![RewardChoice::default()],
            advantage: PluginChoice {
                plugin: "gae".into(),
                options: empty_options(),
            },
            ppo: PpoConfig::default(),
            judge: JudgeConfig::default(),
            evaluation: EvaluationConfig::default(),
            checkpoints: CheckpointConfig::default(),
            alarms: AlarmsConfig::default(),
            plugins: PluginsConfig::default(),
            device: DeviceConfig::default(),
        }
    }
}

/// The model that SFT starts from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// A model: a Hugging Face folder (config.json, model.safetensors, tokenizer.json), a .gguf file, or a hub id such as
    /// org/name or org/name@revision. The sandbox makes a fresh model of the shape in `sandbox.model` where this is absent.
    pub path: Option<PathBuf>,
    /// Trains adapters (`rank`, `alpha`, `targets`) on frozen weights instead of the weights: policy, reference, reward
    /// models and critic then share one copy of the weights in memory. All weights are trained where this is absent.
    pub lora: Option<LoraConfig>,
    /// Saves a model and its adapter as one (a plain Hugging Face folder) instead of the adapter alone (PEFT's files). The
    /// stages after it then start fresh adapters, each on weights of their own.
    pub merge_adapters: bool,
    /// Keeps the input of every layer alone and computes the other activations again on the way back: less memory for
    /// about a third more time; results are the same to the bit.
    pub recompute: bool,
}

/// Options of a plugin when nothing is set.
pub(super) fn empty_options() -> serde_json::Value {
    serde_json::Value::Object(serde_json::Map::new())
}

/// A plugin by name, and its options (`finegrain plugin info NAME` lists them).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PluginChoice {
    /// The plugin's name.
    #[serde(rename = "use")]
    pub plugin: String,
    /// The plugin's own options.
    #[serde(default = "empty_options")]
    pub options: serde_json::Value,
}

/// A reward scheme, its options and its weight in the sum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RewardChoice {
    /// The reward scheme's name.
    #[serde(rename = "use")]
    pub plugin: String,
    /// The scheme's own options.
    #[serde(default = "empty_options")]
    pub options: serde_json::Value,
    /// What the scheme's token rewards are multiplied by.
    #[serde(default = "one")]
    pub weight: f64,
}

fn one() -> f64 {
    1.0
}

impl Default for RewardChoice {
    fn default() -> Self {
        Self {
            plugin: "sequence".into(),
            options: empty_options(),
            weight: 1.0,
        }
    }
}

/// Preference pairs from the SFT model's own samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PairsConfig {
    /// Pairs of responses to each prompt, each pair sampled anew. Held-out prompts give one, so that the test's rows are
    /// independent.
    #[schemars(range(min = 1))]
    pub per_prompt: usize,
    /// How the responses are sampled.
    pub sampling: SamplingConfig,
    /// The part of labels that are flipped, chosen at random: AlpacaFarm replaces half of its labels by a fair coin,
    /// which flips a quarter (`p_label_flip = 0.25`).
    #[schemars(range(min = 0.0, max = 0.5))]
    pub label_noise: f64,
    /// The part of the pairs that is kept for testing reward models, in [0, 1).
    #[schemars(range(min = 0.0, max = 0.9))]
    pub held_out: f64,
}

impl Default for PairsConfig {
    fn default() -> Self {
        Self {
            per_prompt: 1,
            sampling: SamplingConfig::default(),
            label_noise: 0.25,
            held_out: 0.2,
        }
    }
}

/// The editor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EditorConfig {
    /// The editor plugin's name.
    #[serde(rename = "use")]
    pub plugin: String,
    /// The plugin's own options.
    pub options: serde_json::Value,
    /// The largest share of responses on which the editor may fail. Above it the run ends; what was answered is kept, and
    /// the same command asks again for what failed.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub max_failed: f64,
}

impl Default for EditorConfig {
    fn default() -> Self {
        Self {
            plugin: "rubric".into(),
            options: empty_options(),
            max_failed: 0.05,
        }
    }
}

/// How policies are evaluated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluationConfig {
    /// How responses are sampled for the final comparison (AlpacaFarm: temperature 0.7, top-p 0.9).
    pub sampling: SamplingConfig,
    /// PPO steps between evaluations during training; 0 evaluates at the start and the end only.
    pub every: u64,
    /// Evaluation prompts used during training; the final comparison takes all. They come from the prompts of the
    /// reward stage, so that choosing a checkpoint does not see the final evaluation's prompts.
    #[schemars(range(min = 1))]
    pub prompts_while_training: usize,
    /// Resamples of every bootstrap.
    #[schemars(range(min = 100, max = 100_000))]
    pub bootstrap_samples: usize,
    /// Of so many of the final evaluation's prompts, the responses are kept token by token: reward, advantage, KL and value,
    /// for `report` and `inspect` (docs/report.md); 0 keeps none.
    pub token_views: usize,
    /// Which checkpoint is evaluated: the `last`, or the `best` by the judge during training, as AlpacaFarm does.
    pub checkpoint: CheckpointChoice,
}

/// Which checkpoint of a PPO run is the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CheckpointChoice {
    /// The policy after the last step.
    Last,
    /// The policy with the highest win rate while training.
    Best,
}

impl Default for EvaluationConfig {
    fn default() -> Self {
        Self {
            sampling: SamplingConfig {
                temperature: 0.7,
                top_p: 0.9,
                ..SamplingConfig::default()
            },
            every: 5,
            prompts_while_training: 128,
            bootstrap_samples: 2000,
            token_views: 24,
            checkpoint: CheckpointChoice::Last,
        }
    }
}

/// Plugins beyond the built-in ones.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PluginsConfig {
    /// Shared libraries, or folders of them.
    pub paths: Vec<PathBuf>,
    /// If present, only libraries whose SHA-256 (hexadecimal) is listed are loaded.
    pub allow: Option<Vec<String>>,
}

impl Config {
    /// The title, or the name where there is none.
    pub fn display_title(&self) -> &str {
        if self.title.is_empty() {
            &self.name
        } else {
            &self.title
        }
    }

    /// The user's files, which every task but the sandbox needs.
    pub fn files(&self) -> Result<&DataConfig> {
        self.data.as_ref().ok_or_else(|| {
            let (task, base) = match self.task {
                Task::Preferences => ("preferences", "configs/preferences/base.toml"),
                _ => ("edit-pairs", "configs/edit-pairs/base.toml"),
            };
            Error::input(format!("data: task {task:?} needs a section [data]"))
                .hint(format!("{base} shows one"))
        })
    }

    /// The judges that the run asks: the final one, and the annotator where samples are ranked.
    pub fn judges(&self) -> impl Iterator<Item = (&'static str, &JudgeConfig)> {
        let annotator = self
            .task
            .ranks_samples()
            .then_some(("annotator", &self.annotator));
        [("judge", &self.judge)].into_iter().chain(annotator)
    }

    /// Refuses what no type can: names, ranges, and sections that contradict each other.
    pub fn validate(&self) -> Result<()> {
        let legal = |c: char| c.is_ascii_alphanumeric() || "-_.,=".contains(c);
        if self.name.is_empty() || self.name.starts_with('.') || !self.name.chars().all(legal) {
            return Err(Error::input(format!("name: {:?} is not a name", self.name))
                .hint("letters, digits, `-`, `_`, `.`, `,` and `=`, and no `.` in front"));
        }
        if self.pairs.per_prompt == 0 {
            return Err(Error::input(
                "pairs.per_prompt: 0 is not accepted; at least 1 is",
            ));
        }
        in_range("pairs.label_noise", self.pairs.label_noise, 0.0, 0.5)?;
        in_range("pairs.held_out", self.pairs.held_out, 0.0, 0.9)?;
        in_range(
            "alignment.max_changed",
            self.alignment.max_changed,
            0.0,
            1.0,
        )?;
        in_range("editor.max_failed", self.editor.max_failed, 0.0, 1.0)?;
        for (key, judge) in self.judges() {
            judge.validate(key)?;
        }
        if !(100..=100_000).contains(&self.evaluation.bootstrap_samples) {
            return Err(Error::input(format!(
                "evaluation.bootstrap_samples: {} is outside 100 to 100000",
                self.evaluation.bootstrap_samples
            )));
        }
        if self.evaluation.prompts_while_training == 0 {
            return Err(Error::input(
                "evaluation.prompts_while_training: 0 prompts judge nothing",
            ));
        }
        if self.reward.is_empty() {
            return Err(Error::input("reward: no reward scheme is named")
                .hint("[[reward]] with use = \"sequence\" or use = \"token-average\""));
        }
        if let Some(at) = self
            .reward
            .iter()
            .position(|choice| !choice.weight.is_finite())
        {
            return Err(Error::input(format!(
                "reward.{at}.weight: {} is not finite",
                self.reward[at].weight
            )));
        }
        let task = match self.task {
            Task::Sandbox => None,
            Task::EditPairs => {
                self.files()?.check_edit_pairs()?;
                Some("edit-pairs")
            }
            Task::Preferences => {
                self.files()?.check_preferences()?;
                self.knows_no_rubric()?;
                Some("preferences")
            }
        };
        if let (Some(task), None) = (task, &self.model.path) {
            return Err(
                Error::input(format!("model.path: task {task:?} needs a model")).hint(
                    "--set model.path=MODEL (a Hugging Face folder, a .gguf file or a hub id)",
                ),
            );
        }
        for (key, judge) in self.judges() {
            if judge.asks_reward_model() && self.task == Task::Sandbox {
                return Err(Error::input(format!(
                    "{key}.use: \"reward-model\" is trained on edit pairs, and task \"sandbox\" has none of them"
                )));
            }
        }
        if let Some(lora) = &self.model.lora {
            lora.validate("model.lora")?;
        }
        self.pairs.sampling.validate("pairs.sampling")?;
        self.evaluation.sampling.validate("evaluation.sampling")?;
        self.checkpoints.validate()?;
        self.sandbox.validate()?;
        self.sft.validate()?;
        self.alarms.validate()?;
        self.reward_model.validate()?;
        self.ppo.validate()
    }

    /// Refuses the sandbox's own editor and judge, which are the defaults, for texts that they know nothing of.
    fn knows_no_rubric(&self) -> Result<()> {
        let judges = self.judge.members();
        let editor = (
            "editor.use",
            self.editor.plugin.as_str(),
            "human, with a file of edits",
        );
        let judges = judges.iter().map(|judge| {
            (
                if self.judge.is_panel() {
                    "judge.panel"
                } else {
                    "judge.use"
                },
                judge.plugin,
                "reward-model, with a share in data.splits.judge",
            )
        });
        for (key, plugin, others) in std::iter::once(editor).chain(judges) {
            if plugin == RUBRIC {
                return Err(Error::input(format!(
                    "{key}: \"{RUBRIC}\" knows the sandbox's language alone; accepted with task \"preferences\": any other plugin"
                ))
                .hint(format!("`finegrain plugin list` has them; {others}, needs none from elsewhere")));
            }
        }
        Ok(())
    }
}

/// The editor and the judge of the sandbox's language.
const RUBRIC: &str = "rubric";

pub(super) fn in_range(key: &str, value: f64, min: f64, max: f64) -> Result<()> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(Error::input(format!(
        "{key}: {value} is outside {min} to {max}"
    )))
}
